import { userInfo } from 'node:os'
import { isatty } from 'node:tty'
import { type EdgeConfig, readEdgeConfig } from '@lenserfight/daemon/client'

/** What the command line is told from outside. The only place of this package that reads the environment. */
export interface CliConfig {
  readonly edge: EdgeConfig
  readonly path: string
  readonly cwd: string
  readonly userName: string
  readonly isCi: boolean
  readonly hasDisplay: boolean
}

const environment: NodeJS.ProcessEnv = process.env

/** Whether standard error is a terminal that wants colours (no-color.org). */
export const wantsColours = (env = environment): boolean =>
  (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb' && isatty(1) && isatty(2)

/** @throws CodedError as `readEdgeConfig` does */
export const readCliConfig = (env = environment): CliConfig =>
  Object.freeze({
    edge: readEdgeConfig(env),
    path: env.PATH ?? '',
    cwd: process.cwd(),
    userName: env.USER || userInfo().username,
    isCi: (env.CI ?? '') !== '',
    hasDisplay: Boolean(env.DISPLAY || env.WAYLAND_DISPLAY),
  })
