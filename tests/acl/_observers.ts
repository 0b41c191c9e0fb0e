import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { createUser } from '@nats-io/nkeys'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { connectWithSeed } from './_acl.ts'

export interface Seen {
  readonly account: string
  readonly subject: string
  readonly text: string
}

/** Somebody in each account who may do everything and hears everything. */
export interface Observers {
  readonly core: NatsConnection
  readonly seen: Seen[]
  /** Waits until all that was delivered to them before is in `seen`. */
  readonly flush: () => Promise<void>
  readonly close: () => Promise<void>
}

const accounts = ['SYS', 'CORE', 'EDGE'] as const

/**
 * Restarts the broker with its own configuration and one user more in each account, and listens to all there is.
 * The guards themselves stay as they are.
 */
export const placeObservers = async (stack: Stack): Promise<Observers> => {
  const users = accounts.map((account) => ({ account, pair: createUser() }))
  let configText = readFileSync(join(dirname(stack.nats.storeDir), 'nats.conf'), 'utf8')
  for (const { account, pair } of users) {
    const list = new RegExp(`(  ${account}: \\{[^}]*?users: \\[\\n)`)
    if (!list.test(configText)) throw new Error(`no users of ${account} in the configuration`)
    configText = configText
      .replace(/limits: \{[^}]*\}\n/, '')
      .replace(list, `$1      { nkey: ${pair.getPublicKey()} }\n`)
      .replace('auth_users: [', `auth_users: [${pair.getPublicKey()}, `)
  }
  await stack.nats.restart({ configText })
  await stack.whenReady()
  const seen: Seen[] = []
  const connections = await Promise.all(
    users.map(async ({ account, pair }) => {
      const nc = await connectWithSeed(stack, new TextDecoder().decode(pair.getSeed()))
      const hear = (_: Error | null, { subject, data }: Msg): void => {
        seen.push({ account, subject, text: new TextDecoder().decode(data) })
      }
      nc.subscribe('>', { callback: hear })
      // A wildcard alone does not hear the system's own subjects.
      nc.subscribe('$SYS.>', { callback: hear })
      nc.subscribe('$JS.>', { callback: hear })
      nc.subscribe('$KV.>', { callback: hear })
      await nc.flush()
      return nc
    }),
  )
  const core = connections[1] as NatsConnection
  const flush = async () => void (await Promise.all(connections.map((nc) => nc.flush())))
  return { core, seen, flush, close: async () => void (await Promise.all(connections.map((nc) => nc.close()))) }
}
