import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { readTestEnvironment } from './env.ts'

/**
 * Puts what a program said to people among the run's logs, so that the scan after the run looks through that too. Only
 * what the program itself says belongs there: not the output of a command that it ran, nor a secret that it was asked for.
 * @param name of the program, as the file is called
 * @param folder where the run's logs are; nothing is kept where a test is run by itself
 */
export const logOutput = (name: string, text: string, folder = readTestEnvironment().logs): void => {
  if (folder === undefined || text === '') return
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  appendFileSync(join(folder, `${name}.log`), text.endsWith('\n') ? text : `${text}\n`, { mode: 0o600 })
}
