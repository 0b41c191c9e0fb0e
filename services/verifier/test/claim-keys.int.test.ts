import { generateKeyPair } from '@lenserfight/envelope'
import { kindsInState, limits } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import test from 'ava'
import { type ClaimsDatabase, claimIngress, claimOf, claimsDatabase, nanoseconds } from './_claims.ts'

let db: ClaimsDatabase
test.before(async () => {
  db = await claimsDatabase()
})
test.after.always(() => db?.close())

const seconds = (): number => Date.now() / 1000
const at = (unixSeconds: number) => ({ stored: nanoseconds(unixSeconds), iat: Math.floor(unixSeconds) })

/** Gives a device another key, the one before it good until then (Unix seconds); with null, not at all. */
const replaceKey = async (device: Signatory, until: number | null): Promise<Signatory> => {
  const keys = generateKeyPair()
  await db.owner.query(
    `UPDATE devices.registered_devices
        SET public_key = $2, key_number = key_number + 1, former_key_until = to_timestamp($3),
            former_public_key = CASE WHEN $3::float8 IS NOT NULL THEN public_key END
      WHERE id = $1`,
    [device.kid, keys.publicKey, until],
  )
  return { ...device, keys }
}
const expire = (device: Signatory, unixSeconds: number) =>
  db.owner.query('UPDATE devices.registered_devices SET key_expires_at = to_timestamp($2) WHERE id = $1', [
    ...[device.kid, unixSeconds],
  ])
const numbersOf = async (device: Signatory): Promise<number[]> => {
  const { rows } = await db.owner.query<{ key_number: number }>(
    'SELECT key_number FROM devices.envelope_claims WHERE kid = $1 ORDER BY key_number',
    [device.kid],
  )
  return rows.map(({ key_number }) => key_number)
}

test('a claim says which of the device’s keys signed', async (t) => {
  const device = await db.device()
  const overlap = seconds() + 30
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['ok'])
  const next = await replaceKey(device, overlap)
  t.deepEqual(await claimIngress(db.verifier, [claimOf(next)]), ['ok'])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['ok'])
  t.deepEqual(await numbersOf(device), [1, 1, 2])
})

test('the former key is good for what was stored within the overlap, to the nanosecond, however late it is claimed', async (t) => {
  const [device, neighbour] = [await db.device(), await db.device()]
  const until = Math.floor(seconds()) - 600
  await replaceKey(device, until)
  const end = nanoseconds(until)
  const batch = [
    claimOf(device, at(until - 10)),
    claimOf(device, { stored: end, iat: until }),
    claimOf(device, { stored: end + 1n, iat: until }),
    claimOf(neighbour),
    claimOf(device, at(until + 10)),
  ]
  const expected = ['ok', 'ok', 'signature_mismatch', 'ok', 'signature_mismatch']
  t.deepEqual(await claimIngress(db.verifier, batch), expected)
  t.deepEqual(await claimIngress(db.verifier, batch), expected, 'delivered again')
  t.deepEqual(await numbersOf(device), [1, 1])
})

test('a key that was replaced without an overlap is dead at once, and so is the one before the former one', async (t) => {
  const device = await db.device()
  const reproved = await replaceKey(device, null)
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['key_changed'])
  await replaceKey(reproved, seconds() + 30)
  t.deepEqual(await claimIngress(db.verifier, [claimOf(reproved)]), ['ok'])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['key_changed'])
})

test('law 7: a claim waits for a change of key in flight, and sees it', async (t) => {
  const device = await db.device()
  const change = await db.owner.connect()
  await change.query('BEGIN')
  await change.query(
    'UPDATE devices.registered_devices SET public_key = $2, key_number = key_number + 1 WHERE id = $1',
    [device.kid, generateKeyPair().publicKey],
  )
  const claim = claimIngress(db.verifier, [claimOf(device)])
  const first = await Promise.race([claim, new Promise((done) => setTimeout(done, 200, 'waits'))])
  t.is(first, 'waits')
  await change.query('COMMIT')
  change.release()
  t.deepEqual(await claim, ['key_changed'])
})

test('key_expired: past its end a key signs what an unhealthy device may send, and nothing else', async (t) => {
  for (const level of ['approved', 'trusted', 'offline'] as const) {
    const device = await db.device(level)
    await expire(device, seconds() - 1)
    const allowed: readonly string[] = kindsInState('in', 'unhealthy')
    for (const kind of kindsInState('in', level)) {
      const [verdict] = await claimIngress(db.verifier, [claimOf(device, { kind })])
      t.is(verdict, allowed.includes(kind) ? 'ok' : 'key_expired', `${level} ${kind}`)
    }
  }
  const unhealthy = await db.device('unhealthy')
  await expire(unhealthy, seconds() - 1)
  t.deepEqual(await claimIngress(db.verifier, [claimOf(unhealthy, { kind: 'run_start' })]), ['device_unhealthy'])
})

test('key_expired: judged by the time at which the broker stored it', async (t) => {
  const device = await db.device()
  const end = Math.floor(seconds()) - 300
  await expire(device, end)
  const batch = [end - 1, end, end + 1].map((time) => claimOf(device, { kind: 'attestation', ...at(time) }))
  t.deepEqual(await claimIngress(db.verifier, batch), ['ok', 'ok', 'key_expired'])
})

test('a device’s key has its end from its approval on', async (t) => {
  const device = await db.device()
  const { rows } = await db.owner.query<{ days: number }>(
    'SELECT extract(epoch FROM key_expires_at - now()) / 86400 AS days FROM devices.registered_devices WHERE id = $1',
    [device.kid],
  )
  t.true(Math.abs(Number(rows[0]?.days) - limits.keyMaxAgeDays) < 0.01)
})

test('at the other doors the key in force alone is heard, and its end is told', async (t) => {
  const device = await db.device()
  const next = await replaceKey(device, seconds() + 30)
  const claimAt = async (door: 'connect' | 'ask', { kid, keys }: Signatory) => {
    const claim = {
      ...{ kid, kind: door === 'ask' ? 'status' : 'connect', iat: Math.floor(seconds()) },
      nonce: claimOf(device).nonce,
      digest: Buffer.alloc(32).toString('base64url'),
      public_key: Buffer.from(keys.publicKey).toString('base64url'),
      ...(door === 'connect' ? { server_id: `N${'A'.repeat(55)}`, client_id: 7 } : {}),
    }
    const pool = db.poolAs(door === 'ask' ? 'ltg_registrar' : 'ltg_broker_auth')
    const { rows } = await pool.query<{ claim: object }>(`SELECT devices.fn_claim_${door}($1) AS claim`, [claim])
    return rows[0]?.claim
  }
  for (const door of ['connect', 'ask'] as const) {
    t.like(await claimAt(door, device), { verdict: 'key_changed' })
    t.like(await claimAt(door, next), { verdict: 'ok', key_number: 2, key_expired: false })
  }
  await expire(next, seconds() - 1)
  t.like(await claimAt('connect', next), { verdict: 'ok', trust_level: 'approved', key_expired: true })
  t.like(await claimAt('ask', next), { verdict: 'ok' }, 'a status may be asked in any state')
})
