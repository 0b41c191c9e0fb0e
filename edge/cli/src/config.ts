import { userInfo } from 'node:os'
import { type EdgeConfig, readEdgeConfig } from '@lenserfight/daemon/client'

/** What the command line is told from outside. With `terminal.ts` the only place of this package that reads the environment. */
export interface CliConfig {
  readonly edge: EdgeConfig
  readonly path: string
  readonly cwd: string
  readonly userName: string
  readonly isCi: boolean
  readonly hasDisplay: boolean
}

/** @throws CodedError as `readEdgeConfig` does */
export const readCliConfig = (env: NodeJS.ProcessEnv = process.env): CliConfig =>
  Object.freeze({
    edge: readEdgeConfig(env),
    path: env.PATH ?? '',
    cwd: process.cwd(),
    userName: env.USER || userInfo().username,
    isCi: (env.CI ?? '') !== '',
    hasDisplay: Boolean(env.DISPLAY || env.WAYLAND_DISPLAY),
  })
