import type { Argv } from 'yargs'
import { asVoid, type Choose, reason as reasonForm } from './act.ts'

const runHelp = 'The run’s id, or 8 or more characters that only its id begins with'
const runOption = { type: 'string', demandOption: true, describe: runHelp } as const
const answerOptions = {
  reason: { type: 'string', requiresArg: true, coerce: reasonForm, describe: 'Why; it is audited' },
  yes: { type: 'boolean', default: false, describe: 'Do not ask' },
} as const

const load = () => import('../commands/approvals.ts')

/** What a person answers to runs that await one. */
export const approvalCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway.command(
    'approvals',
    'Runs that await your approval',
    (approvals) =>
      approvals
        .option('watch', {
          ...{ type: 'boolean', default: false, global: false },
          describe: 'Show them as they come, until Ctrl-C',
        })
        .command(
          'approve <run>',
          'Let a run go on',
          (approve) =>
            approve
              .positional('run', runOption)
              .options(answerOptions)
              .example('$0 gateway approvals approve 019d3c5e-77a1', 'shows what is to run, and asks'),
          ({ run, reason, yes }) =>
            choose(async (context) => (await load()).decide(context, { decision: 'approve', run, reason, yes })),
        )
        .command(
          'deny <run>',
          'Keep a run from going on',
          (deny) =>
            deny
              .positional('run', runOption)
              .options(answerOptions)
              .example('$0 gateway approvals deny 019d3c5e-77a1 --reason "not tonight"', 'nothing of it will run'),
          ({ run, reason, yes }) =>
            choose(async (context) => (await load()).decide(context, { decision: 'deny', run, reason, yes })),
        )
        .example('$0 gateway approvals --watch', 'keep it open beside your work')
        .example('$0 gateway approvals approve 019d3c5e-77a1', 'let one of them go on'),
    ({ watch }) => choose(asVoid(async (context) => (await load()).approvals(context, { watch }))),
  )
