import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey } from '@lenserfight/envelope'
import test from 'ava'
import { ensureKeyPair, openKeychain, readKeyPair, writePrivateFile } from './index.ts'

const modeOf = (path: string): number => lstatSync(path).mode & 0o777
const temporary = (): string => mkdtempSync(join(tmpdir(), 'lf-keys-'))
const quiet = { fileFallback: '1', warn: () => {} }

test('without an OS keychain and without the fallback nothing keeps keys', async (t) => {
  if (process.platform !== 'linux') return t.pass('elsewhere there is always one')
  // No session in which one could be found, whatever runs on this machine.
  const env = { PATH: '', HOME: '/nonexistent' }
  for (const fileFallback of [undefined, '', '0', 'true']) {
    await t.throwsAsync(openKeychain({ fileFallback, folder: temporary(), warn: () => t.fail(), env }), {
      code: 'keychain_unavailable',
    })
  }
})

test('the file fallback warns each time it is opened', async (t) => {
  const lines: string[] = []
  const options = { fileFallback: '1', folder: join(temporary(), 'keys'), warn: (line: string) => lines.push(line) }
  await openKeychain(options)
  await openKeychain(options)
  t.is(lines.length, 2)
  t.true(lines.every((line) => line.startsWith('WARNING: LF_GATEWAY_KEY_FILE_FALLBACK=1')))
})

test('CO-3: the keys folder is made 0700 and its files 0600, whatever the umask', async (t) => {
  const folder = join(temporary(), 'deep', 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  await keychain.set('device-1', 'first')
  await keychain.set('device-1', 'second')
  t.is(modeOf(folder), 0o700)
  t.is(modeOf(join(folder, 'device-1.key')), 0o600)
  t.is(await keychain.get('device-1'), 'second')
  t.deepEqual(readdirSync(folder), ['device-1.key'])
  await keychain.delete('device-1')
  await keychain.delete('device-1')
  t.is(await keychain.get('device-1'), undefined)
})

test('a key half written by a process that was killed is gone with the next that writes or deletes it', async (t) => {
  const folder = join(temporary(), 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  const leave = () => writeFileSync(join(folder, 'device-1.key.0a1b2c3d4e5f.tmp'), 'half a key', { mode: 0o600 })
  leave()
  await keychain.set('device-1', 'whole')
  t.deepEqual(readdirSync(folder), ['device-1.key'])
  leave()
  writeFileSync(join(folder, 'device-10.key.0a1b2c3d4e5f.tmp'), 'of another', { mode: 0o600 })
  await keychain.delete('device-1')
  t.deepEqual(readdirSync(folder), ['device-10.key.0a1b2c3d4e5f.tmp'])
})

test('CO-3: a folder, a key or a link that others can reach is refused', async (t) => {
  const folder = join(temporary(), 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  await keychain.set('device-1', 'secret')
  chmodSync(join(folder, 'device-1.key'), 0o640)
  await t.throwsAsync(keychain.get('device-1'), { code: 'insecure_permissions' })

  const elsewhere = join(temporary(), 'elsewhere')
  writeFileSync(elsewhere, 'x', { mode: 0o600 })
  symlinkSync(elsewhere, join(folder, 'device-2.key'))
  await t.throwsAsync(keychain.get('device-2'), { code: 'insecure_permissions' })

  mkdirSync(join(folder, 'device-3.key'))
  await t.throwsAsync(keychain.get('device-3'), { code: 'insecure_permissions' })

  chmodSync(folder, 0o750)
  await t.throwsAsync(keychain.set('device-4', 'secret'), { code: 'insecure_permissions' })
  await t.throwsAsync(openKeychain({ ...quiet, folder }), { code: 'insecure_permissions' })
})

test('CO-3: a file of another user is refused', async (t) => {
  if (process.getuid?.() !== 0) return t.pass('only root can make one')
  const folder = join(temporary(), 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  await keychain.set('device-1', 'secret')
  const { chownSync } = await import('node:fs')
  chownSync(join(folder, 'device-1.key'), 65534, 65534)
  await t.throwsAsync(keychain.get('device-1'), { code: 'insecure_permissions' })
  chownSync(folder, 65534, 65534)
  await t.throwsAsync(openKeychain({ ...quiet, folder }), { code: 'insecure_permissions' })
})

test('a name never leaves the folder', async (t) => {
  const keychain = await openKeychain({ ...quiet, folder: join(temporary(), 'keys') })
  for (const name of ['', '../x', 'a/b', 'A', '-a', 'a.b', 'a'.repeat(129)]) {
    await t.throwsAsync(keychain.get(name), { instanceOf: TypeError })
  }
})

test('a key pair is made once and read again', async (t) => {
  const folder = join(temporary(), 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  await t.throwsAsync(readKeyPair(keychain, 'device-1'), { code: 'key_missing' })
  const made = await ensureKeyPair(keychain, 'device-1')
  for (const again of [await ensureKeyPair(keychain, 'device-1'), await readKeyPair(keychain, 'device-1')]) {
    t.is(encodeKey(again.privateKey), encodeKey(made.privateKey))
    t.is(encodeKey(again.publicKey), encodeKey(made.publicKey))
  }
  t.is(readFileSync(join(folder, 'device-1.key'), 'utf8'), `${encodeKey(made.privateKey)}\n`)
})

test('SH-1: what is no key is refused without being quoted', async (t) => {
  const keychain = await openKeychain({ ...quiet, folder: join(temporary(), 'keys') })
  await keychain.set('device-1', 'almost-a-key')
  const error = await t.throwsAsync(readKeyPair(keychain, 'device-1'), { code: 'key_missing' })
  t.false(`${error?.stack} ${String(error?.cause)}`.includes('almost'))
})

test('a file that cannot be replaced leaves the one before', async (t) => {
  const folder = join(temporary(), 'keys')
  const keychain = await openKeychain({ ...quiet, folder })
  await keychain.set('device-1', 'secret')
  t.throws(() => writePrivateFile(join(folder, 'missing', 'x'), 'text'), { code: 'state_unwritable' })
  t.is(await keychain.get('device-1'), 'secret')
})
