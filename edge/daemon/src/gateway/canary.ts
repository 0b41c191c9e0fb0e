import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError, mayConclude, type ReceiptItem } from '@lenserfight/schemas'
import type { GatewayClient } from './client.ts'

const mostInFlight = 16

/** Sends canaries: signed envelopes that go through every hop and change nothing. None is sent again. */
export interface Canary {
  readonly attach: (client: Pick<GatewayClient, 'sign' | 'publish'>) => void
  readonly detach: () => void
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /**
   * Sends one and resolves with what its receipt says of the hops, and when it was sent and received here.
   * @throws CodedError the refusal's code, `gateway_unreachable` where nothing can be sent, `answer_timeout`, `rate_limited`
   */
  readonly send: (timeoutMs: number, signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>
}

/** @param now milliseconds since 1970 */
export const createCanary = (now: () => number = Date.now): Canary => {
  const sent = new Map<string, (item: ReceiptItem) => void>()
  let client: Pick<GatewayClient, 'sign' | 'publish'> | undefined

  return {
    attach: (next) => {
      client = next
    },
    detach: () => {
      client = undefined
    },
    receive: (items, service) => {
      for (const item of items) if (mayConclude(service, 'canary', item.ok)) sent.get(item.digest)?.(item)
    },
    send: async (timeoutMs, signal) => {
      if (client === undefined) throw new CodedError('gateway_unreachable')
      if (sent.size >= mostInFlight) throw new CodedError('rate_limited')
      const sent_at = now()
      const began = performance.now()
      const { digest, bytes } = client.sign('canary', { sent_at })
      const { promise, resolve } = Promise.withResolvers<ReceiptItem>()
      const ended = new AbortController()
      sent.set(digest, resolve)
      try {
        client.publish('canary', bytes)
        const timeUp = sleep(timeoutMs, undefined, { signal: AbortSignal.any([signal, ended.signal]) })
        const item = await Promise.race([promise, timeUp.catch(() => undefined)])
        if (item === undefined) throw new CodedError('answer_timeout', 'the canary did not come back')
        if (!item.ok) throw new CodedError(item.code ?? 'internal_error', item.detail)
        return { ...item.result, sent_at, received_at: sent_at + (performance.now() - began) }
      } finally {
        ended.abort()
        sent.delete(digest)
      }
    },
  }
}
