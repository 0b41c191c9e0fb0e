import { createConnection, isIP } from 'node:net'
import { performance } from 'node:perf_hooks'
import { CodedError } from '@lenserfight/schemas'
import { isLoopback } from '../http/bind.ts'
import type { Verdict } from './types.ts'

const defaultPort = 4222

/** Host and port of a broker's address. */
export const hostOf = (url: string): { host: string; port: number } => {
  const { hostname, port } = new URL(url)
  if (hostname === '') throw new TypeError('an address without a host')
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? defaultPort : Number(port) }
}

/**
 * How long a TCP connection to the gateway takes, milliseconds. It is hung up at once: that something listens there is
 * all that is asked, and who it is, is asked by signatures.
 * @throws CodedError `gateway_unreachable`, `descriptor_invalid`
 */
export const reachGateway = (url: string, signal: AbortSignal): Promise<number> =>
  new Promise((resolve, reject) => {
    let address: { host: string; port: number }
    try {
      address = hostOf(url)
    } catch (cause) {
      return reject(new CodedError('descriptor_invalid', url, { cause }))
    }
    const began = performance.now()
    const socket = createConnection(address)
    const fail = (cause?: unknown): void => {
      socket.destroy()
      reject(new CodedError('gateway_unreachable', `${url} does not answer`, { cause }))
    }
    signal.addEventListener('abort', () => fail(), { once: true })
    socket.once('error', fail)
    socket.once('connect', () => {
      socket.destroy()
      resolve(Math.round(performance.now() - began))
    })
  })

export interface TransportFacts {
  /** Where the gateway is. */
  readonly url: string
  /** How long reaching it took, milliseconds. */
  readonly connectMs: number
  /** What the running daemon listens on, `host:port`; undefined where none runs. */
  readonly bound: readonly string[] | undefined
}

const isOpen = (bound: string): boolean => {
  const address = bound.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return isIP(address) === 0 || !isLoopback(address)
}

/** The transport: that the gateway is there, and that nobody outside reaches the daemon (LH-1, LH-2). Pure. */
export const judgeTransport = ({ url, connectMs, bound }: TransportFacts): Verdict => {
  const data = { url, connect_ms: connectMs, bound: bound ?? null }
  const open = bound?.find(isOpen)
  if (open !== undefined) return { ok: false, code: 'public_bind_forbidden', detail: `it listens on ${open}`, data }
  const listens =
    bound === undefined ? 'no daemon listens' : `listening on ${bound.length === 0 ? 'no port' : bound.join(', ')}`
  return { ok: true, detail: `${url} reached in ${connectMs} ms; ${listens}`, data }
}
