// What the tests kill: PostgreSQL and a broker in one run. Prints what it started as one JSON line, then waits to be asked to stop.
// Arguments: state folder.
import { readEnvironment } from './env.ts'
import { runFolderOf } from './folders.ts'
import { startNats } from './nats.ts'
import { ensureNatsServer } from './nats-server.ts'
import { startPostgres } from './postgres.ts'
import { openRun } from './run.ts'
import { onStopRequest } from './stop-signals.ts'

const [dir = ''] = process.argv.slice(2)
const env = readEnvironment()
const stop = onStopRequest()
const run = await openRun({ dir, folder: runFolderOf(dir, env) })
const postgres = await startPostgres({ env, run, fsync: false })
const nats = await startNats({ env, run, nats: await ensureNatsServer({ env }), configText: '' })
process.stdout.write(
  `${JSON.stringify({ pids: [postgres.pid, nats.pid], folder: run.folder, socket: postgres.socketDir })}\n`,
)
await stop.requested
await run.close()
stop.release()
