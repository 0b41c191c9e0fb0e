import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeKey, publicKeyOf } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { connectClient } from '@lenserfight/testkit/device'
import type { Machine } from '../e2e/_machine.ts'

const lfFile = fileURLToPath(new URL('../../edge/cli/bin/lf', import.meta.url))

/** Every file below a folder with its bytes. */
export const filesBelow = (folder: string): { path: string; bytes: Buffer }[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .flatMap((path) => {
      try {
        return [{ path, bytes: readFileSync(path) }]
      } catch (error) {
        // A program's draft that was renamed since.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
        throw error
      }
    })

/** The ways in which 32 bytes may be written. */
export const spellingsOf = (bytes: Uint8Array): Buffer[] => {
  const raw = Buffer.from(bytes)
  return [raw, ...(['hex', 'base64', 'base64url'] as const).map((form) => Buffer.from(raw.toString(form)))]
}

/** The session keys that are in the keychain of a machine, by their kid. */
export const sessionKeys = (machine: Machine): string[] => {
  try {
    return readdirSync(join(machine.state, 'keys')).flatMap((name) => /^session-(.+)\.key$/.exec(name)?.[1] ?? [])
  } catch {
    return []
  }
}

export const profileFile = (machine: Machine): string => join(machine.home, 'lf', 'lenserfight.json')

/**
 * Asks the gateway as the session that a machine's profile names, signed by the key in its keychain: as `lf whoami` does,
 * without a process of its own. Returns that session, once the gateway has answered it.
 */
export const askAsKept = async ({ descriptor, gatewayKeys }: Stack, machine: Machine) => {
  const { session } = JSON.parse(readFileSync(profileFile(machine), 'utf8')) as { session: Kept }
  const kept = readFileSync(join(machine.state, 'keys', `session-${session.kid}.key`), 'utf8')
  const privateKey = decodeKey(kept.trim())
  const signatory = { ...session, keys: { privateKey, publicKey: publicKeyOf(privateKey) } }
  const client = await connectClient({ descriptor, keyList: gatewayKeys.list, signatory })
  try {
    const { outcome } = await client.send({ kind: 'status' })
    if (outcome.result?.lenser_id !== session.lenser) throw new Error(`not signed in: ${outcome.code}`)
    return session
  } finally {
    await client.close()
  }
}
interface Kept {
  readonly kid: string
  readonly lenser: string
}

/** Runs `lf login` at the stack and kills it (SIGKILL) after so many milliseconds, if it still runs. */
export const loginKilled = (stack: Stack, machine: Machine, as: string, afterMs: number): Promise<void> =>
  new Promise((resolve) => {
    const words = ['login', '--dev', '--as', as, '--stack', join(stack.dir, 'stack.json')]
    // A group of its own: the shell that finds Node dies with Node.
    const child = spawn(lfFile, words, { env: machine.env, cwd: machine.home, stdio: 'ignore', detached: true })
    const timer = setTimeout(() => {
      try {
        process.kill(-(child.pid as number), 'SIGKILL')
      } catch {}
    }, afterMs)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
