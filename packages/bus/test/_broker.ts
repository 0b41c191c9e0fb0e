import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  ensureNatsServer,
  type Nats,
  openRun,
  readEnvironment,
  startNats,
  temporaryRunFolder,
  type WantedServer,
} from '@lenserfight/local'
import { createLogger } from '@lenserfight/runtime'
import { consumers, type ServiceName, type StreamSpec, serviceNames, streams } from '@lenserfight/schemas'
import { jetstreamManager } from '@nats-io/jetstream'
import { createAccount, createUser, fromSeed } from '@nats-io/nkeys'
import { connect, type NatsConnection, nanos, nkeyAuthenticator } from '@nats-io/transport-node'
import { type Bus, brokerConfig, connectService } from '../src/index.ts'

export const quick = { floorMs: 20, firstCeilingMs: 60, ceilingMs: 200 }
export const silent = createLogger({ service: 'verifier', level: 'silent' })

/** A real broker with the real configuration, and the keys to it. */
export interface Broker {
  readonly nats: Nats
  readonly version: string
  readonly seeds: Readonly<Record<ServiceName | 'edge' | 'system', string>>
  readonly connect: (service: ServiceName) => Promise<Bus>
  /** The EDGE user with every subject. */
  readonly edge: () => Promise<NatsConnection>
  /** Makes the streams and consumers of the topology. */
  readonly provision: () => Promise<void>
  readonly stop: () => Promise<void>
}

export const startBroker = async (want: WantedServer = 'default'): Promise<Broker> => {
  const env = readEnvironment()
  const folder = temporaryRunFolder(env)
  const [server, run] = await Promise.all([ensureNatsServer({ env, want }), openRun({ dir: folder, folder })])
  const seedOf = () => new TextDecoder().decode(createUser().getSeed())
  const names = [...serviceNames, 'edge', 'system'] as const
  const seeds = Object.fromEntries(names.map((name) => [name, seedOf()])) as Broker['seeds']
  const publicOf = (seed: string) => fromSeed(new TextEncoder().encode(seed)).getPublicKey()
  const secrets = mkdtempSync(join(tmpdir(), 'seeds-'))
  const fileOf = (service: ServiceName) => {
    const file = join(secrets, `${service}.nk`)
    writeFileSync(file, seeds[service], { mode: 0o600 })
    return file
  }
  const configText = brokerConfig({
    workers: Object.fromEntries(serviceNames.map((name) => [name, publicOf(seeds[name])])) as Record<
      ServiceName,
      string
    >,
    system: publicOf(seeds.system),
    calloutIssuer: createAccount().getPublicKey(),
    callout: false,
    edgeUsers: [publicOf(seeds.edge)],
  })
  const nats = await startNats({ env, run, nats: server, configText })
  const open: (() => Promise<void>)[] = []

  const connectWorker = async (service: ServiceName): Promise<Bus> => {
    const bus = await connectService({
      service,
      nats: { servers: [nats.url], seed_file: fileOf(service) },
      logger: silent,
      reconnect: quick,
    })
    open.push(bus.close)
    return bus
  }
  const provision = async (): Promise<void> => {
    const { nc } = await connectWorker('provisioner')
    const manager = await jetstreamManager(nc)
    for (const spec of streams) await manager.streams.add(streamConfig(spec))
    for (const { stream, name, filters, ackWaitSeconds, maxAckPending } of consumers) {
      await manager.consumers.add(stream, {
        durable_name: name,
        ack_policy: 'explicit',
        ack_wait: nanos(ackWaitSeconds * 1000),
        max_ack_pending: maxAckPending,
        ...(filters.length === 1 ? { filter_subject: filters[0] } : { filter_subjects: [...filters] }),
      })
    }
  }
  const edge = async (): Promise<NatsConnection> => {
    const authenticator = nkeyAuthenticator(new TextEncoder().encode(seeds.edge))
    const nc = await connect({ servers: nats.url, authenticator, maxReconnectAttempts: -1, reconnectTimeWait: 50 })
    open.push(() => nc.close())
    return nc
  }
  const stop = async (): Promise<void> => {
    await Promise.allSettled(open.map((close) => close()))
    await nats.stop()
    await run.close()
  }
  return { nats, version: server.version, seeds, connect: connectWorker, edge, provision, stop }
}

const streamConfig = (spec: StreamSpec) => ({
  name: spec.name,
  subjects: [...spec.subjects],
  retention: spec.retention,
  storage: spec.storage,
  max_bytes: spec.maxBytes,
  discard: spec.discard,
  no_ack: spec.noAck,
  max_msgs_per_subject: spec.maxMessagesPerSubject ?? -1,
  discard_new_per_subject: spec.discardNewPerSubject ?? false,
})

/** Waits until something holds; fails loudly when it never does. */
export const until = async (what: string, holds: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> => {
  const end = Date.now() + ms
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
