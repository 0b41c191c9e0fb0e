import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Connection, createPool, type Pool } from '@lenserfight/db'
import {
  encodeBase64Url,
  encodeKey,
  generateKeyPair,
  type KeyChange,
  kidOfKey,
  newUuidV7,
  type PrivateKey,
  type PublicKey,
  signEnvelope,
  signKeyProof,
} from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { hasCounter, type KindName } from '@lenserfight/schemas'
import { nextCounter, testPostgres } from '@lenserfight/testkit'
import type { TestFn } from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { createStore, type RegistrarStore } from '../src/store.ts'

export interface Key {
  readonly kid: string
  readonly key: PrivateKey
  readonly publicKey: PublicKey
}
/** A session that has logged in. */
export interface Session extends Key {
  readonly lenser: string
}
/** A device that was registered: its kid is its id. */
export interface Device extends Key {
  readonly challenge: string
}
export interface Signed {
  readonly text: string
  readonly digest: Uint8Array
  readonly iat: number
  readonly nonce: string
  readonly signer: Key
}

export const gatewayId = '11111111-1111-4111-8111-111111111111'
export const token = (subject: string) => ({
  issuer: 'https://issuer.test',
  subject,
  expires_at: Math.floor(Date.now() / 1000) + 300,
  bound: true as const,
})

export const newKey = (kid?: string): Key => {
  const { publicKey, privateKey } = generateKeyPair()
  return { kid: kid ?? kidOfKey(publicKey), key: privateKey, publicKey }
}

/** Signs a body of a kind for the test's gateway; `iat` in Unix seconds. */
export const sign = (signer: Key, kind: string, members: object, iat?: number): Signed => {
  const counted = hasCounter(kind as KindName) ? { counter: nextCounter() } : {}
  const body = { kind, aud: gatewayId, ...counted, ...members }
  const { envelope, bytes, digest } = signEnvelope({ ...signer, body, ...(iat === undefined ? {} : { iat }) })
  return { text: Buffer.from(bytes).toString(), digest, iat: envelope.iat, nonce: envelope.nonce, signer }
}

/** What every operation's body has. */
export const operation = (members: object = {}) => ({ op_id: newUuidV7(), ...members })

type Change = { op_id: string; device_id: string; new_public_key: string; proof: string }

/** The body of a change of keys, with the new key's proof. */
const changeOf = (
  device: Key,
  to: Key,
  proven: Pick<KeyChange, 'kind' | 'old_public_key'> & Partial<KeyChange>,
): Change => {
  const body = { op_id: newUuidV7(), device_id: device.kid, new_public_key: encodeKey(to.publicKey) }
  return { ...body, proof: signKeyProof({ aud: gatewayId, ...body, ...proven }, to.key) }
}

export const resultOf = (outcome: Outcome): Record<string, unknown> => {
  if (!outcome.ok) throw new Error(`refused: ${outcome.code} ${outcome.detail ?? ''}`)
  return outcome.result
}
export const codeOf = (outcome: Outcome): string => (outcome.ok ? 'ok' : outcome.code)

/** A fresh database with the roles of the services that take part in enrolment, each through its real functions. */
export class World {
  readonly owner: Pool
  readonly registrar: Pool
  readonly verifier: Pool
  readonly store: RegistrarStore
  readonly #end: () => Promise<void>
  #seq = 0

  constructor(poolAs: (role?: string) => Pool, drop: () => Promise<void>) {
    this.owner = poolAs()
    this.registrar = poolAs('ltg_registrar')
    this.verifier = poolAs('ltg_verifier')
    this.store = createStore(this.registrar)
    this.#end = async () => {
      await Promise.all([this.owner.end(), this.registrar.end(), this.verifier.end()])
      await drop()
    }
  }

  close(): Promise<void> {
    return this.#end()
  }

  /** As superuser. */
  async query<Row>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await this.owner.query(text, [...values])).rows as Row[]
  }

  /** Waits until somebody of this database stands in line behind what a connection holds. */
  async untilWaitedFor(holder: Connection): Promise<void> {
    const { pid } = (await holder.query('SELECT pg_backend_pid() AS pid')).rows[0] as { pid: number }
    const waiting =
      'SELECT FROM pg_stat_activity WHERE datname = current_database() AND $1 = ANY (pg_blocking_pids(pid))'
    for (const end = Date.now() + 60_000; (await this.query(waiting, [pid])).length === 0; await sleep(20)) {
      if (Date.now() > end) throw new Error('nobody waits for what is held')
    }
  }

  /** Claims at the `ask` door as the registrar does. */
  claim({ signer, iat, nonce, digest, text }: Signed) {
    const kind = (JSON.parse(text) as { body: { kind: string } }).body.kind
    return this.store.claim({
      ...{ kid: signer.kid, kind, nonce, iat },
      digest: encodeBase64Url(digest),
      public_key: encodeKey(signer.publicKey),
    })
  }

  /** Signs, claims and applies one request. */
  async ask(signer: Key, kind: string, members: object): Promise<Outcome> {
    const signed = sign(signer, kind, members)
    const verdict = await this.claim(signed)
    return verdict === 'ok' ? this.store.apply(kind, signed.text) : { ok: false, code: verdict as never }
  }

  async login(key: Key, claims: object, members: object = operation()): Promise<Outcome> {
    const body = { public_key: encodeKey(key.publicKey), token: 'a.b.c'.padEnd(20, 'c'), ...members }
    const signed = sign(key, 'login', body)
    const verdict = await this.claim(signed)
    if (verdict !== 'ok') return { ok: false, code: verdict as never }
    return this.store.login(signed.text, claims as never)
  }

  async newSession(subject: string = randomUUID()): Promise<Session> {
    const key = newKey()
    const { lenser_id } = resultOf(await this.login(key, token(subject)))
    return { ...key, lenser: lenser_id as string }
  }

  registration(key: Key, members: object = {}) {
    return operation({
      name: `device ${key.kid.slice(0, 8)}`,
      device_type: 'laptop',
      os: 'linux 6.1',
      public_key: encodeKey(key.publicKey),
      capabilities: ['node'],
      ...members,
    })
  }

  async register(session: Session, members: object = {}): Promise<Device> {
    const key = newKey()
    const result = resultOf(await this.ask(session, 'register', this.registration(key, members)))
    return { ...key, kid: result.device_id as string, challenge: result.challenge as string }
  }

  /** Claims at the ingress door as a verifier does, with a store time in nanoseconds (now by default). */
  async claimIngress({ signer, iat, nonce, digest, text }: Signed, stored = BigInt(Date.now()) * 1_000_000n) {
    const kind = (JSON.parse(text) as { body: { kind: string } }).body.kind
    this.#seq += 1
    const { rows } = await this.verifier.query(
      'SELECT devices.fn_claim_ingress($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) AS verdicts',
      [
        [signer.kid],
        [Buffer.from(signer.publicKey).toString('hex')],
        'LTG_INGRESS',
        ...[[signer.kid], [nonce], [iat], [kind], [Buffer.from(digest).toString('hex')]],
        ...[[this.#seq], [stored.toString()]],
      ],
    )
    return (rows[0] as { verdicts: string[] }).verdicts[0] as string
  }

  /** Answers a device's challenge through both doors; `members` over the right answer. */
  async answerChallenge(device: Device, members: object = {}, stored?: bigint): Promise<Outcome> {
    const body = operation({ device_id: device.kid, challenge: device.challenge, ...members })
    const signed = sign(device, 'challenge', body)
    const verdict = await this.claimIngress(signed, stored)
    if (verdict !== 'ok') return { ok: false, code: verdict as never }
    const [outcome] = await this.store.postChallenges([signed.text])
    return outcome as Outcome
  }

  async approve(session: Session, device: Device): Promise<Outcome> {
    return this.ask(session, 'approve', operation({ device_id: device.kid }))
  }

  /** A device that its owner approved. */
  async newDevice(session: Session, members: object = {}): Promise<Device> {
    const device = await this.register(session, members)
    resultOf(await this.answerChallenge(device))
    resultOf(await this.approve(session, device))
    return device
  }

  /** What a rotation of a device to a new key says; `proven` over what the new key signs. */
  rotation(device: Device, to: Key, proven: Partial<KeyChange> = {}): Change {
    return changeOf(device, to, { kind: 'rotate', old_public_key: encodeKey(device.publicKey), ...proven })
  }

  /** What an owner says who vouches for another key of a device. */
  reproof(device: Device, to: Key, proven: Partial<KeyChange> = {}): Change {
    return changeOf(device, to, { kind: 'reprove', old_public_key: null, ...proven })
  }

  async keysOf(device: Device) {
    return this.query<{ number: number; public_key: Buffer; how: string; since: Date; until: Date | null }>(
      'SELECT number, public_key, how, since, until FROM devices.device_keys WHERE device_id = $1 ORDER BY number',
      [device.kid],
    )
  }

  async levelOf(device: Device): Promise<string> {
    const [row] = await this.query<{ trust_level: string }>(
      'SELECT trust_level FROM devices.registered_devices WHERE id = $1',
      [device.kid],
    )
    return row?.trust_level ?? 'none'
  }
}

/** One world for a test file. */
export const useWorld = (test: TestFn): (() => World) => {
  let world: World | undefined
  test.before(async () => {
    const database = await testPostgres()
    const logger = createLogger({ service: 'test', level: 'silent' })
    const poolAs = (role?: string): Pool =>
      createPool({ ...(role === undefined ? database.owner : database.as(role)), max: 6, logger })
    world = new World(poolAs, () => database.drop())
  })
  test.after.always(() => world?.close())
  return () => world as World
}
