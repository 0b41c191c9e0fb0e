import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { hashCommand, hashFile, hashJson, hashOutputs } from './hash.ts'

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url')

test('arguments have one hash however their members are ordered, and none where they have no JSON', (t) => {
  t.is(hashJson({ b: [1, 'ü'], a: null }), sha256('{"a":null,"b":[1,"ü"]}'))
  t.is(hashJson({ a: null, b: [1, 'ü'] }), hashJson({ b: [1, 'ü'], a: null }))
  t.is(hashJson(null), sha256('null'))
  for (const none of [Number.NaN, () => {}, 1n]) t.throws(() => hashJson(none), { instanceOf: Error })
})

test('a command’s hash tells its words apart', (t) => {
  t.is(hashCommand(['make', 'a b']), sha256('["make","a b"]'))
  t.not(hashCommand(['make', 'a b']), hashCommand(['make', 'a', 'b']))
})

test('a file is named and hashed as it stands; what is none is told', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-hash-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [file, missing] = [join(folder, 'in.txt'), join(folder, 'none')]
  writeFileSync(file, 'in')
  t.deepEqual(await hashFile(file), { name: file, sha256: sha256('in'), bytes: 2 })
  await t.throwsAsync(hashFile(missing), { code: 'input_unreadable' })
  await t.throwsAsync(hashFile(folder), { code: 'input_unreadable' })
  const { files, missing: told } = await hashOutputs([file, missing])
  t.deepEqual([files.length, told], [1, [missing]])
  const late = await hashOutputs([file], AbortSignal.abort())
  t.deepEqual(late, { files: [], missing: [], unread: [file] })
})
