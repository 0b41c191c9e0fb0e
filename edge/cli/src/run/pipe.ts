import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdtempSync, openSync, readlinkSync, rmSync } from 'node:fs'
import { platform, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants
const helperTries = 100

/** The two ends of a pipe. The command's end blocks, as a pipe from a shell does; ours does not. */
export interface PipeEnds {
  readonly readFd: number
  readonly writeFd: number
}

/*
 * Node's own `pipe` is a socket, and on Linux a command cannot open a socket by the name /dev/stdin or /dev/stdout. Node
 * has no call that makes a pipe, but a shell has, and /proc opens what another process of this user holds. A named pipe
 * would not do on Linux: opening one anew waits for a writer that may have come and gone.
 */

/** Waits until the helper's standard input is its pipe: between fork and exec it is the shell's still. */
const isPiped = async (link: string): Promise<boolean> => {
  for (let tries = 0; tries < helperTries; tries += 1) {
    try {
      if (readlinkSync(link).startsWith('pipe:')) return true
    } catch {
      return false
    }
    await sleep(1)
  }
  return false
}

/** Has a shell make a pipe, and opens it before the helper that holds it is ended. */
const withShellPipe = async <T>(open: (path: string) => T): Promise<T | undefined> => {
  const shell = spawn('sh', ['-c', ': | exec sleep 30 >/dev/null & echo $!; wait'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  shell.on('error', () => {})
  const told = await Promise.race([once(shell.stdout, 'data'), once(shell, 'close')]).catch(() => [])
  const helper = Number(String(told[0]).trim())
  if (!Number.isInteger(helper) || helper <= 1) return undefined
  try {
    const link = `/proc/${helper}/fd/0`
    return (await isPiped(link)) ? open(link) : undefined
  } catch {
    return undefined
  } finally {
    process.kill(helper, 'SIGKILL')
  }
}

/** A named pipe that loses its name once it is open. */
const withNamedPipe = <T>(open: (path: string) => T): T | undefined => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-run-'))
  try {
    const path = join(folder, 'pipe')
    return spawnSync('mkfifo', ['-m', '600', path], { stdio: 'ignore' }).status === 0 ? open(path) : undefined
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const withPipe = async <T>(open: (path: string) => T): Promise<T | undefined> =>
  (platform() === 'linux' ? await withShellPipe(open) : undefined) ?? withNamedPipe(open)

/** A real pipe into a command; undefined where the system has none. The order of opening: no end waits for the other. */
export const pipeToCommand = (): Promise<PipeEnds | undefined> =>
  withPipe((path) => {
    const first = openSync(path, O_RDONLY | O_NONBLOCK)
    const writeFd = openSync(path, O_WRONLY | O_NONBLOCK)
    const readFd = openSync(path, O_RDONLY)
    closeSync(first)
    return { readFd, writeFd }
  })

/**
 * A real pipe out of a command; undefined where the system has none.
 * `spareFd` is a second reader that blocks: for whoever goes on copying what outlives the command.
 */
export const pipeFromCommand = (): Promise<(PipeEnds & { readonly spareFd: number }) | undefined> =>
  withPipe((path) => {
    const readFd = openSync(path, O_RDONLY | O_NONBLOCK)
    const writeFd = openSync(path, O_WRONLY)
    const spareFd = openSync(path, O_RDONLY)
    return { readFd, writeFd, spareFd }
  })
