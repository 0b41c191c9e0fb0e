import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { CodedError } from '@lenserfight/schemas'
import { adviceFor, type Desk, failureOf } from './failures.ts'
import type { OsAnswer, OsRequest } from './protocol.ts'

const program = fileURLToPath(new URL('./program.ts', import.meta.url))

/** How the OS keychain is reached. */
export interface OsOptions extends Desk {
  /** The environment in which the keychain is looked for; this process's own where absent. */
  readonly env?: NodeJS.ProcessEnv | undefined
  /** Called once where an answer takes long: somebody may be asked for a password. */
  readonly onWait: () => void
}

const longMs = 2_000

/** What the process said before it ended or was ended; undefined where it said nothing. */
const exchange = (request: OsRequest, { env, deadlineMs, onWait }: OsOptions): Promise<string | undefined> =>
  new Promise((resolve) => {
    // The request goes through a pipe: arguments and environment of a process may be read by others.
    const child = spawn(process.execPath, ['--no-warnings', program], {
      stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
      windowsHide: true,
      ...(env === undefined ? {} : { env }),
    })
    const waiting = setTimeout(onWait, longMs)
    const deadline = setTimeout(() => child.kill('SIGKILL'), deadlineMs)
    let said = ''
    const answers = child.stdio[3] as Readable
    answers.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const end = (): void => {
      clearTimeout(waiting)
      clearTimeout(deadline)
      resolve(said.endsWith('\n') ? said : undefined)
    }
    child.once('error', end).once('close', end)
    child.stdin?.on('error', () => {})
    child.stdin?.write(`${JSON.stringify(request)}\n`)
  })

/**
 * Asks the OS keychain, in a process of its own, and never for longer than the deadline.
 * @throws CodedError `keychain_unavailable`, `keychain_locked`, `keychain_refused`, saying what to do on this system
 */
export const askOs = async (request: OsRequest, options: OsOptions): Promise<OsAnswer & { ok: true }> => {
  const said = await exchange(request, options)
  if (said === undefined) throw new CodedError('keychain_unavailable', adviceFor('silent', options))
  const answer = JSON.parse(said) as OsAnswer
  if (answer.ok) return answer
  if (answer.why !== 'failed') throw new CodedError('keychain_unavailable', adviceFor(answer.why, options))
  const { code, detail } = failureOf(answer.message, options)
  throw new CodedError(code, detail)
}
