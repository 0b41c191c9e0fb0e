// Plain JavaScript: shared by the reaper (alone, after its parent died) and by the next start.
import { existsSync, readFileSync, rmSync } from 'node:fs'
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
 * @property {{ pid: number, start: string }} [reaper] the process that cleans up when the owner dies
 * @property {string[]} folders removed when the run ends, however it ends
 * @property {RecordedProcess[]} processes in the order of their start
 */

/** Time that a process of a dead run has to stop before it is killed, in milliseconds. */
const orderlyMs = 3000
const pollMs = 25
/** How often what will not go yet is tried again, and the time between, in milliseconds. */
const rounds = 25
const roundMs = 200

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
  await terminateMarked(record.id)
  for (const folder of record.folders) await remove(folder)
  if (readRecord(dir)?.id === record.id) rmSync(recordPath(dir), { force: true })
}

/**
 * Ends what was started and not written down (helpers, or what came just before the parent died), until there is no more.
 * @param {string} runId
 */
async function terminateMarked(runId) {
  for (let round = 0; round < rounds; round++) {
    const found = markedProcesses(runId)
    if (found.length === 0) return
    await terminate(
      found.map((identity) => ({ name: 'marked', signal: /** @type {const} */ ('SIGTERM'), ...identity })),
    )
  }
}

/**
 * Removes a folder in which the last of its processes may be writing yet.
 * @param {string} folder
 */
async function remove(folder) {
  for (let round = 0; round < rounds && existsSync(folder); round++) {
    if (round > 0) await sleep(roundMs)
    try {
      rmSync(folder, { recursive: true, force: true })
    } catch {
      // Something new appeared in it meanwhile: once more.
    }
  }
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
 * Waits until none of these processes runs any more.
 * @param {{ pid: number, start: string }[]} processes
 * @param {number} timeoutMs
 * @returns {Promise<boolean>} false when time was up first
 */
export async function allGone(processes, timeoutMs) {
  for (const end = Date.now() + timeoutMs; ; ) {
    if (!processes.some(isRunning)) return true
    if (Date.now() > end) return false
    await sleep(pollMs)
  }
}

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
