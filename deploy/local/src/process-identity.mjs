// Plain JavaScript, because the reaper runs it by itself on whatever Node there is.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/**
 * A process that can be told from a later one with the same number.
 * @typedef {{ pid: number, start: string }} ProcessIdentity
 */

/** The environment variable by which every process of a run can be found, even one not yet written down. */
export const runMark = 'LTG_RUN'

/**
 * When a process started, as an opaque text: boot and clock ticks on Linux, what `ps` says elsewhere.
 * @param {number} pid
 * @returns {string | undefined} undefined when there is no such process (a zombie is none: it runs nothing and holds nothing)
 */
export function startOf(pid) {
  return process.platform === 'linux' ? startFromProc(pid) : startFromPs(pid)
}

/**
 * Whether exactly this process still runs. A process that got its number later is another one.
 * @param {ProcessIdentity} identity
 */
export function isRunning(identity) {
  return startOf(identity.pid) === identity.start
}

/**
 * Names a running process so that it can be recognised later.
 * @param {number} pid
 * @returns {ProcessIdentity | undefined}
 */
export function identify(pid) {
  const start = startOf(pid)
  return start === undefined ? undefined : { pid, start }
}

/**
 * Processes whose environment carries the mark of a run. Only Linux shows it; elsewhere the list is empty.
 * @param {string} runId
 * @returns {ProcessIdentity[]}
 */
export function markedProcesses(runId) {
  if (process.platform !== 'linux') return []
  const mark = `${runMark}=${runId}`
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => (readOrNothing(`/proc/${name}/environ`) ?? '').split('\0').includes(mark))
    .flatMap((name) => identify(Number(name)) ?? [])
}

/** @param {number} pid */
function startFromProc(pid) {
  const stat = readOrNothing(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // The command name may hold spaces and brackets; fields are counted from the last closing one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, ticks] = [fields[0], fields[19]]
  if (state === 'Z' || state === 'X') return undefined
  const boot = (readOrNothing('/proc/sys/kernel/random/boot_id') ?? '').slice(0, 8)
  return `${boot}:${ticks}`
}

/** @param {number} pid */
function startFromPs(pid) {
  try {
    const out = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { LC_ALL: 'C' },
    })
    const [state = 'Z', ...start] = out.trim().split(/\s+/)
    return state.startsWith('Z') || start.length === 0 ? undefined : start.join(' ')
  } catch {
    return undefined
  }
}

/** @param {string} path */
function readOrNothing(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
