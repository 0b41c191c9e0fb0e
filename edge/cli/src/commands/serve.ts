import { fileURLToPath } from 'node:url'
import { edgePaths, keepRefusal, readPort } from '@lenserfight/daemon/client'
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

/** Makes this process the daemon, with what `lf-gatewayd` gives it. Returns where the system cannot. */
const becomeDaemon = (env: Readonly<Record<string, string>>): void => {
  // Node has the function there too, and it throws.
  if (process.platform === 'win32') return
  const program = fileURLToPath(import.meta.resolve('@lenserfight/daemon/program'))
  process.execve?.(process.execPath, [process.execPath, '--max-semi-space-size=1', program], { ...process.env, ...env })
}

/**
 * `lf gateway serve`: the daemon in the foreground. What a flag says goes before the environment. It takes this process
 * over, since for days it would otherwise hold what only a command line needs.
 */
export const serve = async ({ edge, output }: Context, { bind, port }: ServeArguments): Promise<never> => {
  const config = {
    ...edge,
    ...(bind === undefined ? {} : { bind }),
    ...(port === undefined ? {} : { port: readPort(port) }),
  }
  // With --json, what keeps it from starting is told as lf tells it.
  if (!output.json) becomeDaemon({ LF_GATEWAY_BIND: config.bind, LF_GATEWAY_PORT: String(config.port) })
  const { runDaemon } = await import('@lenserfight/daemon')
  try {
    return await runDaemon(config, output.note)
  } catch (error) {
    // The log on standard output has its line for it.
    throw error instanceof CodedError ? new Told(error) : error
  }
}
