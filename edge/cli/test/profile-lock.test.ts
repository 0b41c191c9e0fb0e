import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { edgePaths, readEdgeConfig, tryLock } from '@lenserfight/daemon/client'
import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import type { CodedError } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { holdProfile } from '../src/owner/profile-lock.ts'

const lfFile = fileURLToPath(new URL('../bin/lf', import.meta.url))
const lockModule = new URL('../../daemon/src/instance-lock.ts', import.meta.url)

const newContext = (t: ExecutionContext) => {
  const home = mkdtempSync(join(tmpdir(), 'lf-lock-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  return { home, edge: readEdgeConfig({ LENSERFIGHT_HOME: home }) }
}
const lockFileOf = (home: string): string => edgePaths({ LENSERFIGHT_HOME: home }).profileLockFile

/** Another process that holds the lock until it is killed. */
const holder = async (t: ExecutionContext, file: string): Promise<ChildProcess> => {
  // It keeps nothing of what it was given, and tidies up.
  const script = `const { tryLock } = await import(${JSON.stringify(lockModule.href)})
    if (!tryLock(${JSON.stringify(file)})) process.exit(1)
    for (let times = 0; times < 2; times += 1) await new Promise((done) => setTimeout(done, 50)).then(globalThis.gc)
    console.log('held'); setInterval(() => {}, 1e6)`
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await new Promise((resolve, reject) => {
    child.stdout?.once('data', resolve)
    child.once('close', () => reject(new Error('the lock was not to be had')))
  })
  return child
}

test('of two that sign in or out at once, the second begins when the first has ended', async (t) => {
  const { edge } = newContext(t)
  const said: string[] = []
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  const first = holdProfile({ edge }, async () => {
    said.push('first begins')
    await gate
    said.push('first ends')
  })
  const second = holdProfile({ edge }, async () => said.push('second'))
  open()
  await Promise.all([first, second])
  t.deepEqual(said, ['first begins', 'first ends', 'second'])
})

test('who waits too long is told so, and a failure gives the lock back', async (t) => {
  const { home, edge } = newContext(t)
  await t.throwsAsync(
    holdProfile({ edge }, async () => {
      const busy = await t.throwsAsync<CodedError>(holdProfile({ edge }, async () => {}, 100))
      t.is(busy?.code, 'profile_busy')
      throw new Error('this one fails')
    }),
    { message: 'this one fails' },
  )
  const unlock = tryLock(lockFileOf(home))
  t.truthy(unlock)
  unlock?.()
})

test('a lock is held until it is given up, whatever the garbage collector does', async (t) => {
  const { home } = newContext(t)
  await holder(t, lockFileOf(home))
  t.is(tryLock(lockFileOf(home)), undefined)
})

test('lf login and lf logout wait for another that signs in, and the lock of one that was killed bars nobody', async (t) => {
  const { home } = newContext(t)
  const other = await holder(t, lockFileOf(home))
  const env = { PATH: process.env.PATH, LENSERFIGHT_HOME: home, LF_GATEWAY_KEY_FILE_FALLBACK: '1' }
  const run = (...words: string[]): ChildProcess => spawn(lfFile, words, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = (child: ChildProcess): Promise<{ code: number | null; told: string }> => {
    let told = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      told += text
    })
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, told })))
  }
  const gateway = join(home, 'gateway.json')
  const root_key = encodeKey(generateKeyPair().publicKey)
  writeFileSync(gateway, JSON.stringify({ url: 'nats://127.0.0.1:9', gateway_id: newUuidV7(), root_key }))
  const login = run('login', '--gateway', gateway, '--nonce')
  for (const refused of await Promise.all([ended(run('logout')), ended(login)])) {
    t.is(refused.code, 1)
    t.regex(refused.told, /^(WARNING: .*\n)?profile_busy: .*try again\.\n$/)
  }
  const waiting = ended(run('logout'))
  const gone = new Promise((resolve) => other.once('close', resolve))
  other.kill('SIGKILL')
  await gone
  t.is((await waiting).code, 0)
})
