import { readPort, runDaemon } from '@lenserfight/daemon'
import type { Context } from '../context.ts'

export interface ServeArguments {
  readonly bind?: string | undefined
  readonly port?: string | undefined
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
