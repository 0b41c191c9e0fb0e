import { CodedError, reasonOf } from '@lenserfight/schemas'
import { type EdgeConfig, edgePaths, readEdgeConfig } from './config.ts'
import { keepRefusal } from './lifecycle.ts'
import { runDaemon } from './run.ts'

const warn = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

const readConfig = (): EdgeConfig => {
  try {
    return readEdgeConfig()
  } catch (error) {
    if (error instanceof CodedError) keepRefusal(edgePaths(), error.code)
    throw error
  }
}

/** `lf-gatewayd`: never returns. */
export const main = async (): Promise<never> => {
  try {
    return await runDaemon(readConfig(), warn)
  } catch (error) {
    if (!(error instanceof CodedError)) throw error
    warn(`${error.code}: ${error.message}`)
    return process.exit(reasonOf(error.code).exit ?? 1)
  }
}
