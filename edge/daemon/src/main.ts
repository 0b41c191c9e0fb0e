#!/usr/bin/env node
import { CodedError, reasonOf } from '@lenserfight/schemas'
import { readEdgeConfig } from './config.ts'
import { runDaemon } from './run.ts'

const warn = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

try {
  await runDaemon(readEdgeConfig(), warn)
} catch (error) {
  if (!(error instanceof CodedError)) throw error
  warn(`${error.code}: ${error.message}`)
  process.exit(reasonOf(error.code).exit ?? 1)
}
