import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, linkSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { allGone, cleanUp, type RecordedProcess, type RunRecord, readRecord, recordPath } from './cleanup.mjs'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { isOwnFolder, ownFolder, temporaryPrefix, writePrivateJson } from './folders.ts'
import { identify, isRunning, type ProcessIdentity, runMark } from './process-identity.mjs'

/** One life of the stack: what it started is written down, and goes when it goes, however it goes. */
export interface Run {
  readonly id: string
  /** Holds `run.json`. */
  readonly dir: string
  /** Scratch with a short path; removed when the run ends. */
  readonly folder: string
  /** Environment that every process of the run carries. */
  readonly mark: Record<string, string>
  /** Writes a process down at once. Returns it with its start time, or undefined when it is gone already. */
  record(process: Omit<RecordedProcess, 'start'>): RecordedProcess | undefined
  /** Strikes a process that ended. */
  forget(process: RecordedProcess): void
  /** Ends what is left of the run, removes its folder and its record, and lets the reaper go. */
  close(): Promise<void>
}

/** Longest time that a reaper may take, in milliseconds. */
const reaperMs = 15_000

/**
 * Opens a run in `dir` after cleaning what an earlier dead one left there, and starts its reaper.
 * @throws {LocalError} `stack_already_running` when the run in `dir` is alive; `folder_not_ours`
 */
export async function openRun(options: { dir: string; folder: string }): Promise<Run> {
  const { dir, folder } = options
  // Root's scratch holds files of the user that PostgreSQL runs as, who must be able to pass.
  const scratchMode = process.getuid?.() === 0 ? 0o711 : 0o700
  ownFolder(dir, dir === folder ? scratchMode : 0o700)
  await cleanDeadRun(dir)
  ownFolder(folder, scratchMode)

  const owner = identify(process.pid)
  if (owner === undefined) throw new LocalError('process_start_failed', 'this process cannot find itself')
  const record: RunRecord = { id: randomUUID(), owner, folders: [folder], processes: [] }
  claim(dir, record)
  const reaper = startReaper(dir)
  const tell = (state: RunRecord | null) => reaper.pipe.write(`${JSON.stringify(state)}\n`)
  const save = () => {
    tell(record)
    writePrivateJson(recordPath(dir), record)
  }
  if (reaper.identity !== undefined) record.reaper = reaper.identity
  save()

  return {
    id: record.id,
    dir,
    folder,
    mark: { [runMark]: record.id },
    record(started) {
      const identity = identify(started.pid)
      if (identity === undefined) return undefined
      const entry = { ...started, start: identity.start }
      record.processes.push(entry)
      save()
      return entry
    },
    forget(entry) {
      record.processes = record.processes.filter((known) => known !== entry)
      // Not after the end: the record is gone then, and the folder may be another run's.
      if (readRecord(dir)?.id === record.id) save()
    },
    async close() {
      await cleanUp(dir, record)
      tell(null)
      reaper.pipe.end()
    },
  }
}

/**
 * Cleans what a dead run left in `dir`.
 * @returns whether there was one
 * @throws {LocalError} `stack_already_running` when its owner lives
 */
export async function cleanDeadRun(dir: string): Promise<boolean> {
  const left = readRecord(dir)
  if (left === undefined) return false
  if (isRunning(left.owner)) {
    throw new LocalError(
      'stack_already_running',
      `process ${left.owner.pid} already runs a stack in ${dir}; stop it first`,
    )
  }
  // A reaper at work would remove what the next run makes under the same name.
  if (left.reaper !== undefined) await allGone([left.reaper], reaperMs)
  await cleanUp(dir, left)
  return true
}

/** Cleans the temporary run folders of this user whose runs died. Returns how many. */
export async function cleanDeadRuns(env: LocalEnvironment): Promise<number> {
  const named = readdirSync(env.tmp).filter((name) => name.startsWith(temporaryPrefix(env)))
  // Anybody can make a folder of that name in a shared place, with a record that names what to remove: ours alone count.
  const ours = named.map((name) => join(env.tmp, name)).filter(isOwnFolder)
  const cleaned = ours.map(async (folder) => {
    const left = readRecord(folder)
    return left !== undefined && !isRunning(left.owner) && (await cleanDeadRun(folder))
  })
  return (await Promise.all(cleaned)).filter(Boolean).length
}

/** Takes the folder for this run: the record appears complete, or another run has it. */
function claim(dir: string, record: RunRecord): void {
  const mine = `${recordPath(dir)}.${record.id}`
  writePrivateJson(mine, record)
  try {
    if (existsSync(recordPath(dir)) && readRecord(dir) === undefined) rmSync(recordPath(dir))
    linkSync(mine, recordPath(dir))
  } catch (cause) {
    throw new LocalError('stack_already_running', `another stack has just started in ${dir}`, { cause })
  } finally {
    rmSync(mine, { force: true })
  }
}

/** Starts the process that cleans up should this one die. The pipe must stay open as long as the run lives. */
function startReaper(dir: string): { pipe: Writable; identity: ProcessIdentity | undefined } {
  const script = fileURLToPath(new URL('reaper.mjs', import.meta.url))
  const child = spawn(process.execPath, [script, dir], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
    // Not the parent's: its mark may be that of an outer run, whose cleaning must not end this reaper.
    env: { PATH: '/usr/bin:/bin' },
  })
  child.unref()
  const { stdin } = child
  // An unref'd pipe does not keep this process alive; it closes with it, and that is the point.
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref()
  stdin.on('error', () => {})
  return { pipe: stdin, identity: child.pid === undefined ? undefined : identify(child.pid) }
}
