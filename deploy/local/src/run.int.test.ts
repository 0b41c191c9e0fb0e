import { spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { allGone, eventually, exitOf, ownRun, ownTemporary, startStackProgram } from './_support.ts'
import type { RunRecord } from './cleanup.mjs'
import { readRecord, recordPath } from './cleanup.mjs'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { writePrivateJson } from './folders.ts'
import { ensureNatsServer } from './nats-server.ts'
import { identify, isRunning, startOf } from './process-identity.mjs'
import { cleanDeadRun, cleanDeadRuns, openRun } from './run.ts'

const isRoot = process.getuid?.() === 0

test('SIGKILL of the parent leaves no process and no folder within 5 s', async (t) => {
  const stack = await startStackProgram(ownTemporary(t))
  t.false(allGone(stack.pids))
  stack.child.kill('SIGKILL')
  t.true(await eventually(() => allGone(stack.pids)))
  t.true(await eventually(() => !existsSync(stack.folder)))
})

test('Ctrl-C ends everything in order, status 0', async (t) => {
  const dir = ownTemporary(t)
  const stack = await startStackProgram(dir)
  stack.child.kill('SIGINT')
  t.deepEqual(await exitOf(stack.child), { code: 0, signal: null })
  t.true(allGone(stack.pids))
  t.false(existsSync(stack.folder))
  t.false(existsSync(recordPath(dir)))
})

test('one Ctrl-C that arrives three times is one; a second one exits 1 and still leaves nothing', async (t) => {
  const stack = await startStackProgram(ownTemporary(t))
  // Hold the database, so that the orderly stop takes its time.
  const [postgres = 0] = stack.pids
  process.kill(postgres, 'SIGSTOP')
  for (let i = 0; i < 3; i++) stack.child.kill('SIGINT')
  // Longer than what counts as the same one, by much: a busy machine may deliver them late.
  await new Promise((done) => setTimeout(done, 2000))
  t.is(stack.child.exitCode, null)
  stack.child.kill('SIGINT')
  t.deepEqual(await exitOf(stack.child), { code: 1, signal: null })
  t.true(await eventually(() => allGone(stack.pids)))
})

test('the next start cleans what an earlier run left whose reaper died too', async (t) => {
  const dir = ownTemporary(t)
  const left = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })
  const owner = spawn('true', { stdio: 'ignore' })
  const ownerIdentity = { pid: owner.pid as number, start: startOf(owner.pid as number) ?? 'over' }
  await exitOf(owner)
  const folder = join(dir, 'scratch')
  mkdirSync(folder)
  const record: RunRecord = {
    id: 'earlier',
    owner: ownerIdentity,
    folders: [folder],
    processes: [
      { name: 'left', signal: 'SIGTERM', ...(identify(left.pid as number) as { pid: number; start: string }) },
    ],
  }
  writePrivateJson(recordPath(dir), record)

  const run = await openRun({ dir, folder: join(dir, 'new') })
  t.teardown(() => run.close())
  t.true(allGone([left.pid as number]))
  t.false(existsSync(folder))
  t.is(readRecord(dir)?.id, run.id)
})

test('a start right after a crash waits for the reaper, which takes nothing of the new run', async (t) => {
  const dir = ownTemporary(t)
  const crashed = await startStackProgram(dir)
  // A database that does not hear the request to stop keeps the reaper busy for seconds.
  process.kill(crashed.pids[0] as number, 'SIGSTOP')
  crashed.child.kill('SIGKILL')
  const next = await startStackProgram(dir)
  t.true(allGone(crashed.pids))
  t.is(next.folder, crashed.folder)
  await new Promise((done) => setTimeout(done, 1000))
  t.true(existsSync(next.socket))
  t.false(next.pids.some((pid) => allGone([pid])))
  next.child.kill('SIGTERM')
  t.deepEqual(await exitOf(next.child), { code: 0, signal: null })
})

test('a process that only has the number of a recorded one is left alone', async (t) => {
  const dir = ownTemporary(t)
  const innocent = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })
  t.teardown(() => innocent.kill('SIGKILL'))
  const pid = innocent.pid as number
  writePrivateJson(recordPath(dir), {
    id: 'earlier',
    owner: { pid, start: 'another boot:1' },
    folders: [],
    processes: [{ name: 'reused', signal: 'SIGTERM', pid, start: 'another boot:1' }],
  } satisfies RunRecord)
  t.true(await cleanDeadRun(dir))
  t.not(startOf(pid), undefined)
})

test('a second run in the same folder is refused while the first lives', async (t) => {
  const { run } = await ownRun(t)
  const error = await t.throwsAsync(openRun({ dir: run.dir, folder: run.folder }), { instanceOf: LocalError })
  t.is(error.code, 'stack_already_running')
})

test('what a run writes about itself is for its user alone', async (t) => {
  const { run } = await ownRun(t)
  t.is(statSync(recordPath(run.dir)).mode & 0o777, 0o600)
  const record = JSON.parse(readFileSync(recordPath(run.dir), 'utf8')) as RunRecord
  t.true(isRunning(record.owner))
})

test('a run folder that another user could write to is refused', async (t) => {
  const open = join(ownTemporary(t), 'open')
  mkdirSync(open)
  // The mode given to mkdir is cut by the umask.
  chmodSync(open, 0o777)
  const error = await t.throwsAsync(openRun({ dir: open, folder: open }), { instanceOf: LocalError })
  t.is(error.code, 'folder_not_ours')
})

test('dead temporary runs are swept, and a record in a folder of another user names nothing for us to remove', async (t) => {
  const { env, run } = await ownRun(t)
  const shared = { ...env, tmp: run.folder }
  const prefix = `ltg-${env.uid ?? 'user'}-t-`
  const victim = join(run.folder, 'victim')
  mkdirSync(victim)
  const dead = { id: 'dead', owner: { pid: 1, start: 'another boot:1' }, folders: [victim], processes: [] }

  const foreign = join(run.folder, `${prefix}foreign`)
  mkdirSync(foreign)
  writeFileSync(recordPath(foreign), JSON.stringify(dead))
  if (isRoot) chownSync(foreign, 65534, 65534)
  else chmodSync(foreign, 0o777)
  t.is(await cleanDeadRuns(shared), 0)
  t.true(existsSync(victim))

  const own = join(run.folder, `${prefix}own`)
  mkdirSync(own, { mode: 0o700 })
  writeFileSync(recordPath(own), JSON.stringify(dead))
  t.is(await cleanDeadRuns(shared), 1)
  t.false(existsSync(victim))
})

// Everybody else is one already, and has shown it above.
if (isRoot) {
  test('an ordinary user runs the same, and leaves nothing when killed', async (t) => {
    const dir = ownTemporary(t)
    chownSync(dir, 65534, 65534)
    // Root's cache is closed to others.
    const { path } = await ensureNatsServer({ env: readEnvironment() })
    copyFileSync(path, join(dir, 'nats-server'))
    const env = { PATH: '/usr/bin:/bin', HOME: dir, NATS_SERVER: join(dir, 'nats-server') }
    const stack = await startStackProgram(dir, { uid: 65534, gid: 65534, env })
    const owners = stack.pids.map((pid) => statSync(`/proc/${pid}`).uid)
    t.deepEqual(owners, [65534, 65534])
    stack.child.kill('SIGKILL')
    t.true(await eventually(() => allGone(stack.pids)))
    t.true(await eventually(() => !existsSync(stack.folder)))
  })
}
