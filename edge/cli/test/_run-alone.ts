/** Runs a command as `lf run` does, without a gateway: `_run-alone.ts REPORT COMMAND…`. What it saw goes to the report. */
import { writeFileSync } from 'node:fs'
import { exitCodeOf, runCommand } from '../src/run/command.ts'
import { dieBy } from '../src/run/signals.ts'

const [report, word, ...words] = process.argv.slice(2) as [string, string, ...string[]]
const { signals: _, ...end } = await runCommand([word, ...words])
writeFileSync(report, JSON.stringify(end))
const signal = end.signal ?? end.interruptedBy
if (signal === null) process.exit(exitCodeOf(end))
dieBy(signal)
