import type { Argv } from 'yargs'
import { asVoid, type Choose } from './act.ts'

const load = () => import('../commands/objects.ts')
const text = { type: 'string', requiresArg: true } as const
const flag = { type: 'boolean', default: false } as const
const classHelp = {
  type: 'string',
  demandOption: true,
  describe: 'Its class, as `lf gateway objects list` names them',
} as const
const idHelp = { type: 'string', demandOption: true, describe: 'Its id: letters, digits and . _ : -' } as const

const named = (command: Argv) => command.positional('class', classHelp).positional('id', idHelp)

/** The objects that this machine shares with the account's others. */
export const objectsCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway.command('objects', 'Agents, workflows, preferences: what this machine shares with your others', (objects) =>
    objects
      .command(
        'list [class]',
        'The classes, and what there is of them here',
        (list) =>
          list
            .positional('class', { type: 'string', describe: 'Only of this class' })
            .option('deleted', { ...flag, describe: 'Those that were deleted, too' })
            .example('$0 gateway objects list', 'which classes there are, who decides them, and how many of each')
            .example('$0 gateway objects list agent_config', 'the agents'),
        ({ class: className, deleted }) =>
          choose(asVoid(async (context) => (await load()).listObjects(context, { className, deleted }))),
      )
      .command(
        'get <class> <id>',
        'One of them, with its conflicts',
        (get) => named(get).example('$0 gateway objects get workflow_definition nightly', 'as it reads here'),
        ({ class: className, id }) =>
          choose(asVoid(async (context) => (await load()).getObject(context, { class: className, object: id }))),
      )
      .command(
        'set <class> <id> [changes..]',
        'Write some of its paths; the rest stays. Never a secret',
        (set) =>
          named(set)
            .positional('changes', {
              ...({ type: 'string', array: true, default: [] as string[] } as const),
              describe: 'path=value, JSON where it is; path=@FILE; path=- is standard input',
            })
            .option('unset', {
              ...{ ...text, array: true, nargs: 1, default: [] as string[] },
              describe: 'A path to delete; may be repeated',
            })
            .option('json-file', { ...text, describe: 'A JSON object of paths and their values; - is standard input' })
            .example(
              '$0 gateway objects set agent_config reviewer name=Reviewer temperature=0.2',
              'makes it, where there is none',
            )
            .example('$0 gateway objects set workflow_definition nightly step/build/body=@build.json', 'one step of it')
            .example(
              '$0 gateway objects set non_secret_pref editor pref/theme=dark --unset pref/font',
              'two preferences',
            ),
        ({ class: className, id, changes, unset, jsonFile }) =>
          choose(
            asVoid(async (context) =>
              (await load()).setObject(context, { className, object: id, pairs: changes, unset, jsonFile }),
            ),
          ),
      )
      .command(
        'delete <class> <id>',
        'Delete it, on every machine of the account',
        (command) =>
          named(command).example(
            '$0 gateway objects delete lens_draft sketch',
            'until it is forgotten, `undelete` brings it back',
          ),
        ({ class: className, id }) =>
          choose(asVoid(async (context) => (await load()).deleteObject(context, { class: className, object: id }))),
      )
      .command(
        'undelete <class> <id>',
        'Bring it back, with what it said last',
        (command) =>
          named(command).example('$0 gateway objects undelete lens_draft sketch', 'edits made meanwhile included'),
        ({ class: className, id }) =>
          choose(asVoid(async (context) => (await load()).undeleteObject(context, { class: className, object: id }))),
      )
      .command(
        'discard <class> <id>',
        'Give up what was edited here and the gateway refused',
        (command) =>
          named(command).example('$0 gateway objects discard agent_config reviewer', 'it reads as the gateway has it'),
        ({ class: className, id }) =>
          choose(asVoid(async (context) => (await load()).discardObject(context, { class: className, object: id }))),
      )
      .demandCommand(1, 'Say which command.')
      .example('$0 gateway objects list', 'what there is here')
      .example(
        '$0 gateway objects set agent_config reviewer name=Reviewer',
        'your other machines have it seconds later',
      ),
  )
