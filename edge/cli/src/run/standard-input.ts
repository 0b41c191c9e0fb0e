import { createHash } from 'node:crypto'
import { closeSync, fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { isatty } from 'node:tty'
import { hashRest } from '@lenserfight/runner'
import { pipeToCommand } from './pipe.ts'

/** What a command gets as standard input, and what is known of it afterwards. */
export interface StandardInput {
  /** For `spawn`. */
  readonly stdio: 'inherit' | number | 'pipe'
  /** Begins copying; `own` is the stream that `pipe` made. */
  readonly start: (own: Writable | null) => void
  /** Ends copying and says what went in: base64url, null where it was not looked at. */
  readonly finish: () => string | null
}

const inherited = (hash: string | null): StandardInput => ({ stdio: 'inherit', start: () => {}, finish: () => hash })

/** Copies with back-pressure, hashing what is handed on; ends when either side does. */
const copy = (from: Readable, to: Writable, onChunk: (chunk: Buffer) => void): void => {
  from.on('data', (chunk: Buffer) => {
    onChunk(chunk)
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
  from.on('error', () => to.end())
  // The command reads no more (EPIPE), or is gone: what is left stays where it is.
  to.on('error', () => from.destroy())
  to.on('close', () => from.destroy())
}

/**
 * Prepares standard input. A terminal is the command's own and not looked at. A file is handed on as it is, so that it
 * can be sought in, and hashed from where it stands; everything else passes through a hasher.
 */
export const prepareStandardInput = async (): Promise<StandardInput> => {
  if (isatty(0)) return inherited(null)
  if (fstatSync(0).isFile()) return inherited(await hashRest(0))
  const ends = await pipeToCommand()
  const hash = createHash('sha256')
  return {
    stdio: ends?.readFd ?? 'pipe',
    start: (own) => {
      if (ends !== undefined) closeSync(ends.readFd)
      const to = ends === undefined ? own : new Socket({ fd: ends.writeFd, readable: false, writable: true })
      if (to !== null) copy(process.stdin, to, (chunk) => hash.update(chunk))
    },
    finish: () => {
      process.stdin.destroy()
      return hash.digest('base64url')
    },
  }
}
