import { type DeviceLevel, deviceLevels } from '@lenserfight/schemas'
import type { Argv } from 'yargs'
import { readDuration, readPastTime } from '../times.ts'
import { asVoid, type Choose, reason as reasonForm, rotationSeconds } from './act.ts'

const idHelp = 'Its id, 8 or more characters that only its id begins with, or its name'
const idOption = { type: 'string', demandOption: true, describe: idHelp } as const
const reasonOption = {
  type: 'string',
  requiresArg: true,
  coerce: reasonForm,
  describe: 'Why; it is audited',
} as const
const yesOption = { type: 'boolean', default: false, describe: 'Do not ask' } as const

const changes = () => import('../commands/device-changes.ts')

/** What an owner does with devices. */
export const deviceCommands = (gateway: Argv, choose: Choose): Argv =>
  gateway
    .command(
      'devices',
      'The account’s devices',
      (devices) =>
        devices
          .option('trust', { requiresArg: true, choices: deviceLevels, describe: 'Only those of this level' })
          .option('pending', {
            type: 'boolean',
            default: false,
            describe: 'Those that await approval, with the words to compare',
          })
          .check(({ trust, pending }) => {
            if (trust !== undefined && pending) throw new RangeError('--pending and --trust exclude each other')
            return true
          })
          .example('$0 gateway devices --pending', 'those that await approval'),
      ({ trust, pending }) =>
        choose(
          asVoid(async (context) =>
            (await import('../commands/devices.ts')).devices(context, {
              trust: trust as DeviceLevel | undefined,
              pending,
            }),
          ),
        ),
    )
    .command(
      'approve-device <id>',
      'Approve a device after comparing the words of its key',
      (approve) =>
        approve
          .positional('id', idOption)
          .option('yes', yesOption)
          .example('$0 gateway approve-device build-server', 'shows the words of its key and asks'),
      ({ id, yes }) =>
        choose(async (context) => (await import('../commands/approve.ts')).approveDevice(context, { id, yes })),
    )
    .command(
      'revoke-device <id>',
      'Revoke a device: never again',
      (revoke) =>
        revoke
          .positional('id', idOption)
          .option('reason', reasonOption)
          .option('compromised-since', {
            type: 'string',
            requiresArg: true,
            coerce: (text: string) => readPastTime(text),
            describe: 'Since when others may have had its key: a time (UTC), or how long ago (2h, 3d)',
          })
          .option('yes', yesOption)
          .example('$0 gateway revoke-device old-laptop --reason sold', 'what it attested stays')
          .example('$0 gateway revoke-device old-laptop --compromised-since 3d', 'and what it attested since falls')
          .epilog('For ever. To stop a device that may prove itself again: `lf gateway suspend-device`.'),
      ({ id, reason, compromisedSince, yes }) =>
        choose(async (context) => (await changes()).revokeDevice(context, { id, reason, compromisedSince, yes })),
    )
    .command(
      'suspend-device <id>',
      'Suspend a device: it may prove itself again',
      (suspend) =>
        suspend
          .positional('id', idOption)
          .option('reason', reasonOption)
          .option('yes', { ...yesOption, describe: 'Nothing is asked anyway; for scripts that say it everywhere' })
          .example('$0 gateway suspend-device laptop --reason "left on a train"', 'it runs nothing from now on')
          .epilog('Taken back by `lf gateway reinstate-device`. To end a device for ever: `lf gateway revoke-device`.'),
      ({ id, reason }) => choose(asVoid(async (context) => (await changes()).suspendDevice(context, { id, reason }))),
    )
    .command(
      'reinstate-device <id>',
      'Take a suspension back',
      (reinstate) =>
        reinstate
          .positional('id', idOption)
          .option('yes', { ...yesOption, describe: 'Do not ask, even where its key was replaced meanwhile' })
          .example('$0 gateway reinstate-device laptop', 'shows why it was suspended; it has the level of before'),
      ({ id, yes }) => choose(async (context) => (await changes()).reinstateDevice(context, { id, yes })),
    )
    .command(
      'rotate-device <id>',
      'Make a device change its key',
      (rotate) =>
        rotate
          .positional('id', idOption)
          .option('within', {
            type: 'string',
            requiresArg: true,
            default: '15m',
            coerce: (text: string) => rotationSeconds(readDuration(text)),
            describe: 'How long its key stays good at most',
          })
          .example('$0 gateway rotate-device build-server --within 2h', 'its daemon makes another before'),
      ({ id, within }) => choose(asVoid(async (context) => (await changes()).rotateDevice(context, { id, within }))),
    )
