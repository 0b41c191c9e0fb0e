import { type CheckName, checkNames } from '@lenserfight/daemon/check-names'
import type { Argv } from 'yargs'
import type { Choose } from './act.ts'

const isCheckName = (name: string): name is CheckName => (checkNames as readonly string[]).includes(name)

/** Names of checks, by commas. */
const checkList = (given: readonly string[]): CheckName[] =>
  given
    .flatMap((each) => each.split(','))
    .map((name) => {
      if (isCheckName(name)) return name
      throw new RangeError(`there is no check "${name}"; there are ${checkNames.join(', ')}`)
    })

/** What is wrong with this machine. */
export const doctorCommand = (gateway: Argv, choose: Choose): Argv =>
  gateway.command(
    'doctor',
    'What is wrong with this machine, and what to do',
    (doctor) =>
      doctor
        .option('check', {
          type: 'string',
          requiresArg: true,
          array: true,
          nargs: 1,
          default: [],
          coerce: checkList,
          describe: `Only these, by commas: ${checkNames.join(', ')}`,
        })
        .example('$0 gateway doctor', 'exit code 3 where anything is wrong')
        .example('$0 gateway doctor --check clock,keychain --json', 'for programs'),
    ({ check }) =>
      choose(
        async (context) => (await import('../commands/doctor.ts')).doctor(context, check),
        async (output, error) => (await import('../commands/doctor.ts')).doctorUnconfigured(output, error, check),
      ),
  )
