import { edgePaths, keepRefusal, readPort, runDaemon } from '@lenserfight/daemon'
import type { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { type Output, tellFailure } from '../output.ts'

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
export const serve = ({ edge, output }: Context, { bind, port }: ServeArguments): Promise<never> =>
  runDaemon(
    {
      ...edge,
      ...(bind === undefined ? {} : { bind }),
      ...(port === undefined ? {} : { port: readPort(port) }),
    },
    output.note,
  )
