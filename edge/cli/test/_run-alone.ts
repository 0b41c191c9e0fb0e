/**
 * Runs a command as `lf run` does, without a gateway: `_run-alone.ts REPORT COMMAND…`. What it saw goes to the report.
 * `WITHDRAWN_BY` names a file: once there is one, the command may not go on. `BEGUN` names one that says how much was read by then.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { exitCodeOf, runCommand } from '../src/run/command.ts'
import { dieBy } from '../src/run/signals.ts'

const [report, word, ...words] = process.argv.slice(2) as [string, string, ...string[]]
const { WITHDRAWN_BY: withdrawnBy, BEGUN: begun, ...env } = process.env
process.env = env
const withdrawn = new AbortController()
if (withdrawnBy !== undefined) setInterval(() => existsSync(withdrawnBy) && withdrawn.abort(), 20).unref()
const begin = async (): Promise<void> => {
  if (begun !== undefined) writeFileSync(begun, readFileSync('/proc/self/io'))
}
const { signals: _, ...end } = await runCommand([word, ...words], withdrawn.signal, begin)
writeFileSync(report, JSON.stringify(end))
const signal = end.signal ?? end.interruptedBy
if (signal === null) process.exit(exitCodeOf(end))
dieBy(signal)
