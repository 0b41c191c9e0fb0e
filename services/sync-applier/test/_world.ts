import type { AddressedReceipt, Change as Notice } from '@lenserfight/bus'
import { createPool, type Pool } from '@lenserfight/db'
import { encodeBase64Url, envelopeDigest, generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import type { SyncEntry } from '@lenserfight/schemas'
import type { ObjectName, ObjectState } from '@lenserfight/sync'
import { nextCounter, type TestDatabase, testPostgres } from '@lenserfight/testkit'
import type { AppliedKind, Item } from '../src/decode.ts'
import { createHandler } from '../src/handle.ts'
import { createStore } from '../src/store.ts'
import { createMachine, type Device, type Machine } from './_machine.ts'

export { createMachine, type Device, type Machine } from './_machine.ts'

export const gatewayId = '3f1f9d0e-6a44-4d6f-9f0c-52a1d0a6c001'

/** What became of one entry of a push. */
export interface Said {
  readonly status?: 'applied' | 'duplicate'
  readonly seq?: number
  readonly digest?: string
  readonly code?: string
  readonly detail?: string
}

let names = 0
const logger = createLogger({ service: 'sync-applier', level: 'silent' })
const connect = (connection: TestDatabase['owner'], max = 4): Pool => createPool({ ...connection, max, logger })

/** A database with all migrations, the applier's own role, and real envelopes by real keys. */
export const createWorld = async () => {
  const database = await testPostgres()
  const owner = connect(database.owner)
  const applier = connect(database.as('ltg_sync_applier'), 10)
  const one = async <T>(text: string, values: unknown[] = []): Promise<T> =>
    (await owner.query(text, values)).rows[0] as T
  const addLenser = async (): Promise<string> =>
    (
      await one<{ id: string }>(
        'INSERT INTO lensers.profiles (user_id, issuer, subject) VALUES ($1, $2, $3) RETURNING id',
        [newUuidV7(), 'test', `subject-${++names}`],
      )
    ).id
  const setLevel = async ({ id }: Pick<Device, 'id'>, level: string): Promise<void> => {
    await owner.query('UPDATE devices.registered_devices SET trust_level = $2 WHERE id = $1', [id, level])
  }
  const addDevice = async (lenser?: string): Promise<Device> => {
    const keys = generateKeyPair()
    const of = lenser ?? (await addLenser())
    const { id } = await one<{ id: string }>(
      `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key, public_key)
       VALUES ($1, $2, 'ci', 'linux', $3, $3) RETURNING id`,
      [of, `device-${++names}`, keys.publicKey],
    )
    await setLevel({ id }, 'approved')
    return { id, lenser: of, keys }
  }
  const addMachine = async (lenser?: string): Promise<Machine> => createMachine(await addDevice(lenser))

  /** Signs as the device does, and leaves the claim that a verifier would, as from one that lies where `signer` is another. */
  const seal = async (
    device: Device,
    body: { kind: AppliedKind } & Record<string, unknown>,
    { claim = true, signer = device.keys, stored = Date.now() } = {},
  ): Promise<Item> => {
    const { envelope, bytes, digest } = signEnvelope({
      kid: device.id,
      key: signer.privateKey,
      body: { aud: gatewayId, counter: nextCounter(), ...body },
      iat: Math.floor(stored / 1000),
    })
    const ns = BigInt(stored) * 1_000_000n
    if (claim) {
      await owner.query(
        `INSERT INTO devices.envelope_claims
           (door, kid, nonce, iat, kind, digest, verdict, lenser_id, stream, seq, stored_ns, key_number)
         VALUES ('ingress', $1, $2, $3, $4, $5, 'ok', $6, 'LTG_INGRESS', $7, $8, 1)`,
        [device.id, envelope.nonce, envelope.iat, body.kind, digest, device.lenser, ++names, ns],
      )
    }
    return {
      ...{ kind: body.kind, lenser: device.lenser, kid: device.id, stored: String(ns) },
      digest: encodeBase64Url(envelopeDigest(Buffer.from(bytes))),
      text: Buffer.from(bytes).toString(),
    }
  }
  const pushBody = (entries: readonly SyncEntry[], more: Record<string, unknown> = {}) =>
    ({ kind: 'sync_push', op_id: newUuidV7(), epoch: 1, entries, ...more }) as const
  const sealPush = (device: Device, entries: readonly SyncEntry[], more: Record<string, unknown> = {}) =>
    seal(device, pushBody(entries, more))

  /** The service's pipeline over the real database, and what it says and logs. */
  const createRig = (pool: Pool = applier) => {
    const receipts: AddressedReceipt[] = []
    const notices: Notice[] = []
    const lines: Record<string, unknown>[] = []
    const handler = createHandler({
      gatewayId,
      store: createStore(pool),
      sendReceipts: (more) => receipts.push(...more),
      sendNotice: (notice) => notices.push(notice),
      logger: createLogger({
        service: 'sync-applier',
        level: 'info',
        destination: { write: (line: string) => lines.push(JSON.parse(line)) },
      }),
    })
    return { ...handler, receipts, notices, lines }
  }
  const rig = createRig()
  /** Applies items and says what each was told, in their order. */
  const apply = async (items: readonly Item[]): Promise<AddressedReceipt['item'][]> => {
    const mine = createRig()
    await mine.handle(items)
    const byDigest = new Map(mine.receipts.map(({ item }) => [item.digest, item]))
    return items.map(({ digest }) => byDigest.get(digest) as AddressedReceipt['item'])
  }
  /** Pushes entries of one machine and says what became of each. */
  const push = async (
    { device }: Pick<Machine, 'device'>,
    entries: readonly SyncEntry[],
    more: Record<string, unknown> = {},
  ): Promise<readonly Said[]> => {
    const [told] = await apply([await sealPush(device, entries, more)])
    if (told?.ok !== true) throw new TypeError(`refused as a whole: ${told?.code}`)
    return told.result?.entries as readonly Said[]
  }
  const stored = async (lenser: string, { class: className, object }: ObjectName): Promise<ObjectState | undefined> =>
    (
      await one<{ state: ObjectState } | undefined>(
        'SELECT state FROM devices.sync_objects WHERE (lenser_id, class, object) = ($1, $2, $3)',
        [lenser, className, object],
      )
    )?.state
  const conflicts = async (lenser: string): Promise<Record<string, never>[]> =>
    (await owner.query('SELECT * FROM devices.sync_conflicts WHERE lenser_id = $1 ORDER BY id', [lenser])).rows
  const count = async (text: string, values: unknown[] = []): Promise<number> =>
    Number((await one<{ count: string }>(`SELECT count(*) FROM ${text}`, values)).count)
  const close = async (): Promise<void> => {
    await Promise.all([owner.end(), applier.end()])
    await database.drop()
  }
  const people = { addLenser, addDevice, addMachine, setLevel }
  return {
    database,
    owner,
    applier,
    one,
    count,
    ...people,
    seal,
    pushBody,
    sealPush,
    createRig,
    rig,
    apply,
    push,
    stored,
    conflicts,
    connect,
    close,
  }
}
export type World = Awaited<ReturnType<typeof createWorld>>
