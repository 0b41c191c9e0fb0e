import { deniedToolPattern, limits } from '@lenserfight/schemas'
import type { Argv } from 'yargs'
import { asVoid, type Choose, id as idForm, shown } from './act.ts'

const wholeNumber =
  (least: number, most: number) =>
  (given: unknown): number => {
    const text = String(given)
    const value = Number(text)
    if (!/^\d{1,9}$/.test(text) || value < least || value > most) {
      throw new RangeError(`a whole number from ${least} to ${most} is needed, not ${shown(text)}`)
    }
    return value
  }

/** A whole number, or `none` for no bound. */
const bound =
  (most: number) =>
  (given: unknown): number | null =>
    given === 'none' ? null : wholeNumber(0, most)(given)

const mostDailyRuns = 1_000_000
const mostParallelRuns = 10_000
const leastApprovalSeconds = 10

const toolForm = new RegExp(deniedToolPattern)
const tools = (names: readonly string[]): string[] => {
  if (new Set(names).size > limits.deniedTools) throw new RangeError(`${limits.deniedTools} tools at most`)
  return names.map((name) => {
    if (toolForm.test(name)) return name
    throw new RangeError(
      `a tool has a name as in mcp/read, or mcp/* for all that begin so (a * stands last), not ${shown(name)}`,
    )
  })
}
const toolOption = { type: 'string', requiresArg: true, array: true, nargs: 1, default: [], coerce: tools } as const
const text = { type: 'string', requiresArg: true } as const
/** Of no type, so that help does not call a number a string. */
const number = { requiresArg: true } as const

const approvalWords = ['allow', 'require-human', 'deny'] as const
/** Reasons and JSON have `require_human`: it is taken, too. */
const approvalWord = (word: string) => word.replaceAll('_', '-') as (typeof approvalWords)[number]

const setOptions = (set: Argv) =>
  set
    .option('approval', {
      ...{ requiresArg: true, choices: approvalWords, coerce: approvalWord },
      describe: 'What becomes of a run that nothing else stops',
    })
    .option('lenser-paused', {
      ...{ requiresArg: true, choices: ['on', 'off'] as const },
      describe: 'Whether the lenser’s runners are paused: nothing runs, and nothing is attested',
    })
    .option('daily-runs', { ...number, coerce: bound(mostDailyRuns), describe: 'Runs a day (UTC); none: no bound' })
    .option('max-parallel', {
      ...number,
      coerce: bound(mostParallelRuns),
      describe: 'Runs at the same time; none: no bound',
    })
    .option('dark-launch', {
      ...number,
      coerce: wholeNumber(0, 100),
      describe: 'Of how many workflows in a hundred runs are let through',
    })
    .option('approval-seconds', {
      ...number,
      coerce: wholeNumber(leastApprovalSeconds, limits.approvalMaxSeconds),
      describe: 'How long a run awaits a person',
    })
    .option('deny-tool', {
      ...toolOption,
      describe: 'A tool that no run may use; mcp/*: all that begin so; case counts; may be given again',
    })
    .option('allow-tool', { ...toolOption, describe: 'Take a denial back; may be given again' })
    .example('$0 gateway policy set --approval require-human', 'each run awaits `lf gateway approvals`')
    .example('$0 gateway policy set --lenser-paused on', 'nothing runs until it is off again')
    .example('$0 gateway policy set --daily-runs 50 --max-parallel 2', 'none takes a bound away')
    .example('$0 gateway policy set --deny-tool shell --deny-tool "mcp/*"', 'what is not named stays as it is')
    .epilog('Its owner’s alone: an API key may read the policy and not change it.')

const load = () => import('../commands/policy.ts')

/** The account's pre-run policy. */
export const policyCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway.command('policy', 'Which runs the account allows', (policy) =>
    policy
      .command(
        'show',
        'What it says, and how much of it is used up',
        (show) => show.example('$0 gateway policy show --json', 'for programs'),
        () => choose(asVoid(async (context) => (await load()).showPolicy(context))),
      )
      .command(
        'test',
        'What it would say of a run just now; exit code 5 where not allow',
        (test) =>
          test
            .option('lens-version', {
              ...text,
              coerce: idForm,
              describe: 'Of a run pinned to this version (a lens version’s id)',
            })
            .example('$0 gateway policy test', 'nothing is recorded, and nothing permitted'),
        ({ lensVersion }) => choose(async (context) => (await load()).testPolicy(context, lensVersion)),
      )
      .command('set', 'Change what is named; the rest stays', setOptions, (given) => {
        const { approval, lenserPaused, dailyRuns, maxParallel, darkLaunch, approvalSeconds } = given
        const { denyTool, allowTool } = given
        const changes = { approval, lenserPaused, dailyRuns, maxParallel, darkLaunch, approvalSeconds }
        choose(asVoid(async (context) => (await load()).setPolicy(context, { ...changes, denyTool, allowTool })))
      })
      .demandCommand(1, 'Say which command.')
      .example('$0 gateway policy show', 'and what is used up of it today')
      .example('$0 gateway policy set --approval require-human', 'ask me before each run'),
  )
