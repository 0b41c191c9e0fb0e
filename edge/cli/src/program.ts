import { CodedError } from '@lenserfight/schemas'
import { type Act, createCli, noCommand } from './cli.ts'
import { Told } from './commands/told.ts'
import type { CliConfig } from './config.ts'
import type { Unconfigured } from './grammar/act.ts'
import { createOutput, failureOf, type Output, tellFailure } from './output.ts'
import { Ending } from './run/signals.ts'
import { wantsColours } from './terminal.ts'

interface Chosen {
  readonly act: Act
  readonly unconfigured: Unconfigured | undefined
  /** The descriptor file that the command line names. */
  readonly gateway?: string | undefined
}

const execute = async ({ act, unconfigured, gateway }: Chosen, output: Output): Promise<number> => {
  // What only a command needs is loaded only for one: help and a misspelt word are told at once.
  const [{ readCliConfig }, { createContext }] = await Promise.all([import('./config.ts'), import('./context.ts')])
  let config: CliConfig
  try {
    config = readCliConfig()
  } catch (error) {
    if (unconfigured === undefined || !(error instanceof CodedError)) throw error
    return unconfigured(output, error)
  }
  const context = createContext(config, output, gateway)
  try {
    return (await act(context)) ?? 0
  } finally {
    context.close()
  }
}

/** Who names no command is shown which there are. */
const tellUsage = async (argv: readonly string[], output: Output): Promise<void> => {
  const unused = (): never => {
    throw new CodedError('usage')
  }
  for (const line of `${await createCli(argv, unused, unused).getHelp()}\n`.split('\n')) output.note(line)
}

/** Runs one command line, the program's name left out, and returns its exit code. */
export const main = async (argv: readonly string[]): Promise<number> => {
  const words = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined)
  // The standard output of `lf run` is its command's, even where there came to be none.
  const results = words.find((word) => !word.startsWith('-')) === 'run' ? 2 : 1
  const output = createOutput({ json: words.includes('--json'), colours: wantsColours(), results })
  let chosen: Chosen | undefined
  const choose = (act: Act, unconfigured?: Unconfigured): void => {
    chosen = { act, unconfigured }
  }
  const refuse = (message: string): never => {
    throw new CodedError('usage', message)
  }
  try {
    const { gateway } = (await createCli(argv, choose, refuse).parseAsync()) as { gateway?: string }
    return chosen === undefined ? 0 : await execute({ ...chosen, gateway }, output)
  } catch (error) {
    if (error instanceof Told) return output.json ? failureOf(error.failure).exit : tellFailure(output, error.failure)
    if (error instanceof Ending) return await new Promise<never>(() => {})
    if (error instanceof CodedError && error.detail === noCommand && !output.json) await tellUsage(argv, output)
    return tellFailure(output, error)
  }
}
