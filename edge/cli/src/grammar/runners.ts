import type { Argv } from 'yargs'
import { asVoid, type Choose, name as nameForm } from './act.ts'

const load = () => import('../commands/runners.ts')

/** What an owner does with what runs on the account's devices. */
export const runnerCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway.command(
    'runners',
    'The account’s runners, and which device each runs on',
    (runners) =>
      runners
        .command(
          'bind <name>',
          'Bind a runner to a device, making it where there is none',
          (bind) =>
            bind
              .positional('name', {
                type: 'string',
                demandOption: true,
                coerce: nameForm,
                describe: 'The runner’s name, of your choice',
              })
              .option('device', { type: 'string', requiresArg: true, describe: 'Id or name; else this machine' })
              .example('$0 gateway runners bind nightly --device build-server', 'on another of your machines'),
          ({ name, device }) => choose(asVoid(async (context) => (await load()).bindRunner(context, { name, device }))),
        )
        .command(
          'unbind <name>',
          'End a runner’s binding: it runs nowhere until it is bound again',
          (unbind) =>
            unbind
              .positional('name', {
                type: 'string',
                demandOption: true,
                describe: 'Its name, its id, or 8 or more characters that only its id begins with',
              })
              .example('$0 gateway runners unbind nightly', 'a run not attested yet reaches device_verified at most'),
          ({ name }) => choose(asVoid(async (context) => (await load()).unbindRunner(context, name))),
        )
        .example('$0 gateway runners', 'which there are, and when each was last heard of')
        .example('$0 gateway runners bind nightly', 'it runs on this machine from then on'),
    () => choose(asVoid(async (context) => (await load()).runners(context))),
  )
