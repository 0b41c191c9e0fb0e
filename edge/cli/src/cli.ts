import { type DeviceLevel, deviceLevels } from '@lenserfight/schemas'
import yargs, { type Argv } from 'yargs'
import { deviceTypes } from './commands/device-types.ts'
import type { Context } from './context.ts'

/** What a command does; a number is its exit code. */
export type Act = (context: Context) => Promise<number | undefined>
type Choose = (act: Act) => void

const asVoid =
  (act: (context: Context) => Promise<unknown>): Act =>
  async (context) => {
    await act(context)
    return undefined
  }

const sessionCommands = (cli: Argv, choose: Choose): Argv =>
  cli
    .command(
      'login',
      'Sign in: register a session key for your account',
      (login) =>
        login
          .option('gateway', {
            type: 'string',
            requiresArg: true,
            describe: 'The gateway’s descriptor (a file), pinned at first use',
          })
          .option('token-file', {
            type: 'string',
            requiresArg: true,
            describe: 'A sign-in token bound to the nonce; - is standard input',
          })
          .option('nonce', { type: 'boolean', describe: 'Print the nonce to get that token with' })
          .option('dev', { type: 'boolean', describe: 'Ask the development issuer of the local stack' })
          .option('as', { type: 'string', requiresArg: true, implies: 'dev', describe: 'Sign in as this name' })
          .option('stack', {
            type: 'string',
            requiresArg: true,
            implies: 'dev',
            describe: 'The stack’s stack.json; else the nearest .local/stack.json',
          })
          .conflicts('dev', ['token-file', 'nonce'])
          .example('$0 login --dev --as alice', 'with the stack that `npm start` runs')
          .example('$0 login --gateway gateway.json --token-file -', 'with a token from elsewhere'),
      (args) => choose(asVoid(async (context) => (await import('./commands/login.ts')).login(context, args))),
    )
    .command(
      'logout',
      'Forget the session’s key',
      (logout) => logout.example('$0 logout', 'this machine’s own identity stays'),
      () => choose(asVoid(async (context) => (await import('./commands/login.ts')).logout(context))),
    )
    .command(
      'whoami',
      'Whose session this machine holds',
      (whoami) => whoami.example('$0 whoami --json', 'for programs'),
      () => choose(asVoid(async (context) => (await import('./commands/whoami.ts')).whoami(context))),
    )

/** Everything after `--`, as it was given: yargs would take some words for numbers. */
const commandOf = (argv: readonly string[]): readonly string[] =>
  argv.includes('--') ? argv.slice(argv.indexOf('--') + 1) : []

const seconds = (value: number): number => {
  if (!(value >= 0 && value <= 600)) throw new RangeError('seconds are a number from 0 to 600')
  return value
}

const runCommand = (cli: Argv, choose: Choose, argv: readonly string[]): Argv =>
  cli.command(
    'run',
    'Run a command and attest it',
    (run) =>
      run
        .usage('$0 run [options] -- COMMAND…\n\nRuns a command as if alone, and attests what ran and what came of it.')
        .option('submission', { type: 'string', requiresArg: true, describe: 'The submission that this run backs' })
        .option('runner', { type: 'string', requiresArg: true, describe: 'The runner that runs it' })
        .option('contender', { type: 'string', requiresArg: true, describe: 'The contender that it runs for' })
        .option('lens-version', {
          type: 'string',
          requiresArg: true,
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
        .example('$0 run --runner ID --report run.json -- ./agent', 'for programs')
        .epilog('The command has its own input, output, exit code and signals. What lf says goes to standard error.'),
    (args) => {
      const command = commandOf(argv)
      const { submission, runner, contender, lensVersion, input, output, report, wait } = args
      const named = { submission, runner, contender, lensVersion, report }
      choose(async (context) =>
        (await import('./commands/run.ts')).run(context, {
          ...named,
          command: command.map(String),
          input,
          output,
          wait,
        }),
      )
    },
  )

const deviceCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway
    .command(
      'devices',
      'The account’s devices',
      (devices) =>
        devices
          .option('trust', { choices: deviceLevels, describe: 'Only those of this level' })
          .example('$0 gateway devices --trust pending', 'those that await approval'),
      ({ trust }) =>
        choose(
          asVoid(async (context) =>
            (await import('./commands/devices.ts')).devices(context, { trust: trust as DeviceLevel | undefined }),
          ),
        ),
    )
    .command(
      'approve-device <id>',
      'Approve a device, by its id or name',
      (approve) =>
        approve
          .positional('id', { type: 'string', demandOption: true })
          .option('yes', { type: 'boolean', default: false, describe: 'Do not ask' })
          .example('$0 gateway approve-device build-server', 'shows its key and asks'),
      ({ id, yes }) =>
        choose(asVoid(async (context) => (await import('./commands/devices.ts')).approveDevice(context, { id, yes }))),
    )
    .command(
      'revoke-device <id>',
      'Revoke a device for ever, by its id or name',
      (revoke) =>
        revoke
          .positional('id', { type: 'string', demandOption: true })
          .option('reason', { type: 'string', requiresArg: true, describe: 'Why; it is audited' })
          .option('yes', { type: 'boolean', default: false, describe: 'Do not ask' })
          .example('$0 gateway revoke-device old-laptop --reason lost', ''),
      ({ id, reason, yes }) =>
        choose(
          asVoid(async (context) => (await import('./commands/devices.ts')).revokeDevice(context, { id, reason, yes })),
        ),
    )
    .command('runners', 'Runners of the account', (runners) =>
      runners
        .command(
          'bind <name>',
          'Bind a runner to a device, making it where there is none',
          (bind) =>
            bind
              .positional('name', { type: 'string', demandOption: true })
              .option('device', { type: 'string', requiresArg: true, describe: 'Id or name; else this machine' })
              .example('$0 gateway runners bind nightly --device build-server', ''),
          ({ name, device }) =>
            choose(
              asVoid(async (context) => (await import('./commands/owner.ts')).bindRunner(context, { name, device })),
            ),
        )
        .demandCommand(1, 'Say which command.'),
    )

const machineCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway
    .command('identity', 'This machine’s identity', (identity) =>
      identity
        .command(
          'init',
          'Make this machine’s key and register it',
          (init) =>
            init
              .option('name', { type: 'string', requiresArg: true, describe: 'Its name; else the host’s' })
              .option('type', { choices: deviceTypes, describe: 'What it is; else a guess' })
              .example('$0 gateway identity init --name build-server --type server', ''),
          ({ name, type }) =>
            choose(
              asVoid(async (context) => (await import('./commands/identity.ts')).initIdentity(context, { name, type })),
            ),
        )
        .command(
          'show',
          'Show its public half',
          (show) => show.example('$0 gateway identity show', 'the key to compare before approving'),
          () => choose(asVoid(async (context) => (await import('./commands/identity.ts')).showIdentity(context))),
        )
        .demandCommand(1, 'Say which command.'),
    )
    .command(
      'serve',
      'Run the daemon in the foreground',
      (serve) => serve.example('$0 gateway serve', 'logs are JSON lines on standard output; Ctrl-C stops it'),
      () => choose(async ({ edge, output }) => (await import('@lenserfight/daemon')).runDaemon(edge, output.note)),
    )
    .command(
      'status',
      'Session, identity and daemon of this machine',
      (status) => status.example('$0 gateway status --json', 'for programs'),
      () => choose(asVoid(async (context) => (await import('./commands/status.ts')).status(context))),
    )
    .command(
      'operation <id>',
      'What became of an operation of this machine',
      (operation) =>
        operation
          .positional('id', { type: 'string', demandOption: true })
          .option('wait', {
            type: 'number',
            requiresArg: true,
            default: 0,
            coerce: seconds,
            describe: 'Seconds to wait for its result',
          })
          .example('$0 gateway operation ID --wait 60', ''),
      ({ id, wait }) =>
        choose(asVoid(async (context) => (await import('./commands/status.ts')).operation(context, { id, wait }))),
    )
    .command('audit', 'The account’s audit chain', (audit) =>
      audit
        .command(
          'verify',
          'Verify it; exit code 1 where it is broken',
          (verify) => verify.example('$0 gateway audit verify', ''),
          () =>
            choose(async (context) =>
              (await (await import('./commands/owner.ts')).verifyAudit(context)) ? undefined : 1,
            ),
        )
        .demandCommand(1, 'Say which command.'),
    )

/** The command line's grammar; `choose` is given the command that was named. */
export const createCli = (argv: readonly string[], choose: Choose, onUsage: (message: string) => never): Argv => {
  const cli = yargs([...argv])
    .scriptName('lf')
    .locale('en')
    .parserConfiguration({ 'populate--': true, 'duplicate-arguments-array': true, 'boolean-negation': false })
    .usage('$0 <command>\n\nThe LenserFight Trust Gateway on this machine.')
    .option('json', { type: 'boolean', default: false, global: true, describe: 'Print JSON, for programs' })
    .strict()
    .demandCommand(1, 'Say which command.')
    .version(false)
    .exitProcess(false)
    .fail((message, error) => onUsage(message ?? error?.message ?? 'unknown'))
  sessionCommands(cli, choose)
  runCommand(cli, choose, argv)
  cli.command('gateway', 'Devices, runners, daemon and audit', (gateway) => {
    deviceCommands(gateway, choose)
    machineCommands(gateway, choose)
    return gateway.demandCommand(1, 'Say which command.').example('$0 gateway status', '')
  })
  return cli.example('$0 login --dev', 'sign in at the local stack').example('$0 run -- make test', 'run and attest')
}
