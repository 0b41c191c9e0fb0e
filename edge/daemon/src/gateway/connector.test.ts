import { EventEmitter, once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import { generateKeyPair, type KeyPair } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import type { KeyRing } from '../keys/key-ring.ts'
import { createPresence } from '../presence.ts'
import { keepConnected } from './connector.ts'
import type { DeviceSession } from './device-session.ts'
import type { Link, LinkEvent } from './link.ts'

test('what becomes of a connection that was left says nothing of the one in its place', async (t) => {
  const keys: KeyPair[] = [generateKeyPair(), generateKeyPair()]
  let inUse = keys[0] as KeyPair
  let turns = 0
  const ring = {
    inUse: () => inUse,
    reload: async () => {},
    tryAnother: () => {
      turns += 1
      return false
    },
  } as unknown as KeyRing
  const links: ((event: LinkEvent) => void)[] = []
  const opened = new EventEmitter()
  const connect = async (): Promise<Link> =>
    ({
      onEvent: (listener: (event: LinkEvent) => void) => {
        links.push(listener)
        opened.emit('link')
      },
      close: async () => {},
    }) as unknown as Link
  const presence = createPresence()
  const first = once(opened, 'link')
  const connector = keepConnected({
    ...{ ring, connect, presence, openSession: () => ({ end: () => {} }) as unknown as DeviceSession },
    timing: { floorMs: 1, firstCeilingMs: 1, ceilingMs: 1 },
    logger: createLogger({ service: 'test', level: 'silent' as never }),
  })
  await first
  links[0]?.('disconnected')
  t.is(presence.connection(), 'disconnected')

  const second = once(opened, 'link')
  inUse = keys[1] as KeyPair
  connector.rekey()
  await second
  links[0]?.('refused')
  await turn()
  t.is(presence.connection(), 'connected')
  t.is(presence.obstacle(), undefined)
  t.is(turns, 0)

  links[1]?.('refused')
  await turn()
  t.is(presence.obstacle(), 'connection_refused')
  t.is(turns, 1)
  await connector.close()
})
