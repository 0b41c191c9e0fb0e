import { Worker } from 'node:worker_threads'
import { sodium as defaultSodium, loadSodium, type SodiumBuild } from '@lenserfight/envelope'
import { InfrastructureError } from '@lenserfight/runtime'
import { checkPacked } from './check.ts'
import { packChecks, type SignatureCheck } from './pack.ts'

export interface SignaturePool {
  readonly build: SodiumBuild
  readonly threads: number
  /**
   * Checks signatures; a flag each, in order, 1 where it verified.
   * @throws InfrastructureError where a thread died; another takes its place
   */
  readonly verify: (checks: readonly SignatureCheck[]) => Promise<Uint8Array>
  readonly close: () => Promise<void>
}

export interface SignaturePoolOptions {
  /** Threads; 0 checks on the calling one. */
  readonly threads: number
  /** The build of libsodium; the native one where it loads, by default. */
  readonly build?: SodiumBuild
}

interface Waiting {
  readonly resolve: (flags: Uint8Array) => void
  readonly reject: (error: Error) => void
}

interface Thread {
  readonly check: (packed: ArrayBuffer) => Promise<Uint8Array>
  readonly isAlive: () => boolean
  readonly close: () => Promise<void>
}

/** Below this many, handing a part to another thread costs more than it saves. */
const leastPart = 32

const startThread = (build: SodiumBuild): Thread => {
  const worker = new Worker(new URL('./thread.ts', import.meta.url), { workerData: { build } })
  const waiting: Waiting[] = []
  let alive = true
  const end = (cause?: unknown): void => {
    alive = false
    const error = new InfrastructureError('a signature thread ended', { cause })
    for (const { reject } of waiting.splice(0)) reject(error)
  }
  // A thread answers in order, so answers are counted off.
  worker.on('message', (flags: Uint8Array) => waiting.shift()?.resolve(flags))
  worker.on('error', end).on('exit', () => end())
  const check = (packed: ArrayBuffer): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject })
      worker.postMessage(packed, [packed])
    })
  return {
    check,
    isAlive: () => alive,
    close: async () => {
      await worker.terminate()
    },
  }
}

const split = (checks: readonly SignatureCheck[], threads: number): (readonly SignatureCheck[])[] => {
  const size = Math.max(leastPart, Math.ceil(checks.length / threads))
  const parts: (readonly SignatureCheck[])[] = []
  for (let at = 0; at < checks.length; at += size) parts.push(checks.slice(at, at + size))
  return parts
}

const joinFlags = (parts: readonly Uint8Array[]): Uint8Array =>
  parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts)

/** Ed25519 off the main thread: the one thing here that takes long and needs nothing but its bytes. */
export const createSignaturePool = async ({ threads, build }: SignaturePoolOptions): Promise<SignaturePool> => {
  const sodium = build === undefined ? defaultSodium : await loadSodium(build)
  if (threads === 0) {
    return {
      build: sodium.build,
      threads,
      verify: async (checks) => checkPacked(new Uint8Array(packChecks(checks)), sodium),
      close: async () => {},
    }
  }
  const pool = Array.from({ length: threads }, () => startThread(sodium.build))
  let next = 0
  /** The threads in turn; one that ended is replaced first. */
  const take = (): Thread => {
    next = (next + 1) % threads
    const thread = pool[next] as Thread
    if (thread.isAlive()) return thread
    const fresh = startThread(sodium.build)
    pool[next] = fresh
    return fresh
  }
  const verify = async (checks: readonly SignatureCheck[]): Promise<Uint8Array> => {
    if (checks.length === 0) return new Uint8Array(0)
    return joinFlags(await Promise.all(split(checks, threads).map((part) => take().check(packChecks(part)))))
  }
  const close = async (): Promise<void> => {
    await Promise.all(pool.map((thread) => thread.close()))
  }
  return { build: sodium.build, threads, verify, close }
}
