import { createInterface } from 'node:readline/promises'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import type { Device } from '../owner/devices.ts'

/**
 * Asks a person at the terminal.
 * @throws CodedError `usage` where there is none
 */
export const confirm = async (context: Context, question: string): Promise<boolean> => {
  if (!process.stdin.isTTY) throw new CodedError('usage', 'not a terminal: say --yes to go on without being asked')
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  // Ctrl-C and Ctrl-D close it, and are no yes: the question would fail, or never be answered.
  const { promise: closed, resolve } = Promise.withResolvers<string>()
  asking.once('close', () => resolve(''))
  try {
    const answer = await Promise.race([asking.question(`${question} [y/N] `).catch(() => ''), closed])
    return /^y(es)?$/i.test(answer.trim())
  } finally {
    asking.close()
    context.output.note('')
  }
}

/** Nothing was done, because somebody did not want it: no failure, and no success to a script. */
export const leaveAsIs = ({ output }: Context, { device_id, trust_level }: Device): number => {
  output.result({ ok: false, device_id, trust_level }, ['Nothing was changed.'])
  return 1
}
