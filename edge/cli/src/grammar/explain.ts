import type { Argv } from 'yargs'
import { asVoid, type Choose } from './act.ts'

/** Why something has the level that it has. */
export const explainCommand = (gateway: Argv, choose: Choose): Argv =>
  gateway.command(
    'explain [id]',
    'Why a run, a submission or a device has its level',
    (explain) =>
      explain
        .positional('id', {
          type: 'string',
          describe:
            'A run’s, a submission’s or a device’s id, of a run or a device also the beginning, or a device’s name; else this machine’s newest run',
        })
        .example('$0 gateway explain 019d3c5e-77a1-7000-8000-3f1b6a2d9c04', 'each rule, and the first that failed')
        .example('$0 gateway explain build-server', 'a device, by its name')
        .example('$0 gateway explain --json', 'this machine’s newest run, for programs'),
    ({ id }) => choose(asVoid(async (context) => (await import('../commands/explain.ts')).explain(context, id))),
  )
