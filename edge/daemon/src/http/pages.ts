import type { ReasonCode } from '@lenserfight/schemas'
import { daemonVersion } from '../version.ts'
import type { Pages } from './server.ts'

/** What the daemon shows of itself. Nothing of it is secret, and none of it changes anything. */
export interface Shown {
  readonly identity: () => Readonly<Record<string, unknown>> & { readonly device_id: string }
  readonly obstacle: () => ReasonCode | undefined
  /** Operations that await their result. */
  readonly pending: () => number
}

/**
 * The loopback listener's pages (RFC-0003 §8). Every user of this machine may learn that a daemon lives; whose it is, and
 * how it fares, only programs of its own user. Times are Unix seconds.
 */
export const createPages = ({ identity, obstacle, pending }: Shown): Pages => ({
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
})
