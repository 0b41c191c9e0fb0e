import { CodedError } from '@lenserfight/schemas'
import yargs, { type Argv } from 'yargs'
import manifest from '../package.json' with { type: 'json' }
import type { Choose } from './grammar/act.ts'
import { approvalCommands } from './grammar/approvals.ts'
import { configCommands } from './grammar/config.ts'
import { deviceCommands } from './grammar/devices.ts'
import { doctorCommand } from './grammar/doctor.ts'
import { explainCommand } from './grammar/explain.ts'
import { machineCommands } from './grammar/machine.ts'
import { objectsCommands } from './grammar/objects.ts'
import { policyCommands } from './grammar/policy.ts'
import { noDashes, runCommand } from './grammar/run.ts'
import { runnerCommands } from './grammar/runners.ts'
import { runsCommand } from './grammar/runs.ts'
import { sessionCommands } from './grammar/session.ts'
import { syncCommands } from './grammar/sync.ts'

export type { Act } from './grammar/act.ts'

/** What is said where a word that names a command is missing. */
export const noCommand = 'Say which command.'

/** What the parser says of options, in words that people would use. */
const rewordings: readonly (readonly [RegExp, string])[] = [
  [/^Missing dependent arguments: (\S+) -> (\S+)$/, '--$1 needs --$2'],
  [/^Arguments (\S+) and (\S+) are mutually exclusive$/, '--$1 and --$2 exclude each other'],
  [/^Not enough arguments following: (\S+)$/, '--$1 needs a value'],
]

/** What the parser knows of the command that it was at: its form first, as `$0 gateway approve-device <id>`. */
interface AtCommand {
  readonly getUsage?: () => readonly (readonly string[])[]
  readonly getCommands?: () => readonly unknown[]
}

const tooFew = /^Not enough non-option arguments: got (\d+),/

/** Which argument is missing, with the whole form of the command. */
const missingOf = (given: number, at: AtCommand | undefined): string => {
  const form = at?.getUsage?.()[0]?.[0]?.replace('$0', 'lf') ?? ''
  const name = form.match(/<[^>]+>/g)?.[given]
  return name === undefined ? 'an argument is missing' : `${name} is missing: ${form}`
}

const unknowns = /^Unknown (?:arguments?|commands?): (.+)$/

/** A word that there is none of, as what it was given for: an option, a command where there are some, else an argument. */
const unknownOf = (words: string, argv: readonly string[], at: AtCommand | undefined): string => {
  const own = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined)
  const isCommand = (at?.getCommands?.() ?? []).length > 0
  const sorts = words.split(', ').flatMap((word) => {
    const option = own.find((each) => each.startsWith('-') && each.replace(/^-+|=.*$/g, '') === word)
    if (option !== undefined) return [`option ${option.replace(/=.*$/, '')}`]
    // The parser tells an option in camel case, too.
    return own.includes(word) ? [`${isCommand ? 'command' : 'argument'} ${word}`] : []
  })
  return sorts.length === 0 ? `unknown: ${words}` : `there is no ${sorts.join(', no ')}`
}

/** The parser's words for people: in one line, and saying what to do where it counts words. */
const inWords = (message: string, argv: readonly string[], at: AtCommand | undefined): string => {
  if (argv[0] === 'run' && !argv.includes('--')) return noDashes
  const given = tooFew.exec(message)?.[1]
  if (given !== undefined) return missingOf(Number(given), at)
  const line = message.replaceAll(/\s+/g, ' ').trim()
  const unknown = unknowns.exec(line)?.[1]
  if (unknown !== undefined) return unknownOf(unknown, argv, at)
  return rewordings.reduce((told, [form, words]) => told.replace(form, words), line)
}

/** What the parser knows of its words beyond what its types say. */
interface Parser {
  readonly getOptions: () => { readonly array: readonly string[] }
  readonly getGroups: () => Readonly<Record<string, readonly string[] | undefined>>
  coerce: (name: string, form: (value: unknown) => unknown) => unknown
}

/** A word as people type it. */
const typedAs = (parser: Parser, name: string): string =>
  parser.getGroups()['Positionals:']?.includes(name) ? `<${name}>` : `--${name}`

/** Before any value is looked at: what is no list is not given as one. @throws CodedError `usage` */
const checkGivenOnce = (parser: Parser, given: Readonly<Record<string, unknown>>): void => {
  const lists = ['_', '--', ...parser.getOptions().array]
  // Each name is there in camel case, too.
  const isSingle = (name: string): boolean => !/[A-Z]/.test(name) && !lists.includes(name)
  const twice = Object.keys(given).find((name) => Array.isArray(given[name]) && isSingle(name))
  if (twice !== undefined) throw new CodedError('usage', `${typedAs(parser, twice)} is given once`)
}

/** Whatever refuses a value, now or later, names the word that it was given for: the parser itself would not. */
const nameRefusals = (parser: Parser): void => {
  const coerce = parser.coerce.bind(parser)
  parser.coerce = (name, form) =>
    coerce(name, (value) => {
      try {
        return form(value)
      } catch (error) {
        throw error instanceof RangeError ? new RangeError(`${typedAs(parser, name)}: ${error.message}`) : error
      }
    })
}

/** The command line's grammar; `choose` is given the command that was named. */
export const createCli = (argv: readonly string[], choose: Choose, onUsage: (message: string) => never): Argv => {
  const cli = yargs([...argv])
    .scriptName('lf')
    .locale('en')
    .parserConfiguration({ 'populate--': true, 'duplicate-arguments-array': true, 'boolean-negation': false })
    .usage('$0 <command>\n\nThe LenserFight Trust Gateway on this machine.')
    .option('json', { type: 'boolean', default: false, global: true, describe: 'Print JSON, for programs' })
    .option('gateway', {
      ...{ type: 'string', requiresArg: true, global: true },
      describe: 'The gateway’s descriptor (a file), pinned at first use',
    })
    .strict()
    .demandCommand(1, noCommand)
    .recommendCommands()
    .version(manifest.version)
    .alias({ help: 'h', version: 'V' })
    .exitProcess(false)
    .fail((message, error, at) => onUsage(inWords(message ?? error?.message ?? 'unknown', argv, at as AtCommand)))
  const parser = cli as unknown as Parser
  nameRefusals(parser)
  cli.middleware((given) => checkGivenOnce(parser, given), true)
  sessionCommands(cli, choose)
  runCommand(cli, choose, argv)
  configCommands(cli, choose)
  cli.command('gateway', 'Devices, runners, daemon and audit', (gateway) => {
    deviceCommands(gateway, choose)
    runnerCommands(gateway, choose)
    runsCommand(gateway, choose)
    approvalCommands(gateway, choose)
    policyCommands(gateway, choose)
    explainCommand(gateway, choose)
    objectsCommands(gateway, choose)
    syncCommands(gateway, choose)
    machineCommands(gateway, choose)
    doctorCommand(gateway, choose)
    return gateway
      .demandCommand(1, noCommand)
      .example('$0 gateway doctor', 'what is wrong here, if anything is')
      .example('$0 gateway explain', 'why this machine’s newest run has its level')
      .example('$0 gateway approvals --watch', 'runs that await you')
      .example('$0 gateway policy set --approval require-human', 'each run awaits a person')
  })
  return cli
    .example('$0 login --dev', 'sign in at the local stack')
    .example('$0 run -- make test', 'run and attest')
    .example('$0 gateway explain', 'why it has its level')
}
