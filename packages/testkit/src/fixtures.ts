import { generateKeyPair, type KeyPair, kidOfKey, newUuidV7 } from '@lenserfight/envelope'
import type { DeviceLevel, SessionScope } from '@lenserfight/schemas'

/** A connection or pool of the superuser: fixtures write rows that no service role may. */
export interface OwnerDatabase {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>
}

/** A person's account. */
export interface Account {
  readonly lenser: string
  /** `auth.uid()` of its owner. */
  readonly userId: string
}

/** A key that signs under a kid, and whose account it is. */
export interface Signatory {
  readonly kid: string
  readonly lenser: string
  readonly keys: KeyPair
}

/** A lens version with both hashes, as raw bytes. */
export interface Version {
  readonly id: string
  readonly lensHash: Buffer
  readonly workflowHash: Buffer
}

/** Which transitions lead a device from its registration to a level. */
const paths: Readonly<Record<DeviceLevel, readonly DeviceLevel[]>> = {
  pending: [],
  approved: ['approved'],
  trusted: ['approved', 'trusted'],
  offline: ['approved', 'offline'],
  unhealthy: ['approved', 'unhealthy'],
  revoked: ['approved', 'revoked'],
  blocked: ['approved', 'blocked'],
}

/** How many entries a device brought to this level left in its account's chain (AU-1): its registration and each transition. */
export const transitionsTo = (level: DeviceLevel): number => 1 + paths[level].length

const insert = async (db: OwnerDatabase, table: string, row: Record<string, unknown>): Promise<string> => {
  const columns = Object.keys(row)
  const places = columns.map((_, index) => `$${index + 1}`)
  const text = `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${places.join(', ')}) RETURNING id`
  const { rows } = await db.query(text, Object.values(row))
  return (rows[0] as { id: string }).id
}

/** An account, made past its door. */
export const makeAccount = async (db: OwnerDatabase): Promise<Account> => {
  const userId = newUuidV7()
  const lenser = await insert(db, 'lensers.profiles', { user_id: userId, issuer: 'fixture', subject: userId })
  return { lenser, userId }
}

/** A session of an account, as a login would leave it, or an API key's. */
export const makeSession = async (
  db: OwnerDatabase,
  lenser: string,
  scope: SessionScope = 'owner',
): Promise<Signatory> => {
  const keys = generateKeyPair()
  const kid = kidOfKey(keys.publicKey)
  await db.query(
    `INSERT INTO lensers.sessions (kid, public_key, lenser_id, scope, name, expires_at)
     VALUES ($1, $2, $3, $4, $5, now() + interval '1 day')`,
    [kid, keys.publicKey, lenser, scope, scope === 'owner' ? null : kid],
  )
  return { kid, lenser, keys }
}

/** Brings a device to another level, where several may as the server; the database refuses what is no transition. */
export const setLevel = async (db: OwnerDatabase, device: string, level: DeviceLevel): Promise<void> => {
  await db.query(
    `UPDATE devices.registered_devices d
        SET trust_level = $2,
            trust_actor = (SELECT t.actor FROM devices.trust_transitions t
                            WHERE t.from_level = d.trust_level AND t.to_level = $2
                            ORDER BY t.actor = 'server' DESC LIMIT 1)
      WHERE d.id = $1`,
    [device, level],
  )
}

/** A device with its key, registered and brought to a level one transition at a time. */
export const makeDevice = async (
  db: OwnerDatabase,
  { lenser, level = 'approved' }: { lenser: string; level?: DeviceLevel },
): Promise<Signatory> => {
  const keys = generateKeyPair()
  const kid = await insert(db, 'devices.registered_devices', {
    lenser_id: lenser,
    name: `device ${newUuidV7()}`,
    device_type: 'ci',
    os: 'linux',
    submitted_public_key: keys.publicKey,
  })
  if (level !== 'pending') {
    await db.query('UPDATE devices.registered_devices SET public_key = submitted_public_key WHERE id = $1', [kid])
  }
  for (const step of paths[level]) await setLevel(db, kid, step)
  return { kid, lenser, keys }
}

/** A row from before devices had keys, as an import would leave it: pending, and without a key for ever. Returns its id. */
export const makeLegacyDevice = (db: OwnerDatabase, lenser: string): Promise<string> =>
  insert(db, 'devices.registered_devices', {
    lenser_id: lenser,
    name: `legacy ${newUuidV7()}`,
    device_type: 'laptop',
    os: 'linux',
    is_legacy: true,
  })

/** A runner of the device's account, bound to it. Returns its id. */
export const makeRunner = async (db: OwnerDatabase, device: Pick<Signatory, 'kid' | 'lenser'>): Promise<string> => {
  const runner = await insert(db, 'execution.runners', { lenser_id: device.lenser, name: newUuidV7() })
  await insert(db, 'execution.runner_device_bindings', { runner_id: runner, device_id: device.kid })
  return runner
}

/** A lens version of an account that pins both hashes. */
export const makeVersion = async (db: OwnerDatabase, lenser: string): Promise<Version> => {
  const [lensHash, workflowHash] = [Buffer.alloc(32, 4), Buffer.alloc(32, 5)]
  const named = { lenser_id: lenser, name: newUuidV7() }
  const lens = await insert(db, 'lenses.lenses', named)
  const workflow = await insert(db, 'lenses.workflows', named)
  const row = {
    lenser_id: lenser,
    lens_id: lens,
    number: 1,
    lens_hash: lensHash,
    workflow_id: workflow,
    workflow_hash: workflowHash,
  }
  return { id: await insert(db, 'lenses.versions', row), lensHash, workflowHash }
}

/** A battle that takes submissions. Returns its id. */
export const makeBattle = (db: OwnerDatabase): Promise<string> => insert(db, 'battles.battles', { title: newUuidV7() })

/** A contender in a battle of its own. Returns its id. */
export const makeContender = async (
  db: OwnerDatabase,
  {
    lenser,
    kind = 'ai_runner',
    battle,
  }: { lenser: string; kind?: 'human' | 'ai_agent' | 'ai_runner'; battle?: string },
): Promise<string> =>
  insert(db, 'battles.contenders', { battle_id: battle ?? (await makeBattle(db)), kind, owner_lenser_id: lenser })

/** A submission, for a contender where one is given, else in a battle of its own. Returns its id. */
export const makeSubmission = async (
  db: OwnerDatabase,
  { lenser, contender }: { lenser: string; contender?: string | null },
): Promise<string> => {
  const { rows } = await db.query('SELECT battle_id FROM battles.contenders WHERE id = $1', [contender ?? null])
  const battle = (rows[0] as { battle_id: string } | undefined)?.battle_id ?? (await makeBattle(db))
  return insert(db, 'battles.submissions', {
    battle_id: battle,
    contender_id: contender ?? null,
    submitter_lenser_id: lenser,
  })
}
