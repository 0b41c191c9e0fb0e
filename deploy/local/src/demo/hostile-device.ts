import { connectEdge, type EdgeBus, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { envelopeDigest, type PrivateKey, signEnvelope } from '@lenserfight/envelope'
import { type Descriptor, inSubject, type ReceiptItem } from '@lenserfight/schemas'

export interface HostileOptions {
  readonly descriptor: Descriptor
  /** The root-signed key list. */
  readonly keys: string
  readonly lenser: string
  readonly kid: string
  readonly key: PrivateKey
}

/** A program that has a device's key and does not behave: it sends what it likes, and hears what the gateway answers. */
export interface HostileDevice {
  /** A heartbeat signed with the device's key, with whatever is wrong about it. */
  sign(wrong?: { iat?: number; aud?: string; kid?: string; key?: PrivateKey }): Uint8Array
  /** Sends bytes to the device's own ingress and waits for the receipt of exactly these bytes. */
  send(bytes: Uint8Array): Promise<ReceiptItem>
  /** Resolves when its connection is lost. */
  readonly cut: Promise<void>
  /** Connected again after that, it tries once more: what the broker forbids then, and what the gateway calls the device. */
  goOn(): Promise<{ forbidden: boolean; level: unknown }>
  close(): Promise<void>
}

/** Above what the device itself uses, and always another. */
let lastCounter = Date.now() * 1000
const nextCounter = (): number => ++lastCounter

const waitMs = 10_000

const within = async <T>(promise: Promise<T>): Promise<T> => {
  const late = new Promise<never>((_, reject) => setTimeout(() => reject(new Error('nothing came')), waitMs).unref())
  return Promise.race([promise, late])
}

export async function connectHostileDevice(options: HostileOptions): Promise<HostileDevice> {
  const { descriptor, lenser, kid, key } = options
  const list = verifyKeyList(options.keys, descriptor)
  const bus: EdgeBus = await connectEdge({
    url: descriptor.url,
    gatewayId: descriptor.gateway_id,
    ...{ kid, key, lenser },
  })
  const cut = new Promise<void>((resolve) => bus.events.once('disconnected', resolve))
  const back = cut.then(() => new Promise<void>((resolve) => bus.events.once('connected', resolve)))
  const forbidden = new Promise<boolean>((resolve) => bus.events.once('forbidden', () => resolve(true)))
  const sign: HostileDevice['sign'] = (wrong = {}) =>
    signEnvelope({
      kid: wrong.kid ?? kid,
      key: wrong.key ?? key,
      ...(wrong.iat === undefined ? {} : { iat: wrong.iat }),
      body: {
        kind: 'heartbeat',
        counter: nextCounter(),
        aud: wrong.aud ?? descriptor.gateway_id,
        daemon_version: '0.0.0',
        gateway_status: 'hostile',
      },
    }).bytes
  return {
    sign,
    cut,
    async goOn() {
      await within(back)
      bus.publish(inSubject({ lenser, kid, kind: 'heartbeat' }), sign())
      const body = { kind: 'status', aud: descriptor.gateway_id }
      const answer = await bus.ask('status', signEnvelope({ kid, key, body }).bytes, {
        timeoutMs: waitMs,
        verify: (bytes) =>
          verifyGatewayMessage(bytes, list, { kind: 'answer', use: 'answer', to: kid, now: Date.now() }),
      })
      return { forbidden: await within(forbidden), level: answer.result?.trust_level }
    },
    send(bytes) {
      const digest = Buffer.from(envelopeDigest(bytes)).toString('base64url')
      const { promise, resolve, reject } = Promise.withResolvers<ReceiptItem>()
      const timer = setTimeout(() => reject(new Error('no receipt came')), waitMs)
      const end = bus.onMessage((message) => {
        if (!message.subject.endsWith('.receipt')) return
        const expected = { kind: 'receipt', use: 'receipt', to: kid, now: Date.now() } as const
        const item = verifyGatewayMessage(message.bytes, list, expected).items.find((one) => one.digest === digest)
        if (item !== undefined) resolve(item)
      })
      bus.publish(inSubject({ lenser, kid, kind: 'heartbeat' }), bytes)
      return promise.finally(() => {
        clearTimeout(timer)
        end()
      })
    },
    close: () => bus.close(),
  }
}
