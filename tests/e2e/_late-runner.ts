import { writeSync } from 'node:fs'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { connectDaemon } from '@lenserfight/daemon/client'
import { type CodedError, openRunner, type Run } from '@lenserfight/runner'

// A runner that stands still between its last requests and their answers. It says `permitted`, then the codes they end with.
const socket = process.argv[2] as string
const nearEndMs = 2_000
/** For longer than any answer holds by then, and not so long that none is taken for one any more. */
const standMs = 2_200

const runner = await openRunner({ socket })
const [using, starting] = [
  await runner.permit({ command: ['agent', 'uses a tool'] }),
  await runner.permit({ command: ['agent', 'starts'] }),
]
writeSync(1, 'permitted\n')
const daemon = await connectDaemon(socket)
const validMs = async ({ permit }: Run): Promise<number> =>
  Number((await daemon.request('run.start', { run_id: permit.runId })).valid_ms)
while ((await validMs(using)) > nearEndMs || (await validMs(starting)) > nearEndMs) await sleep(50)

const codeOf = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'given',
    ({ code }: CodedError) => code,
  )
// So that each conversation is open.
await Promise.all([using.start(), starting.start()].map(codeOf))
const asked = [using.tool('fs/read'), starting.start()].map(codeOf)
// They are sent by now, and nothing is read while it stands.
await setImmediate()
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, standMs)
writeSync(1, JSON.stringify(await Promise.all(asked)))
process.exit(0)
