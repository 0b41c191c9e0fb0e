// Plain JavaScript: shared by the reaper (alone, after its parent died) and by the next start.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isRunning, markedProcesses } from './process-identity.mjs'

/**
 * One process of a run and the signal that asks it to stop in an orderly way.
 * @typedef {{ name: string, pid: number, start: string, signal: NodeJS.Signals }} RecordedProcess
 */

/**
 * What a run leaves on disk about itself.
 * @typedef {object} RunRecord
 * @property {string} id
 * @property {{ pid: number, start: string }} owner the process that opened the run
 * @property {string[]} folders removed when the run ends, however it ends
 * @property {RecordedProcess[]} processes in the order of their start
 */

/** Time that a process of a dead run has to stop before it is killed, in milliseconds. */
const orderlyMs = 3000
const pollMs = 25

/** @param {string} dir the folder that holds the record */
export const recordPath = (dir) => join(dir, 'run.json')

/**
 * @param {string} dir
 * @returns {RunRecord | undefined} undefined when there is none, or none that can be read
 */
export function readRecord(dir) {
  try {
    return JSON.parse(readFileSync(recordPath(dir), 'utf8'))
  } catch {
    return undefined
  }
}

/**
 * Ends everything that a run left: its processes (orderly first, then by force), its folders, its record.
 * Only processes whose start time agrees are touched.
 * @param {string} dir
 * @param {RunRecord} record
 */
export async function cleanUp(dir, record) {
  await terminate([...record.processes].reverse())
  // What was started and not yet written down when the parent died.
  await terminate(markedProcesses(record.id).map((found) => ({ name: 'marked', signal: 'SIGTERM', ...found })))
  for (const folder of record.folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  if (readRecord(dir)?.id === record.id) rmSync(recordPath(dir), { force: true })
}

/**
 * Asks processes to stop, waits, and kills what is left.
 * @param {RecordedProcess[]} processes
 */
export async function terminate(processes) {
  for (const target of processes) signal(target, target.signal)
  if (await allGone(processes, orderlyMs)) return
  for (const target of processes) signal(target, 'SIGKILL')
  await allGone(processes, orderlyMs)
}

/**
 * Sends a signal to a process if it is still that process; a kill also reaches the group that it leads.
 * @param {{ pid: number, start: string }} target
 * @param {NodeJS.Signals} name
 * @returns {boolean} whether the process was there
 */
export function signal(target, name) {
  if (!isRunning(target)) return false
  try {
    process.kill(target.pid, name)
    if (name === 'SIGKILL') process.kill(-target.pid, name)
  } catch {
    // Gone between the look and the signal, or leader of no group: both are what we want.
  }
  return true
}

/**
 * @param {RecordedProcess[]} processes
 * @param {number} timeoutMs
 */
async function allGone(processes, timeoutMs) {
  for (const end = Date.now() + timeoutMs; ; ) {
    if (!processes.some(isRunning)) return true
    if (Date.now() > end) return false
    await new Promise((done) => setTimeout(done, pollMs))
  }
}
