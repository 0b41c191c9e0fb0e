import type { ReasonCode } from '@lenserfight/schemas'
import { daemonVersion } from '../version.ts'
import type { Pages } from './server.ts'

/** What the daemon shows of itself, of which nothing is secret, and what it does when it is asked. */
export interface Shown {
  readonly identity: () => Readonly<Record<string, unknown>> & { readonly device_id: string }
  readonly obstacle: () => ReasonCode | undefined
  /** Operations that await their result, and edits of objects. */
  readonly pending: () => number
  /**
   * Takes over what changed elsewhere.
   * @throws CodedError
   */
  readonly pull: () => Promise<Readonly<Record<string, unknown>>>
}

/** One at a time: who asks while it is under way is told what comes of it. */
const shared = <T>(work: () => Promise<T>): (() => Promise<T>) => {
  let underWay: Promise<T> | undefined
  return () => {
    underWay ??= work().finally(() => {
      underWay = undefined
    })
    return underWay
  }
}

/**
 * The loopback listener's pages (RFC-0003 §8). Every user of this machine may learn that a daemon lives; whose it is, and
 * how it fares, only programs of its own user. Times are Unix seconds.
 */
export const createPages = ({ identity, obstacle, pending, pull }: Shown): Pages => ({
  everybodys: {
    '/healthz': () => ({ status: 'ok' }),
  },
  owners: {
    '/status': () => ({
      status: obstacle() === undefined ? 'ok' : 'degraded',
      ...(obstacle() === undefined ? {} : { code: obstacle() }),
      device_id: identity().device_id,
      daemon_version: daemonVersion,
      time: Math.floor(Date.now() / 1000),
    }),
    '/identity': identity,
    '/outbox': () => ({ pending: pending() }),
  },
  actions: { '/sync/pull': shared(pull) },
})
