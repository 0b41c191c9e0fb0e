import { connectEdge, type EdgeConnection } from '@lenserfight/bus/edge'

/** What becomes of a connection. `forbidden`: the broker let us in and refused something that our state should allow. */
export type LinkEvent = 'connected' | 'disconnected' | 'refused' | 'forbidden'

/** A connection to the broker that comes back by itself: an admitted key says something and hears its own subjects. */
export interface Link {
  readonly isConnected: () => boolean
  /** Says it, or nothing while disconnected: whatever must arrive is sent again by who awaits its receipt. */
  readonly publish: (subject: string, bytes: Uint8Array) => void
  readonly onMessage: (listener: (subject: string, bytes: Uint8Array) => void) => void
  readonly onEvent: (listener: (event: LinkEvent) => void) => void
  /** Connects anew: permissions are fixed at connect. */
  readonly reconnect: () => Promise<void>
  readonly close: () => Promise<void>
}

export interface LinkOptions extends EdgeConnection {
  /** Further subjects to hear, besides the key's own. */
  readonly subjects?: readonly string[]
}

/**
 * Connects to the gateway once.
 * @throws CodedError `gateway_unreachable`, `connection_refused`
 */
export const connectGateway = async ({ subjects = [], ...edge }: LinkOptions): Promise<Link> => {
  const bus = await connectEdge(edge)
  return {
    isConnected: bus.isConnected,
    publish: (subject, bytes) => {
      if (bus.isConnected()) bus.publish(subject, bytes)
    },
    onMessage: (listener) => {
      bus.onMessage(({ subject, bytes }) => listener(subject, bytes))
      for (const name of subjects) bus.subscribe(name, ({ subject, bytes }) => listener(subject, bytes))
    },
    onEvent: (listener) => {
      for (const event of ['connected', 'disconnected', 'refused', 'forbidden'] as const) {
        bus.events.on(event, () => listener(event))
      }
    },
    reconnect: bus.reconnect,
    close: bus.close,
  }
}
