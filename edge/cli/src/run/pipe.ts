import { spawnSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants

/** The two ends of a pipe. The command's end blocks, as a pipe from a shell does; ours does not. */
export interface PipeEnds {
  readonly readFd: number
  readonly writeFd: number
}

/** Makes a named pipe, opens it and removes its name. Undefined where the system has none. */
const withFifo = <T>(open: (path: string) => T): T | undefined => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-run-'))
  try {
    const path = join(folder, 'pipe')
    if (spawnSync('mkfifo', ['-m', '600', path], { stdio: 'ignore' }).status !== 0) return undefined
    return open(path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * A real pipe into a command. Node's own `pipe` is a socket, and a command that opens /dev/stdin cannot open a socket.
 * The order of opening matters: each end would wait for the other.
 */
export const pipeToCommand = (): PipeEnds | undefined =>
  withFifo((path) => {
    const first = openSync(path, O_RDONLY | O_NONBLOCK)
    const writeFd = openSync(path, O_WRONLY | O_NONBLOCK)
    const readFd = openSync(path, O_RDONLY)
    closeSync(first)
    return { readFd, writeFd }
  })

/**
 * A real pipe out of a command, for the same reason.
 * `spareFd` is a second reader that blocks: for whoever goes on copying what outlives the command.
 */
export const pipeFromCommand = (): (PipeEnds & { readonly spareFd: number }) | undefined =>
  withFifo((path) => {
    const readFd = openSync(path, O_RDONLY | O_NONBLOCK)
    const writeFd = openSync(path, O_WRONLY)
    const spareFd = openSync(path, O_RDONLY)
    return { readFd, writeFd, spareFd }
  })
