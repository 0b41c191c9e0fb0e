import { verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import {
  encodeBase64Url,
  encodeKey,
  envelopeDigest,
  generateKeyPair,
  kidOfKey,
  newUuidV7,
  type PrivateKey,
  type PublicKey,
  signEnvelope,
} from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { askSubject, hasCounter, inSubject, type KindName, nilUuid, type ReasonCode } from '@lenserfight/schemas'
import { nextCounter } from '@lenserfight/testkit'
import { connect, type NatsConnection, nkeyAuthenticator } from '@nats-io/transport-node'

export interface Signer {
  readonly kid: string
  readonly lenser: string
  readonly key: PrivateKey
  readonly publicKey: PublicKey
}
export interface Device extends Signer {
  readonly challenge: string
}
/** What came back for one digest, in a receipt or an answer that the gateway's keys vouch for. */
export interface Reply {
  readonly kind: 'receipt' | 'answer'
  readonly to: string
  readonly digest: string
  readonly ok: boolean
  readonly code?: ReasonCode
  readonly result?: Record<string, unknown>
  readonly retry_after?: number
}

export const operation = (members: object = {}) => ({ op_id: newUuidV7(), ...members })
export const codeOf = (reply: Reply | undefined): string => (reply === undefined ? 'nothing' : (reply.code ?? 'ok'))
export const resultOf = (reply: Reply | undefined): Record<string, unknown> => {
  if (reply?.result === undefined) throw new Error(`refused: ${codeOf(reply)}`)
  return reply.result
}
export const newSession = (): Signer => {
  const { publicKey, privateKey } = generateKeyPair()
  return { kid: kidOfKey(publicKey), lenser: nilUuid, key: privateKey, publicKey }
}

/** An edge with the broker's wall down: it may say anything at the doors and hears every answer. */
export class Edge {
  readonly #stack: Stack
  readonly #nc: NatsConnection
  readonly #replies = new Map<string, Reply[]>()
  #waiting: (() => void)[] = []

  private constructor(stack: Stack, nc: NatsConnection) {
    this.#stack = stack
    this.#nc = nc
    const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
    nc.subscribe('ltg.v1.out.>', {
      callback: (_, { subject, data }) => {
        const [, , , , to, name] = subject.split('.') as [
          string,
          string,
          string,
          string,
          string,
          Reply['kind'] | 'change',
        ]
        // That there is something to pull is said of nothing that was sent.
        if (name === 'change') return
        const kind = name
        const body = verifyGatewayMessage(data, list, { kind, use: kind, to, now: Date.now() })
        for (const item of 'items' in body ? body.items : [body]) this.#note({ ...item, kind, to } as Reply)
      },
    })
  }

  static async connect(stack: Stack): Promise<Edge> {
    const authenticator = nkeyAuthenticator(new TextEncoder().encode(stack.edgeUser.seed))
    const nc = await connect({ servers: stack.nats.url, authenticator })
    const edge = new Edge(stack, nc)
    await nc.flush()
    return edge
  }

  close(): Promise<void> {
    return this.#nc.close()
  }

  #note(reply: Reply): void {
    this.#replies.set(reply.digest, [...(this.#replies.get(reply.digest) ?? []), reply])
    for (const wake of this.#waiting) wake()
    this.#waiting = []
  }

  /** Everything heard of a digest so far. */
  heardOf(digest: string): readonly Reply[] {
    return this.#replies.get(digest) ?? []
  }

  /** The first reply to a digest; undefined where none comes within the time. */
  async reply(digest: string, timeoutMs = 60_000): Promise<Reply | undefined> {
    const end = Date.now() + timeoutMs
    while (this.heardOf(digest).length === 0 && Date.now() < end) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
        setTimeout(resolve, Math.min(200, end - Date.now())).unref()
      })
    }
    return this.heardOf(digest)[0]
  }

  sign(signer: Signer, kind: string, members: object, over: { iat?: number; key?: PrivateKey } = {}): Uint8Array {
    const counted = hasCounter(kind as KindName) ? { counter: nextCounter() } : {}
    const body = { kind, aud: this.#stack.descriptor.gateway_id, ...counted, ...members }
    return signEnvelope({ kid: signer.kid, key: signer.key, ...over, body }).bytes
  }

  /** Publishes bytes at a door and waits for what is said of them. */
  async send(subject: string, bytes: Uint8Array, timeoutMs?: number): Promise<Reply | undefined> {
    this.#nc.publish(subject, bytes)
    return this.reply(encodeBase64Url(envelopeDigest(bytes)), timeoutMs)
  }

  ask(signer: Signer, kind: string, members: object = {}): Promise<Reply | undefined> {
    return this.send(askSubject({ ...signer, kind }), this.sign(signer, kind, members))
  }

  /** A token of the stack's development issuer, bound to a session key. */
  async token(session: Signer, subject: string, audience = this.#stack.descriptor.gateway_id): Promise<string> {
    const { url, clientSecret } = this.#stack.issuer
    const response = await fetch(`${url}/token`, {
      method: 'POST',
      body: JSON.stringify({ client_secret: clientSecret, subject, nonce: session.kid, audience }),
    })
    return ((await response.json()) as { id_token: string }).id_token
  }

  login(session: Signer, token: string, members: object = operation()): Promise<Reply | undefined> {
    return this.ask({ ...session, lenser: nilUuid }, 'login', {
      public_key: encodeKey(session.publicKey),
      token,
      ...members,
    })
  }

  /** A session that is signed in. */
  async session(subject: string): Promise<Signer> {
    const session = newSession()
    const { lenser_id } = resultOf(await this.login(session, await this.token(session, subject)))
    return { ...session, lenser: lenser_id as string }
  }

  registration(publicKey: PublicKey, name: string) {
    return operation({
      ...{ name, device_type: 'ci', os: 'linux', capabilities: [] },
      public_key: encodeKey(publicKey),
    })
  }

  async register(session: Signer, name: string): Promise<Device> {
    const { publicKey, privateKey } = generateKeyPair()
    const result = resultOf(await this.ask(session, 'register', this.registration(publicKey, name)))
    const { device_id, challenge } = result as { device_id: string; challenge: string }
    return { kid: device_id, lenser: session.lenser, key: privateKey, publicKey, challenge }
  }

  /** Answers a device's challenge at the ingress door, signed by `key` where given. */
  answerChallenge(device: Device, key?: PrivateKey): Promise<Reply | undefined> {
    const body = operation({ device_id: device.kid, challenge: device.challenge })
    const bytes = this.sign(device, 'challenge', body, key === undefined ? {} : { key })
    return this.send(inSubject({ ...device, kind: 'challenge' }), bytes)
  }

  async levelOf(session: Signer, device: Device): Promise<unknown> {
    const { devices } = resultOf(await this.ask(session, 'list')) as { devices: Record<string, unknown>[] }
    return devices.find(({ device_id }) => device_id === device.kid)?.trust_level
  }
}
