import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'
import { LocalError } from './errors.ts'

/** Below the range from which systems hand out ports to outgoing connections, so that none of those takes ours meanwhile. */
const lowest = 20_000
const highest = 32_000
const tries = 50

/**
 * Loopback TCP ports that were free a moment ago, all different. Somebody can still take one before it is used: whoever
 * listens on it must retry with another, or fail with the reason.
 * @throws {LocalError} `no_free_port`
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>()
  for (let attempt = 0; ports.size < count; attempt++) {
    if (attempt > tries * count)
      throw new LocalError('no_free_port', `no free loopback port from ${lowest} to ${highest}`)
    const port = randomInt(lowest, highest)
    if (!ports.has(port) && (await isFree(port))) ports.add(port)
  }
  return [...ports]
}

/** One port of {@link freePorts}. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port as number
}

/** Whether nobody listens on a loopback port now. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })
}
