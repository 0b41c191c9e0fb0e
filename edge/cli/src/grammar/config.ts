import type { Argv } from 'yargs'
import { projectMembers } from '../project/members.ts'
import { asVoid, type Choose } from './act.ts'

const nameOption = { choices: projectMembers, demandOption: true, describe: 'Which' } as const

const load = () => import('../commands/config.ts')

/** The project's configuration: what is the same for everybody who works on it. */
export const configCommands = (cli: Argv, choose: Choose): Argv =>
  cli.command('config', 'This project’s configuration (.lenserfight.json)', (config) =>
    config
      .command(
        'list',
        'What it says, and where it lies',
        (list) => list.example('$0 config list --json', 'for programs'),
        () => choose(asVoid(async (context) => (await load()).listConfig(context))),
      )
      .command(
        'get <name>',
        'One of its members',
        (get) => get.positional('name', nameOption).example('$0 config get runner', 'nothing where it is not set'),
        ({ name }) => choose(asVoid(async (context) => (await load()).getConfig(context, name))),
      )
      .command(
        'set <name> <value>',
        'Set one of its members; never to a secret',
        (set) =>
          set
            .positional('name', nameOption)
            .positional('value', {
              type: 'string',
              demandOption: true,
              describe: 'A file’s path for gateway; for runner its id, or its name where its owner is signed in here',
            })
            .example('$0 config set gateway deploy/gateway.json', 'a path from the file’s folder'),
        ({ name, value }) => choose(asVoid(async (context) => (await load()).setConfig(context, name, value))),
      )
      .command(
        'unset <name>',
        'Take one of its members out',
        (unset) =>
          unset.positional('name', nameOption).example('$0 config unset runner', 'as if it had never been set'),
        ({ name }) => choose(asVoid(async (context) => (await load()).setConfig(context, name, undefined))),
      )
      .epilog(
        'The file is looked for from this folder upwards: to the root of its Git repository; outside of one to your home; outside of that here alone. A new one is made at the last of these folders.',
      )
      .demandCommand(1, 'Say which command.')
      .example('$0 config set runner nightly', 'what `lf run` here runs as'),
  )
