import { createPool, type Pool } from '@lenserfight/db'
import { encodeKey, generateKeyPair, type KeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import type { DeviceLevel, KindName } from '@lenserfight/schemas'
import { nextCounter, type TestDatabase, testPostgres } from '@lenserfight/testkit'

export const gatewayId = '3f1f9d0e-6a44-4d6f-9f0c-52a1d0a6c001'

/** The function that applies each kind. */
const appliers = {
  heartbeat: 'devices.fn_device_heartbeat',
  lifecycle: 'devices.fn_device_lifecycle',
  canary: 'devices.fn_device_canary',
  run_start: 'execution.fn_run_start',
  run_renew: 'execution.fn_run_renew',
  run_withdraw: 'execution.fn_run_withdraw',
  tool_invocation: 'agents.fn_record_tool_invocation',
  attestation: 'execution.fn_record_execution_attestation',
} as const
export type AppliedKind = keyof typeof appliers

export interface Device {
  readonly id: string
  readonly lenser: string
  readonly keys: KeyPair
  /** Which of its keys that is; the first by default. */
  readonly keyNumber?: number
}

export interface Outcome {
  readonly ok: boolean
  readonly digest: string
  readonly kid: string
  readonly lenser?: string
  readonly op_id?: string
  readonly code?: string
  readonly detail?: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into results of several kinds
  readonly result?: any
}

/** How an envelope came in. */
export interface Arrival {
  /** When the broker stored it, milliseconds since 1970; now by default. */
  readonly stored?: number
  /** By the device's clock, Unix seconds; the store time by default. */
  readonly iat?: number
  /** The verifier's verdict; `none` leaves no claim. */
  readonly verdict?: string
  readonly door?: 'ingress' | 'ask'
}

let names = 0
const fresh = (prefix: string): string => `${prefix}-${++names}`
export const hashOf = (byte: number): string => encodeKey(new Uint8Array(32).fill(byte))
export const bytesOf = (byte: number): Buffer => Buffer.alloc(32, byte)

const logger = createLogger({ service: 'trust-evaluator', level: 'silent' })
const connect = (connection: TestDatabase['owner']): Pool => createPool({ ...connection, max: 4, logger })

/** A database with all migrations, the evaluator's own role, and real envelopes by real keys. */
export const createWorld = async () => {
  const database = await testPostgres()
  const owner = connect(database.owner)
  const evaluator = connect(database.as('ltg_trust_evaluator'))
  const one = async <T>(text: string, values: unknown[] = []): Promise<T> =>
    (await owner.query(text, values)).rows[0] as T
  const insert = async (table: string, row: Record<string, unknown>): Promise<string> => {
    const columns = Object.keys(row)
    const { id } = await one<{ id: string }>(
      `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map((_, n) => `$${n + 1}`).join(', ')}) RETURNING id`,
      Object.values(row),
    )
    return id
  }

  const addLenser = (userId: string = newUuidV7()): Promise<string> =>
    insert('lensers.profiles', { user_id: userId, issuer: 'test', subject: fresh('subject') })
  const setLevel = async (device: Device, level: DeviceLevel): Promise<void> => {
    await owner.query('UPDATE devices.registered_devices SET trust_level = $2 WHERE id = $1', [device.id, level])
  }
  const addDevice = async (lenser: string, levels: readonly DeviceLevel[] = ['approved']): Promise<Device> => {
    const keys = generateKeyPair()
    const id = await insert('devices.registered_devices', {
      lenser_id: lenser,
      name: fresh('device'),
      device_type: 'ci',
      os: 'linux',
      submitted_public_key: keys.publicKey,
      public_key: keys.publicKey,
    })
    for (const level of levels) await setLevel({ id, lenser, keys }, level)
    return { id, lenser, keys }
  }

  /** Signs as the device does, and leaves the claim that a verifier would. */
  const seal = async (
    device: Device,
    body: { kind: KindName } & Record<string, unknown>,
    { stored = Date.now(), iat = Math.floor(stored / 1000), verdict = 'ok', door = 'ingress' }: Arrival = {},
  ): Promise<string> => {
    const signed = signEnvelope({
      kid: device.id,
      key: device.keys.privateKey,
      body: { aud: gatewayId, counter: nextCounter(), ...body },
      iat,
    })
    const { envelope, bytes, digest } = signed
    if (verdict !== 'none') {
      const place = door === 'ingress' ? ['LTG_INGRESS', ++names, BigInt(stored) * 1_000_000n] : [null, null, null]
      await owner.query(
        `INSERT INTO devices.envelope_claims
           (door, kid, nonce, iat, kind, digest, verdict, lenser_id, stream, seq, stored_ns, key_number)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
        [
          door,
          device.id,
          envelope.nonce,
          iat,
          body.kind,
          digest,
          verdict,
          device.lenser,
          ...place,
          device.keyNumber ?? 1,
        ],
      )
    }
    return Buffer.from(bytes).toString()
  }
  /** Applies texts as the evaluator; outcomes in the order of the texts. */
  const apply = async (kind: AppliedKind, texts: readonly string[], as: Pool = evaluator): Promise<Outcome[]> => {
    const { rows } = await as.query(`SELECT idx, outcome FROM ${appliers[kind]}($1) ORDER BY idx`, [texts])
    return rows.map((row: { outcome: Outcome }) => row.outcome)
  }
  /** Seals and applies one. */
  const send = async (
    device: Device,
    body: { kind: AppliedKind } & Record<string, unknown>,
    arrival: Arrival = {},
  ): Promise<Outcome> => {
    const [outcome] = await apply(body.kind, [await seal(device, body, arrival)])
    if (outcome === undefined) throw new TypeError('no outcome')
    return outcome
  }
  /** As when the database is gone: nobody but its owner gets a new connection until what is returned is called. */
  const takeAway = async (): Promise<() => Promise<void>> => {
    await owner.query(`REVOKE CONNECT ON DATABASE ${database.owner.database} FROM PUBLIC`)
    return async () => void (await owner.query(`GRANT CONNECT ON DATABASE ${database.owner.database} TO PUBLIC`))
  }
  const close = async (): Promise<void> => {
    await Promise.all([owner.end(), evaluator.end()])
    await database.drop()
  }
  const parts = { database, owner, evaluator, one, insert, addLenser, addDevice, setLevel, seal, apply, send }
  return { ...parts, takeAway, close, connect }
}
export type World = Awaited<ReturnType<typeof createWorld>>
