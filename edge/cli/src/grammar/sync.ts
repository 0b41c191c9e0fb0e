import type { Argv } from 'yargs'
import { asVoid, type Choose, id as idForm, seconds, shown } from './act.ts'

const takeForm = (given: string): number | 'base' => {
  if (given === 'base') return given
  if (!/^[1-9]\d?$/.test(given))
    throw new RangeError(`a side’s number as it is shown, or base, is needed, not ${shown(given)}`)
  return Number(given)
}

const load = () => import('../commands/sync.ts')
const loadConflicts = () => import('../commands/sync-conflicts.ts')
const text = { type: 'string', requiresArg: true } as const
const flag = { type: 'boolean', default: false } as const
const waitOption = {
  ...({ type: 'number', requiresArg: true, default: 15, coerce: seconds } as const),
  describe: 'Seconds to wait for the gateway',
}
const winners = ['take', 'value', 'value-file'] as const

const resolveOptions = (resolve: Argv) =>
  resolve
    .positional('id', {
      ...({ type: 'string', demandOption: true } as const),
      describe: 'The conflict’s id, or 8 or more characters that only its id begins with',
    })
    .option('take', { ...text, coerce: takeForm, describe: 'What is to stand: a side by its number, or base' })
    .option('value', { ...text, describe: 'What is to stand instead: JSON where it is, else a text; null deletes' })
    .option('value-file', { ...text, describe: 'The same from a file; - is standard input' })
    .option('dry-run', { ...flag, describe: 'Show what would be written, and write nothing' })
    .option('yes', { ...flag, describe: 'Do not ask' })
    .conflicts('take', ['value', 'value-file'])
    .conflicts('value', 'value-file')
    .check((given) => {
      const isNamed = winners.some((each) => given[each] !== undefined)
      if (!isNamed && (given.yes || given.dryRun)) throw new RangeError('say what is to stand: --take or --value')
      return true
    })
    .example('$0 gateway sync resolve 019d3c5e-77a1', 'compare the sides; nothing is decided')
    .example('$0 gateway sync resolve 019d3c5e-77a1 --take 2', 'shows it once more, and asks')
    .example(
      '$0 gateway sync resolve 019d3c5e-77a1 --value-file step.json --dry-run',
      'of your own; nothing is written',
    )

/** What this machine and the account's others have of each other's objects. */
export const syncCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway.command('sync', 'What goes between this machine and the account’s others', (sync) =>
    sync
      .command(
        'status',
        'How this machine’s sync fares',
        (status) =>
          status
            .option('conflicts', {
              ...flag,
              describe: 'What you have to decide: both sides, and what they had in common',
            })
            .option('all', { ...flag, describe: 'How far every machine of the account has come' })
            .check(({ conflicts, all }) => {
              if (conflicts && all) throw new RangeError('--conflicts and --all exclude each other')
              return true
            })
            .example('$0 gateway sync status', 'what waits here, and why')
            .example('$0 gateway sync status --conflicts', 'with the commands that end each')
            .example('$0 gateway sync status --all --json', 'for programs'),
        ({ conflicts, all }) =>
          choose(
            asVoid(async (context) => {
              if (conflicts) return (await loadConflicts()).showConflicts(context)
              return all ? (await loadConflicts()).showDevices(context) : (await load()).showMachine(context)
            }),
          ),
      )
      .command(
        'pull',
        'Take over now what changed elsewhere; the daemon does so by itself every few seconds',
        (pull) => pull.option('wait', waitOption).example('$0 gateway sync pull', 'before you go offline'),
        ({ wait }) => choose(asVoid(async (context) => (await load()).pull(context, wait))),
      )
      .command(
        'push',
        'Send now what was edited here; the daemon does so by itself within seconds',
        (push) =>
          push
            .option('dry-run', { ...flag, describe: 'Show which edits would go, not what they say, and send none' })
            .option('wait', waitOption)
            .example('$0 gateway sync push', 'before you close the lid')
            .example('$0 gateway sync push --dry-run', 'what would go'),
        ({ dryRun, wait }) =>
          choose(async (context) => {
            if (!dryRun) return (await load()).push(context, wait)
            await (await load()).showWaiting(context)
            return undefined
          }),
      )
      .command('resolve <id>', 'Decide a conflict', resolveOptions, (given) => {
        const { id, take, value, valueFile, dryRun, yes } = given
        choose(async (context) =>
          (await loadConflicts()).resolveConflict(context, { id, take, value, valueFile, dryRun, yes }),
        )
      })
      .command(
        'undo <resolution>',
        'Open a conflict again that was resolved',
        (undo) =>
          undo
            .positional('resolution', {
              ...({ type: 'string', demandOption: true, coerce: idForm } as const),
              describe: 'The resolution’s id, as `lf gateway sync resolve` said it',
            })
            .example(
              '$0 gateway sync undo 019d3c5e-77a1-7000-8000-000000000001',
              'its sides stand beside each other again',
            ),
        ({ resolution }) =>
          choose(asVoid(async (context) => (await loadConflicts()).undoResolution(context, resolution))),
      )
      .demandCommand(1, 'Say which command.')
      .example('$0 gateway sync status', 'what waits here, and why')
      .example('$0 gateway sync status --conflicts', 'what awaits your decision'),
  )
