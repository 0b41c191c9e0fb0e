import type { Argv } from 'yargs'
import { deviceTypes } from '../commands/device-types.ts'
import { asVoid, type Choose, name as nameForm, seconds } from './act.ts'

/** This machine's identity and daemon, and the account's record. */
export const machineCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway
    .command('identity', 'This machine’s identity', (identity) =>
      identity
        .command(
          'init',
          'Make this machine’s key and register it',
          (init) =>
            init
              .option('name', {
                type: 'string',
                requiresArg: true,
                coerce: nameForm,
                describe: 'Its name; else the host’s',
              })
              .option('type', { choices: deviceTypes, describe: 'What it is; else a guess' })
              .example('$0 gateway identity init --name build-server --type server', 'as its owner will see it'),
          ({ name, type }) =>
            choose(
              asVoid(async (context) =>
                (await import('../commands/identity.ts')).initIdentity(context, { name, type }),
              ),
            ),
        )
        .command(
          'show',
          'Show its public half',
          (show) => show.example('$0 gateway identity show', 'the key to compare before approving'),
          () => choose(asVoid(async (context) => (await import('../commands/identity.ts')).showIdentity(context))),
        )
        .command(
          'export-public',
          'Print its public key',
          (exported) =>
            exported
              .option('fingerprint', {
                type: 'boolean',
                default: false,
                describe: 'The fingerprint instead of the key',
              })
              .example('$0 gateway identity export-public', 'base64url, 32 bytes'),
          ({ fingerprint }) =>
            choose(
              asVoid(async (context) =>
                (await import('../commands/identity.ts')).exportPublic(context, { fingerprint }),
              ),
            ),
        )
        .command(
          'rotate',
          'Replace this machine’s key; the daemon does it by itself before the key’s end',
          (rotate) =>
            rotate
              .option('wait', {
                type: 'number',
                requiresArg: true,
                default: 30,
                coerce: seconds,
                describe: 'Seconds to wait for the gateway',
              })
              .example('$0 gateway identity rotate', 'needs the daemon'),
          ({ wait }) =>
            choose(
              asVoid(async (context) => (await import('../commands/key-change.ts')).rotateIdentity(context, { wait })),
            ),
        )
        .command(
          'reprove',
          'As its owner, give this machine a fresh key at once: after a clone, a restore, or a lost key',
          (reprove) => reprove.example('$0 gateway identity reprove', 'the former key is dead from then on'),
          () => choose(asVoid(async (context) => (await import('../commands/key-change.ts')).reproveIdentity(context))),
        )
        .demandCommand(1, 'Say which command.')
        .example('$0 gateway identity init', 'once on each machine'),
    )
    .command(
      'serve',
      'Run the daemon in the foreground',
      (serve) =>
        serve
          .option('bind', {
            type: 'string',
            requiresArg: true,
            describe: 'A loopback address to listen on [127.0.0.1]',
          })
          .option('port', { type: 'string', requiresArg: true, describe: 'Its port; 0 picks a free one [38080]' })
          .example('$0 gateway serve', 'logs are JSON lines on standard output; Ctrl-C stops it'),
      ({ bind, port }) =>
        choose(
          async (context) => (await import('../commands/serve.ts')).serve(context, { bind, port }),
          async (output, error) => (await import('../commands/serve.ts')).serveUnconfigured(output, error),
        ),
    )
    .command(
      'status',
      'Session, identity and daemon of this machine',
      (status) => status.example('$0 gateway status --json', 'for programs'),
      () => choose(asVoid(async (context) => (await import('../commands/status.ts')).status(context))),
    )
    .command(
      'operation <id>',
      'What became of an operation of this machine',
      (operation) =>
        operation
          .positional('id', { type: 'string', demandOption: true, describe: 'The operation’s id, as `lf run` says it' })
          .option('wait', {
            type: 'number',
            requiresArg: true,
            default: 0,
            coerce: seconds,
            describe: 'Seconds to wait for its result',
          })
          .example('$0 gateway operation 01a1fe42-e440-7060-9cc6-e2c515fbc88a --wait 60', 'or what it came to'),
      ({ id, wait }) =>
        choose(asVoid(async (context) => (await import('../commands/status.ts')).operation(context, { id, wait }))),
    )
    .command('audit', 'The account’s audit chain', (audit) =>
      audit
        .command(
          'verify',
          'Verify it; exit code 1 where it is broken',
          (verify) => verify.example('$0 gateway audit verify --json', 'for programs'),
          () =>
            choose(async (context) =>
              (await (await import('../commands/owner.ts')).verifyAudit(context)) ? undefined : 1,
            ),
        )
        .demandCommand(1, 'Say which command.')
        .example('$0 gateway audit verify', 'whether nothing was taken out or changed'),
    )
