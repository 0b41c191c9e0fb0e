import { limits } from '@lenserfight/schemas'
import type { Argv } from 'yargs'
import { asVoid, type Choose, shown } from './act.ts'

const limit = (given: unknown): number => {
  const text = String(given)
  const value = Number(text)
  if (!/^\d{1,4}$/.test(text) || value < 1 || value > limits.runsPerAnswer)
    throw new RangeError(`a limit is a whole number from 1 to ${limits.runsPerAnswer}, not ${shown(text)}`)
  return value
}
/** The beginning of a run's id, or all of it. */
const runForm = (given: string): string => {
  if (!/^[0-9a-f-]{8,36}$/.test(given))
    throw new RangeError(`a run’s id is needed, or the beginning of one, not ${shown(given)}`)
  return given
}
const text = { type: 'string', requiresArg: true } as const
const flag = { type: 'boolean', default: false } as const

/** What the account asked to run. */
export const runsCommand = (gateway: Argv, choose: Choose): Argv =>
  gateway.command(
    'runs',
    'The account’s runs, newest first, and what came of them',
    (runs) =>
      runs
        .option('device', { ...text, describe: 'Of one device: its id or name' })
        .option('runner', { ...text, describe: 'Of one runner: its id or name' })
        .option('awaiting', { ...flag, describe: 'Those that await your approval' })
        .option('open', {
          ...flag,
          describe: 'Those that hold a place among the runs at once: under way, or awaiting approval',
        })
        .option('limit', { requiresArg: true, default: 20, coerce: limit, describe: 'How many at most' })
        .option('before', {
          ...text,
          coerce: runForm,
          describe: 'Those older than this run: its id, or 8 or more characters that only its id begins with',
        })
        .check(({ awaiting, open }) => {
          if (awaiting && open) throw new RangeError('--awaiting and --open exclude each other')
          return true
        })
        .example('$0 gateway runs', 'the newest 20')
        .example('$0 gateway runs --device build-server --open', 'what is under way there')
        .example('$0 gateway runs --runner nightly --limit 5', 'what a runner ran last')
        .example('$0 gateway runs --json', 'for programs; `next` is what the next page’s --before takes'),
    ({ device, runner, awaiting, open, limit: most, before }) =>
      choose(
        asVoid(async (context) =>
          (await import('../commands/runs.ts')).runs(context, {
            ...{ device, runner, limit: most, before },
            state: awaiting ? 'awaiting' : open ? 'open' : undefined,
          }),
        ),
      ),
  )
