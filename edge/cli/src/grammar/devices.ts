import { type DeviceLevel, deviceLevels } from '@lenserfight/schemas'
import type { Argv } from 'yargs'
import { asVoid, type Choose, name as nameForm } from './act.ts'

/** What an owner does with devices and runners. */
export const deviceCommands = (gateway: Argv, choose: Choose): Argv =>
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
            (await import('../commands/devices.ts')).devices(context, { trust: trust as DeviceLevel | undefined }),
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
        choose(async (context) => (await import('../commands/devices.ts')).approveDevice(context, { id, yes })),
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
        choose(async (context) => (await import('../commands/devices.ts')).revokeDevice(context, { id, reason, yes })),
    )
    .command('runners', 'Runners of the account', (runners) =>
      runners
        .command(
          'bind <name>',
          'Bind a runner to a device, making it where there is none',
          (bind) =>
            bind
              .positional('name', { type: 'string', demandOption: true, coerce: nameForm })
              .option('device', { type: 'string', requiresArg: true, describe: 'Id or name; else this machine' })
              .example('$0 gateway runners bind nightly --device build-server', ''),
          ({ name, device }) =>
            choose(
              asVoid(async (context) => (await import('../commands/owner.ts')).bindRunner(context, { name, device })),
            ),
        )
        .demandCommand(1, 'Say which command.'),
    )
