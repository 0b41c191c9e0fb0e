import type { Argv } from 'yargs'
import { approvalSeconds, type Choose, id, label as labelForm, name as nameForm, seconds } from './act.ts'

/** What is said where no command follows. */
export const noDashes = 'give the command after --, as in `lf run -- make test`'

/** Everything after `--`, as it was given: yargs would take some words for numbers. */
const commandOf = (argv: readonly string[]): readonly string[] =>
  argv.includes('--') ? argv.slice(argv.indexOf('--') + 1) : []

/** Running and attesting. */
export const runCommand = (cli: Argv, choose: Choose, argv: readonly string[]): Argv =>
  cli.command(
    'run',
    'Run a command and attest it',
    (run) =>
      run
        .usage('$0 run [options] -- COMMAND…\n\nRuns a command as if alone, and attests what ran and what came of it.')
        .option('submission', {
          type: 'string',
          requiresArg: true,
          coerce: id,
          describe: 'The submission that this run backs',
        })
        .option('runner', {
          ...{ type: 'string', requiresArg: true, coerce: nameForm },
          describe: 'The runner that runs it: its name, where its owner is signed in here, or its id',
        })
        .option('contender', {
          type: 'string',
          requiresArg: true,
          coerce: id,
          describe: 'The contender that it runs for',
        })
        .option('lens-version', {
          type: 'string',
          requiresArg: true,
          coerce: id,
          describe: 'The lens version that it is pinned to',
        })
        .option('input', {
          type: 'string',
          array: true,
          nargs: 1,
          default: [],
          describe: 'A file that goes in; may be repeated',
        })
        .option('output', {
          type: 'string',
          array: true,
          nargs: 1,
          default: [],
          describe: 'A file that comes out; may be repeated',
        })
        .option('label', {
          type: 'string',
          requiresArg: true,
          coerce: labelForm,
          describe: 'What the run is called where somebody is asked to approve it; else the command’s name',
        })
        .option('approval-wait', {
          type: 'number',
          requiresArg: true,
          coerce: approvalSeconds,
          describe: 'Seconds to wait for approval, where the account wants one; else as long as the account lets it',
        })
        .option('report', { type: 'string', requiresArg: true, describe: 'Write the report here, as one JSON line' })
        .option('wait', {
          type: 'number',
          requiresArg: true,
          default: 15,
          coerce: seconds,
          describe: 'Seconds to wait for the result',
        })
        .example('$0 run -- make test', 'its exit code is make’s own')
        .example('$0 run --input data.csv --output model.bin -- python train.py', 'with what went in and came out')
        .example('$0 run --runner nightly --report run.json -- ./agent', 'for programs')
        .epilog('The command has its own input, output, exit code and signals. What lf says goes to standard error.'),
    (args) => {
      const command = commandOf(argv)
      const { submission, runner, contender, lensVersion, label, approvalWait, input, output, report, wait } = args
      const named = { submission, runner, contender, lensVersion, label, approvalWait, report }
      choose(async (context) =>
        (await import('../commands/run.ts')).run(context, {
          ...named,
          command: command.map(String),
          input,
          output,
          wait,
        }),
      )
    },
  )
