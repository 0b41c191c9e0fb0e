// node reaper.mjs DIR: outlives its parent by a few seconds, to clean up after it.
// The parent holds the other end of stdin, over which it tells the state of its run, one JSON line each time it changes; "null" means
// that all is clean. The pipe closes when the parent ends, even by SIGKILL.
import { cleanUp } from './cleanup.mjs'

const [dir = ''] = process.argv.slice(2)

// A terminal's Ctrl-C is for the parent; the reaper must survive it to do its work.
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(name, () => {})

let told = ''
process.stdin.setEncoding('utf8').on('data', keep).on('error', reap).on('end', reap)

/** Keeps the last complete line. What is told is better than the file, which may be gone by then. @param {string} text */
function keep(text) {
  told += text
  const end = told.lastIndexOf('\n')
  const before = told.lastIndexOf('\n', end - 1)
  if (before >= 0) told = told.slice(before + 1)
}

let isReaping = false
async function reap() {
  if (isReaping) return
  isReaping = true
  const end = told.indexOf('\n')
  const record = end < 0 ? null : JSON.parse(told.slice(0, end))
  if (record !== null) await cleanUp(dir, record)
  process.exit(0)
}
