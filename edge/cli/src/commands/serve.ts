import { edgePaths, keepRefusal, readPort, runDaemon } from '@lenserfight/daemon'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { type Output, tellFailure } from '../output.ts'
import { Told } from './told.ts'

export interface ServeArguments {
  readonly bind?: string | undefined
  readonly port?: string | undefined
}

/** The configuration itself is refused: that too is an event of this device's daemon. */
export const serveUnconfigured = async (output: Output, error: CodedError): Promise<number> => {
  keepRefusal(edgePaths(), error.code)
  return tellFailure(output, error)
}

/** `lf gateway serve`: the daemon in the foreground. What a flag says goes before the environment. */
export const serve = async ({ edge, output }: Context, { bind, port }: ServeArguments): Promise<never> => {
  const config = {
    ...edge,
    ...(bind === undefined ? {} : { bind }),
    ...(port === undefined ? {} : { port: readPort(port) }),
  }
  try {
    return await runDaemon(config, output.note)
  } catch (error) {
    // The log on standard output has its line for it.
    throw error instanceof CodedError ? new Told(error) : error
  }
}
