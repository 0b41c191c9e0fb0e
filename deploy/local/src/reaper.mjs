// node reaper.mjs DIR RUN_ID: outlives its parent by a few seconds, to clean up after it.
// The parent holds the other end of stdin. It closes when the parent ends, even by SIGKILL.
import { cleanUp, readRecord } from './cleanup.mjs'

const [dir = '', runId = ''] = process.argv.slice(2)

// A terminal's Ctrl-C is for the parent; the reaper must survive it to do its work.
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(name, () => {})

process.stdin.on('error', reap).on('end', reap).resume()

let started = false
async function reap() {
  if (started) return
  started = true
  const record = readRecord(dir)
  // A record of another run means that ours was closed in order.
  if (record?.id === runId) await cleanUp(dir, record)
  process.exit(0)
}
