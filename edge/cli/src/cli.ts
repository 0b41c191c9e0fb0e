import yargs, { type Argv } from 'yargs'
import type { Choose } from './grammar/act.ts'
import { deviceCommands } from './grammar/devices.ts'
import { machineCommands } from './grammar/machine.ts'
import { runCommand } from './grammar/run.ts'
import { sessionCommands } from './grammar/session.ts'

export type { Act } from './grammar/act.ts'

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
