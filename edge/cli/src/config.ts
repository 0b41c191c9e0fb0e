import { homedir, userInfo } from 'node:os'
import { type EdgeConfig, readEdgeConfig } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'
import { findEnvironmentSecrets } from './project/secrets.ts'

/** What the command line is told from outside. With `terminal.ts` the only place of this package that reads the environment. */
export interface CliConfig {
  readonly edge: EdgeConfig
  readonly path: string
  readonly cwd: string
  /** The person's home, up to which project files are looked for. */
  readonly home: string
  readonly userName: string
  readonly isCi: boolean
  readonly hasDisplay: boolean
  /** Names of variables that hold a private key (CO-5). */
  readonly environmentSecrets: readonly string[]
  /** `LF_GATEWAY_DOCTOR_TIMEOUT_MS`: how long one check may take. */
  readonly doctorMs: number
  /** LENSERFIGHT_API_KEY. A function, so that nothing that shows this object shows the key. */
  readonly apiKey: () => string | undefined
}

const defaultDoctorMs = '4000'
const mostDoctorMs = 60_000

const readDoctorMs = (text: string): number => {
  const ms = Number(text)
  if (/^\d{3,5}$/.test(text) && ms <= mostDoctorMs) return ms
  throw new CodedError('config_invalid', `LF_GATEWAY_DOCTOR_TIMEOUT_MS is a number from 100 to ${mostDoctorMs}`)
}

/** @throws CodedError as `readEdgeConfig` does, `config_invalid` */
export const readCliConfig = (env: NodeJS.ProcessEnv = process.env): CliConfig =>
  Object.freeze({
    edge: readEdgeConfig(env),
    path: env.PATH ?? '',
    cwd: process.cwd(),
    home: env.HOME || homedir(),
    userName: env.USER || userInfo().username,
    isCi: (env.CI ?? '') !== '',
    hasDisplay: Boolean(env.DISPLAY || env.WAYLAND_DISPLAY),
    environmentSecrets: findEnvironmentSecrets(env),
    doctorMs: readDoctorMs(env.LF_GATEWAY_DOCTOR_TIMEOUT_MS || defaultDoctorMs),
    apiKey: () => env.LENSERFIGHT_API_KEY?.trim() || undefined,
  })
