import { createHash, randomBytes } from 'node:crypto'
import { newUuidV7, signEnvelope } from '@lenserfight/envelope'
import type { DeviceLevel, TransitionActor } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeSession, type Signatory, setLevel } from '@lenserfight/testkit'
import type { World } from '../_world.ts'

const aud = '3f1f9d0e-6a44-4d6f-9f0c-52a1d0a6c001'

/** Something that the outside may do about a device, by the function that does it and as the role that may. */
export interface Deed {
  readonly name: string
  readonly actor: TransitionActor
  /** Readies what it rests on; its call, and with what. */
  readonly prepare: (world: World, device: Signatory) => Promise<{ role: string; text: string; values: unknown[] }>
}

/** Signs as somebody and leaves the claim of a door that a service would. */
const seal = async (world: World, by: Signatory, door: 'ask' | 'ingress', body: { kind: string } & object) => {
  const iat = Math.floor(Date.now() / 1000)
  const counter = door === 'ingress' ? { counter: Date.now() } : {}
  const signed = signEnvelope({ kid: by.kid, key: by.keys.privateKey, body: { aud, ...counter, ...body }, iat })
  const place = door === 'ingress' ? ['LTG_INGRESS', 1, BigInt(Date.now()) * 1_000_000n] : [null, null, null]
  const key = door === 'ingress' ? 1 : null
  await world.owner.query(
    `INSERT INTO devices.envelope_claims (door, kid, nonce, iat, kind, digest, verdict, lenser_id, stream, seq, stored_ns, key_number)
     VALUES ($1, $2, $3, $4, $5, $6, 'ok', $7, $8, $9, $10, $11)`,
    [door, by.kid, signed.envelope.nonce, iat, body.kind, signed.digest, by.lenser, ...place, key],
  )
  return Buffer.from(signed.bytes).toString()
}

/** An owner's request, applied as the registrar does. */
const request = (kind: string, fn: string, members: () => object = () => ({})): Deed => ({
  name: kind,
  actor: 'owner',
  prepare: async (world, { kid, lenser }) => {
    const session = await makeSession(world.owner, lenser)
    const text = await seal(world, session, 'ask', { kind, op_id: newUuidV7(), device_id: kid, ...members() } as never)
    return { role: 'ltg_registrar', text: `SELECT ${fn}($1)`, values: [text] }
  },
})

/** What the platform does as service_role. */
const measure = (name: string, fn: string): Deed => ({
  name,
  actor: 'platform',
  prepare: async (_world, { kid }) => ({
    role: 'service_role',
    text: `SELECT ${fn}($1, 'an incident')`,
    values: [kid],
  }),
})

/** A month of history that makes an approved device worthy of trust. */
export const addHistory = async (world: World, { kid, lenser }: Signatory, days = 7): Promise<void> => {
  await world.owner.query(
    `INSERT INTO devices.heartbeat_days
     SELECT $1, (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, $2::int - 1) n ON CONFLICT DO NOTHING`,
    [kid, days],
  )
  await world.owner.query('UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = $1', [kid])
  // One that never had a key has attested nothing.
  const keys = await world.rows('SELECT FROM devices.device_keys WHERE device_id = $1', [kid])
  if (keys.length > 0) await addAttestation(world, { kid, lenser })
}

/** A run of the device and its attestation, stored so long ago; the run's id. */
export const addAttestation = async (
  world: World,
  { kid, lenser }: Pick<Signatory, 'kid' | 'lenser'>,
  { ago = '0 days', verified = true } = {},
): Promise<string> => {
  const { id } = await world.one<{ id: string }>(
    `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
     VALUES ($1, $2, $3, true, $4, '[]', now()) RETURNING id`,
    [lenser, kid, newUuidV7(), randomBytes(32)],
  )
  const wire = randomBytes(16)
  const digest = createHash('sha256').update(wire).digest()
  await world.owner.query(
    `INSERT INTO execution.attestations
       (run_id, lenser_id, device_id, key_number, op_id, wire, digest, content_hash, command_hash, inputs, outputs, started_at,
        ended_at, tool_invocations, as_permitted, signed, gateway_verified, device_trusted, policy_passed, version_unchanged,
        binding_active, heartbeat_fresh, stored_at)
     VALUES ($1, $2, $3, 1, $4, $5, $6, $6, $6, '[]', '[]', now(), now(), 0, true, $7, $7, true, true, true, true, true,
             now() - $8::interval)`,
    [id, lenser, kid, newUuidV7(), wire, digest, verified, ago],
  )
  return id
}

/** Every way there is to change a device's trust level. */
export const deeds: readonly Deed[] = [
  request('approve', 'devices.fn_device_approve'),
  request('suspend', 'devices.fn_device_suspend'),
  request('reinstate', 'devices.fn_device_reinstate'),
  request('revoke', 'devices.fn_device_revoke'),
  // The new key's proof is the registrar's to check: the function goes by its word.
  request('reprove', 'devices.fn_device_reprove', () => ({ new_public_key: randomBytes(32).toString('base64url') })),
  measure('block', 'devices.fn_device_block'),
  measure('unblock', 'devices.fn_device_unblock'),
  {
    name: 'heartbeat',
    actor: 'server',
    prepare: async (world, device) => {
      const text = await seal(world, device, 'ingress', {
        kind: 'heartbeat',
        daemon_version: '1',
        gateway_status: 'connected',
      } as never)
      return { role: 'ltg_trust_evaluator', text: 'SELECT * FROM devices.fn_device_heartbeat($1)', values: [[text]] }
    },
  },
  {
    name: 'promotion',
    actor: 'server',
    prepare: async (world, device) => {
      await addHistory(world, device)
      return { role: 'ltg_trust_evaluator', text: 'SELECT devices.fn_promote_trusted(1000)', values: [] }
    },
  },
  {
    name: 'silence',
    actor: 'server',
    prepare: async (world, { kid }) => {
      await silence(world, kid)
      return { role: 'ltg_trust_evaluator', text: 'SELECT devices.fn_mark_offline(1000)', values: [] }
    },
  },
  {
    name: 'fork',
    actor: 'server',
    prepare: async (world, device) => ({
      role: 'ltg_trust_evaluator',
      text: 'SELECT devices.fn_judge_fork($1, 1, $2, $3)',
      values: await suspect(world, device),
    }),
  },
]

/** Two that sign with the device's key: an envelope each, under one counter. One that was never approved is not suspected. */
const suspect = async (world: World, { kid, keys }: Signatory): Promise<unknown[]> => {
  const [earlier, later] = ['one', 'another'].map((daemon_version) => {
    const body = { kind: 'heartbeat', aud, counter: 7, daemon_version, gateway_status: 'connected' }
    return Buffer.from(signEnvelope({ kid, key: keys.privateKey, body }).bytes)
  }) as [Buffer, Buffer]
  await world.owner.query(
    `INSERT INTO devices.fork_suspicions (device_id, key_number, earlier, earlier_stored_at, later, later_stored_at)
     SELECT $1, 1, $2, now(), $3, now() FROM devices.device_keys k WHERE k.device_id = $1 AND k.number = 1`,
    [kid, earlier, later],
  )
  return [kid, ...[earlier, later].map((bytes) => createHash('sha256').update(bytes).digest())]
}

/** Nothing was heard of the device for over a day. */
export const silence = async (world: World, kid: string): Promise<void> => {
  await world.owner.query(
    `UPDATE devices.registered_devices SET last_heartbeat_at = now() - interval '25 hours' WHERE id = $1`,
    [kid],
  )
}

/** Where a device may stand: its levels in order, the last being the one it is at, and whether it is silent since. */
export interface Standing {
  readonly way: readonly DeviceLevel[]
  readonly isSilent?: boolean
}

/** Every level, by every way that makes a difference to where the device can go from there. */
export const standings: readonly Standing[] = [
  { way: ['pending'] },
  { way: ['approved'] },
  { way: ['approved', 'trusted'] },
  { way: ['approved', 'offline'] },
  { way: ['approved', 'trusted', 'offline'] },
  { way: ['approved', 'unhealthy'] },
  { way: ['approved', 'unhealthy'], isSilent: true },
  { way: ['approved', 'trusted', 'unhealthy'] },
  { way: ['approved', 'revoked'] },
  { way: ['blocked'] },
  { way: ['approved', 'blocked'] },
  { way: ['approved', 'trusted', 'blocked'] },
  { way: ['approved', 'offline', 'blocked'] },
  { way: ['approved', 'unhealthy', 'blocked'] },
  { way: ['approved', 'revoked', 'blocked'] },
]

/** A device of a new account with a key of its own, brought to where it stands. */
export const standAt = async (world: World, { way, isSilent = false }: Standing): Promise<Signatory> => {
  const { lenser } = await makeAccount(world.owner)
  const [first, ...others] = way
  const device = await makeDevice(world.owner, { lenser, level: first === 'approved' ? 'approved' : 'pending' })
  // A pending one has answered its challenge, so that its owner may approve it.
  await world.owner.query(
    'UPDATE devices.registered_devices SET challenge_verified_at = now(), last_heartbeat_at = now() WHERE id = $1',
    [device.kid],
  )
  for (const level of first === 'blocked' ? way : others) await setLevel(world.owner, device.kid, level)
  if (isSilent) await silence(world, device.kid)
  return device
}
