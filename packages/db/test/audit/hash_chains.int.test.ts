import { canonicalize } from '@lenserfight/envelope'
import test from 'ava'
import { refuses, sha256, useWorld } from '../_world.ts'
import { check, linkAll, record } from './_chains.ts'

const world = useWorld(test)

interface Entry {
  chain_kind: string
  lenser_id: string
  seq: string
  prev_hash: Buffer
  entry_hash: Buffer
  event_kind: string
  device_id: string | null
  kid: string | null
  op_id: string | null
  digest: Buffer | null
  payload: object
  payload_text: string
  payload_hash: Buffer
  micros: string
}

const entriesOf = (lenser: string) =>
  world().rows<Entry>(
    `SELECT *, payload::text AS payload_text, (extract(epoch FROM created_at) * 1000000)::bigint::text AS micros
       FROM audit.hash_chains WHERE lenser_id = $1 ORDER BY seq`,
    [lenser],
  )

/** The hash of an entry as its definition says, by another implementation than the database's. */
const hashOf = (entry: Entry): Buffer =>
  sha256(
    canonicalize({
      chain_kind: entry.chain_kind,
      created_at: Number(entry.micros),
      device_id: entry.device_id,
      digest: entry.digest?.toString('hex') ?? null,
      event_kind: entry.event_kind,
      kid: entry.kid,
      lenser_id: entry.lenser_id,
      op_id: entry.op_id,
      payload_hash: entry.payload_hash.toString('hex'),
      prev_hash: entry.prev_hash.toString('hex'),
      seq: Number(entry.seq),
    }),
  )

test.serial(
  'AU-1: every trust transition of a device is in its account’s chain, in order, with who may cause it',
  async (t) => {
    const lenser = await world().addLenser()
    const device = await world().addDevice(lenser.id, 'trusted')
    for (const level of ['offline', 'unhealthy', 'trusted', 'blocked', 'trusted', 'revoked']) {
      await world().setLevel(device, level)
    }
    await world().rows(`UPDATE devices.registered_devices SET daemon_version = '1' WHERE id = $1`, [device])
    const entries = await entriesOf(lenser.id)
    t.deepEqual(
      entries.map(({ payload }) => payload),
      [
        { from: null, to: 'pending', actor: 'owner', reason: null },
        { from: 'pending', to: 'approved', actor: 'owner', reason: null },
        { from: 'approved', to: 'trusted', actor: 'server', reason: null },
        { from: 'trusted', to: 'offline', actor: 'server', reason: null },
        { from: 'offline', to: 'unhealthy', actor: 'server', reason: null },
        { from: 'unhealthy', to: 'trusted', actor: 'owner', reason: null },
        { from: 'trusted', to: 'blocked', actor: 'platform', reason: null },
        { from: 'blocked', to: 'trusted', actor: 'platform', reason: null },
        { from: 'trusted', to: 'revoked', actor: 'owner', reason: null },
      ],
    )
    for (const entry of entries) {
      t.like(entry, { chain_kind: 'gateway', event_kind: 'trust_transition', device_id: device })
    }
  },
)

test.serial(
  'AU-1: a transition that is rolled back is not in the chain, one that cannot be written there does not happen',
  async (t) => {
    const lenser = await world().addLenser()
    const device = await world().addDevice(lenser.id)
    const client = await world().owner.connect()
    try {
      await client.query('BEGIN')
      await client.query(`UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`, [device])
      await client.query('ROLLBACK')
      t.is((await entriesOf(lenser.id)).length, 1)
      await client.query('BEGIN')
      await client.query('ALTER TABLE audit.hash_chains ADD CONSTRAINT no_room CHECK (false) NOT VALID')
      const revoke = `UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`
      await refuses(t, () => client.query(revoke, [device]), '23514')
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
    t.is((await world().levelOf(device)).trust_level, 'pending')
  },
)

test.serial('AU-1: a statement about many devices audits each, for replicating sessions too', async (t) => {
  const [one, other] = [await world().addLenser(), await world().addLenser()]
  const devices = [await world().addDevice(one.id), await world().addDevice(one.id), await world().addDevice(other.id)]
  const client = await world().owner.connect()
  await client.query('SET session_replication_role = replica')
  await client.query(`UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = ANY ($1)`, [devices])
  await client.query('RESET session_replication_role')
  client.release()
  t.is((await entriesOf(one.id)).length, 4)
  t.is((await entriesOf(other.id)).length, 2)
})

test.serial('an entry’s hash is the SHA-256 of its canonical JSON, appended or linked alike', async (t) => {
  const lenser = await world().addLenser()
  await world().addDevice(lenser.id, 'approved')
  await record(world(), lenser.id, 3)
  await world().rows(`SELECT audit.fn_record($1, NULL, NULL, NULL, 'lifecycle.start', NULL, '{}')`, [lenser.id])
  await linkAll(world())
  const entries = await entriesOf(lenser.id)
  t.is(entries.length, 6)
  let previous: Buffer = Buffer.alloc(32)
  for (const [index, entry] of entries.entries()) {
    t.is(entry.seq, String(index + 1))
    t.deepEqual(entry.prev_hash, previous)
    t.deepEqual(entry.payload_hash, sha256(entry.payload_text))
    t.deepEqual(entry.entry_hash, hashOf(entry))
    previous = entry.entry_hash
  }
  t.deepEqual(await check(world(), lenser.id), { ok: true, first_bad_index: null, entries: '6', reason: null })
})

test.serial('AU-3: an audit entry is neither changed nor removed, whoever asks', async (t) => {
  const lenser = await world().addLenser()
  await world().addDevice(lenser.id)
  const statements = [
    `UPDATE audit.hash_chains SET payload = '{}'`,
    'DELETE FROM audit.hash_chains',
    'TRUNCATE audit.hash_chains',
    'DELETE FROM audit.chain_heads',
    'TRUNCATE audit.chain_heads, audit.hash_chains',
    `UPDATE audit.pending SET payload = '{}'`,
    'TRUNCATE audit.pending',
  ]
  for (const role of ['postgres', 'ltg_owner']) {
    const client = await world().owner.connect()
    await client.query(`SET ROLE ${role}`)
    for (const statement of statements)
      await refuses(t, () => client.query(statement), 'LT003', `${role}: ${statement}`)
    await client.query('RESET ROLE')
    await client.query(role === 'postgres' ? 'SET session_replication_role = replica' : 'SELECT')
    await refuses(t, () => client.query('DELETE FROM audit.hash_chains'), 'LT003', 'as a replica')
    await client.query('RESET session_replication_role')
    client.release()
  }
  for (const statement of statements) {
    await refuses(t, () => world().as('ltg_audit_chain').query(statement), '42501')
    await refuses(t, () => world().asUser(lenser.user, (query) => query(statement)), '42501')
  }
})

test.serial('an event’s name and a chain’s kind cannot carry anything that canonical JSON would escape', async (t) => {
  const lenser = await world().addLenser()
  for (const event of ['', 'a"b', 'A', 'a\nb', 'ä']) {
    const left = () => world().rows(`SELECT audit.fn_record($1, NULL, NULL, NULL, $2, NULL, '{}')`, [lenser.id, event])
    await refuses(t, left, '23514')
  }
  await refuses(t, () => world().rows(`SELECT audit.fn_append('other', $1, NULL, 'x', '{}')`, [lenser.id]), '23514')
})
