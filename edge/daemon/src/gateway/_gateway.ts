import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bus } from '@lenserfight/bus'
import {
  createSigner,
  type EnvelopeSigner,
  encodeBase64Url,
  envelopeDigest,
  type KeyPair,
  kidOfKey,
  readEnvelope,
  type SigningKey,
  signEnvelope,
} from '@lenserfight/envelope'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import {
  ctlSubjects,
  type Descriptor,
  type KindName,
  outSubject,
  type ReceiptItem,
  type ServiceName,
} from '@lenserfight/schemas'
import { makeAccount, makeDevice, type OwnerDatabase, type Signatory } from '@lenserfight/testkit'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import type { ExecutionContext } from 'ava'
import { createCounter } from '../counter.ts'
import { createSettings } from '../settings.ts'
import { openStore } from '../store.ts'
import { createGatewayClient, type GatewayClient } from './client.ts'
import { connectGateway } from './link.ts'
import { createTrust } from './trust.ts'

export const asOwner = <T>(stack: Stack, act: (db: OwnerDatabase) => Promise<T>): Promise<T> =>
  withClient(stack.owner, act)
export const newDevice = (stack: Stack): Promise<Signatory> =>
  asOwner(stack, async (db) => makeDevice(db, await makeAccount(db)))

/** Waits until there is something, for as long as a machine takes on which everything is tested at once. */
export const until = async <T>(look: () => T | undefined | false, what: string): Promise<T> => {
  for (const end = Date.now() + 90_000; ; ) {
    const found = look()
    if (found !== undefined && found !== false) return found
    if (Date.now() > end) throw new Error(`${what} did not come about`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Stops the workers of a service where they stand, until what is returned is called. */
export const halt = (t: ExecutionContext, stack: Stack, service: ServiceName): (() => void) => {
  const goOn = (): void => {
    for (const worker of stack.workers(service)) worker.send('SIGCONT')
  }
  for (const worker of stack.workers(service)) worker.send('SIGSTOP')
  t.teardown(goOn)
  return goOn
}

export interface EnterOptions {
  /** The clock that it signs by. */
  readonly now?: () => number
  /** The key that it signs with, where that is not the one it was admitted with. */
  readonly key?: KeyPair
  /** What signs, where that is neither. */
  readonly signer?: EnvelopeSigner
  /** The key list on its disk. */
  readonly keys?: string
  /** What it pinned. */
  readonly descriptor?: Descriptor
}

/** A machine's own parts, from its disk to its connection through the auth callout. */
export const enter = async (t: ExecutionContext, stack: Stack, who: Signatory, options: EnterOptions = {}) => {
  const { kid, lenser, keys: admitted } = who
  const { now = Date.now, key = admitted, keys = stack.gatewayKeys.list, descriptor = stack.descriptor } = options
  const { signer = createSigner({ kid, key: key.privateKey, now }) } = options
  const store = openStore(join(mkdtempSync(join(tmpdir(), 'lf-gateway-')), 'state.db'))
  t.teardown(store.close)
  const settings = createSettings(store)
  const trust = createTrust({ descriptor, keys, onKeys: (choose) => settings.update('keys', choose) })
  const link = await connectGateway({
    ...{ url: descriptor.url, gatewayId: descriptor.gateway_id, kid, lenser, key: admitted.privateKey },
    reconnect: { floorMs: 20, firstCeilingMs: 60, ceilingMs: 200 },
    subjects: ctlSubjects(lenser, kid),
  })
  t.teardown(link.close)
  const items: ReceiptItem[] = []
  const digests: string[] = []
  const receivers: ((items: readonly ReceiptItem[], service: string) => void)[] = []
  const changes: ((notice: { epoch: number; seq: number }) => void)[] = []
  let untrusted = 0
  const spoken = createGatewayClient({
    ...{ link, trust, lenser, counter: createCounter(store), signer },
    onReceipt: (more, service) => {
      items.push(...more)
      for (const receive of receivers) receive(more, service)
    },
    onChange: (notice) => {
      for (const hear of changes) hear(notice)
    },
    onUntrusted: () => {
      untrusted += 1
    },
  })
  const client: GatewayClient = {
    ...spoken,
    sign: (kind, body) => {
      const signed = spoken.sign(kind, body)
      digests.push(signed.digest)
      return signed
    },
  }
  /** How many were signed for the ingress door. */
  const counted = (): number => store.get<{ reserved: number }>('SELECT reserved FROM counter')?.reserved ?? 0
  /** Sends through the ingress door and waits for the receipt. */
  const send = async (kind: KindName, body: object): Promise<ReceiptItem> => {
    const { digest, bytes } = client.sign(kind, body)
    client.publish(kind, bytes)
    return until(() => items.find((item) => item.digest === digest), `the receipt of ${kind}`)
  }
  return {
    client,
    trust,
    settings,
    store,
    items,
    digests,
    receivers,
    changes,
    untrusted: () => untrusted,
    counted,
    send,
  }
}

/**
 * Stands between edges and the broker, and puts in what nobody on the bus may say.
 * @returns where it listens, and what says something on a subject to who subscribed to it first, while nothing else is said
 */
export const openMeddler = async (t: ExecutionContext, stack: Stack) => {
  const sockets = new Set<Socket>()
  const lines: { client: Socket; text: string }[] = []
  const server = createServer((client) => {
    const real = connect(stack.nats.port, '127.0.0.1')
    const line = { client, text: '' }
    lines.push(line)
    for (const socket of [client, real]) sockets.add(socket.on('error', () => {}))
    client.on('data', (chunk) => {
      line.text += chunk.toString('latin1')
    })
    client.pipe(real).pipe(client)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const say = async (subject: string, text: string): Promise<void> => {
    const told = await until(
      () => lines.find((line) => line.text.includes(`SUB ${subject} `) && line.text.endsWith('\r\n')),
      `who hears ${subject}`,
    )
    const [sid] = (told.text.split(`SUB ${subject} `)[1] as string).split('\r\n')
    told.client.write(`MSG ${subject} ${sid} ${Buffer.byteLength(text)}\r\n${text}\r\n`)
  }
  return { url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`, say }
}

/** What a key says as whom: a lie of `by`, to `to`, on the subject of `channel`. */
export interface Saying {
  readonly by?: SigningKey
  readonly to?: string
  readonly channel?: 'answer' | 'receipt'
}

/** Who has a worker's place on the bus, and what keys it came by: it hears requests, and says anything in answer. */
export const openLiar = async (stack: Stack, kinds: readonly KindName[]) => {
  const bus: Bus = await connectWorker(stack, 'registrar')
  const heard: { subject: string; bytes: Uint8Array; digest: string }[] = []
  for (const kind of kinds) {
    bus.nc.subscribe(`ltg.v1.ask.*.*.${kind}`, {
      callback: (_, { subject, data }) => {
        heard.push({ subject, bytes: data, digest: encodeBase64Url(envelopeDigest(data)) })
      },
    })
  }
  await bus.nc.flush()
  const of = ({ kid }: Signatory) => heard.filter(({ subject }) => subject.includes(kid))
  const say = (who: Signatory, kind: 'answer' | 'receipt', members: object, saying: Saying = {}): void => {
    const { by = keyOf(stack, 'registrar'), to = who.kid, channel = kind } = saying
    const body = { kind, aud: stack.descriptor.gateway_id, to, time: Math.floor(Date.now() / 1000), ...members }
    bus.tell(outSubject(who.lenser, who.kid, channel), signEnvelope({ ...by, body }).bytes)
  }
  return { of, say, close: bus.close }
}

/** A service's key, as the root vouches for it. */
export const keyOf = (stack: Stack, service: ServiceName): SigningKey => {
  const { kid, key } = stack.gatewayKeys.services.get(service) ?? {}
  if (kid === undefined || key === undefined) throw new Error(`${service} signs nothing`)
  return { kid, key }
}
export const ownKey = ({ publicKey, privateKey }: KeyPair): SigningKey => ({
  kid: kidOfKey(publicKey),
  key: privateKey,
})

export const readBody = (bytes: Uint8Array): Record<string, unknown> => {
  const read = readEnvelope(bytes)
  if (!read.ok) throw new Error(read.code)
  return read.envelope.body as Record<string, unknown>
}
