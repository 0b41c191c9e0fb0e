import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Stack } from '@lenserfight/local/stack'

/** What a worker says of itself at /readyz. */
export interface Readiness {
  readonly status: number
  readonly state: string
  readonly pid: number
}

/** Asks a worker by its name (`verifier`, `verifier-2`, …); undefined where nobody answers. */
export const readReadiness = async (stack: Stack, name: string): Promise<Readiness | undefined> => {
  try {
    const { port } = JSON.parse(readFileSync(join(stack.dir, 'health', `${name}.json`), 'utf8')) as { port: number }
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1000) })
    const { state, pid } = (await response.json()) as { state: string; pid: number }
    return { status: response.status, state, pid }
  } catch {
    return undefined
  }
}

/** Waits until something holds; false when it did not in time. */
export const eventually = async (holds: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> => {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(100)) if (await holds()) return true
  return holds()
}
