import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, write as fsWrite } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { isatty } from 'node:tty'
import { promisify } from 'node:util'
import { pipeFromCommand } from './pipe.ts'

const write = promisify(fsWrite)
const fullPipeMs = 5
const readerGone: readonly string[] = ['EPIPE', 'ECONNRESET']

/** What a command gets as standard output and error, and what is known of it afterwards. */
export interface StandardOutput {
  /** For `spawn`. */
  readonly stdio: 'inherit' | number | 'pipe'
  readonly errorStdio: 'inherit' | number
  /** Begins copying; `own` is the stream that `pipe` made. */
  readonly start: (own: Readable | null) => void
  /**
   * Waits for what the command wrote to be handed on, or to be interrupted, and says what came out: base64url, null for a
   * terminal.
   */
  readonly finish: (interrupted: Promise<unknown>) => Promise<string | null>
  /** The system's code for why not all of it could be written where it goes; null where it was, or nobody reads there. */
  readonly failure: () => string | null
}

/** Writes all of it, however slowly the reader reads. In a thread, so that signals are heard meanwhile. */
const writeAll = async (fd: number, chunk: Buffer): Promise<void> => {
  for (let from = 0; from < chunk.length; ) {
    try {
      from += (await write(fd, chunk, from)).bytesWritten
    } catch (error) {
      // Somebody made the shared pipe non-blocking; there is nothing to wait on but time.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      await sleep(fullPipeMs)
    }
  }
}

/** Whether both go to one file or pipe, where the order of what is written to either matters. */
const goTogether = (): boolean => {
  const [out, error] = [fstatSync(1), fstatSync(2)]
  return out.dev === error.dev && out.ino === error.ino && !out.isCharacterDevice()
}

/** Copies to standard output until the end, or until nobody reads there any more. */
const createCopy = (from: Readable, onBroken: () => void) => {
  const hash = createHash('sha256')
  const state = { isOver: false, isQuiet: true, failure: null as string | null }
  const run = async (): Promise<void> => {
    for await (const chunk of from) {
      state.isQuiet = false
      hash.update(chunk as Buffer)
      await writeAll(1, chunk as Buffer)
      state.isQuiet = true
    }
  }
  const done = run()
    .catch(({ code = 'EIO', syscall }: NodeJS.ErrnoException) => {
      // With no reader left, the command's next write tells it (SIGPIPE), as it would without us. Of all else, only we know.
      if (syscall === 'write' && !readerGone.includes(code)) state.failure = code
      from.destroy()
      onBroken()
    })
    .finally(() => {
      state.isOver = true
    })
  return { hash, state, done }
}

/** One turn of the event loop, in which whatever the pipe holds is read. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** The command is gone, and what it wrote is in the pipe: two turns without anything new, and it is all here. */
const drain = async ({ state, done }: ReturnType<typeof createCopy>): Promise<void> => {
  for (let turns = 0; turns < 2 && !state.isOver; turns = state.isQuiet ? turns + 1 : 0) {
    await turn()
    if (!state.isQuiet) await Promise.race([done, sleep(1)])
  }
}

/**
 * Prepares standard output. A terminal is the command's own. Everything else passes through a hasher on a real pipe;
 * where standard error goes to the same place, it shares that pipe, so that the order stays.
 */
export const prepareStandardOutput = async (): Promise<StandardOutput> => {
  if (isatty(1))
    return { stdio: 'inherit', errorStdio: 'inherit', start: () => {}, finish: async () => null, failure: () => null }
  const ends = await pipeFromCommand()
  let copy: ReturnType<typeof createCopy> | undefined
  let from: Readable | undefined
  let spareFd = ends?.spareFd

  const closeSpare = (): void => {
    if (spareFd !== undefined) closeSync(spareFd)
    spareFd = undefined
  }
  /** What a process that outlives the command still writes goes on to where it goes, without us. */
  const handOver = (fd: number): void => {
    const heir = spawn('cat', [], { stdio: [fd, 1, 'ignore'], detached: true })
    heir.on('error', () => {})
    heir.unref()
  }
  const finish = async (interrupted: Promise<unknown>): Promise<string | null> => {
    if (copy === undefined) return null
    const drained = drain(copy)
    await Promise.race([drained, interrupted])
    if (!copy.state.isOver && spareFd !== undefined) handOver(spareFd)
    closeSpare()
    from?.destroy()
    return copy.hash.copy().digest('base64url')
  }
  return {
    stdio: ends?.writeFd ?? 'pipe',
    errorStdio: ends !== undefined && goTogether() ? ends.writeFd : 'inherit',
    start: (own) => {
      if (ends !== undefined) closeSync(ends.writeFd)
      from = ends === undefined ? (own ?? undefined) : new Socket({ fd: ends.readFd, readable: true, writable: false })
      if (from !== undefined) copy = createCopy(from, closeSpare)
    },
    finish,
    failure: () => copy?.state.failure ?? null,
  }
}
