import { randomUUID } from 'node:crypto'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'
import { chainOf, check, randomHash, tamper, type Verdict } from './_chains.ts'

const world = useWorld(test)

const verify = (user: string, lenser: string) =>
  world().asUser<Verdict>(user, (query) => query(`SELECT * FROM audit.fn_chain_verify($1, 'gateway')`, [lenser]))

test.serial('AU-4: the owner verifies their chain; of an empty one nothing is bad', async (t) => {
  const lenser = await world().addLenser()
  t.deepEqual(await verify(lenser.user, lenser.id), [{ ok: true, first_bad_index: null, entries: '0', reason: null }])
  await world().addDevice(lenser.id, 'revoked')
  t.deepEqual(await verify(lenser.user, lenser.id), [{ ok: true, first_bad_index: null, entries: '3', reason: null }])
})

test.serial('AU-4: anybody else gets 42501, whether the chain exists or not, and so does who is nobody', async (t) => {
  const [owner, other] = [await world().addLenser(), await world().addLenser()]
  await refuses(t, () => verify(other.user, owner.id), '42501')
  await refuses(t, () => verify(owner.user, randomUUID()), '42501')
  await refuses(t, () => verify(randomUUID(), owner.id), '42501')
  const nobody = () => world().rows(`SELECT * FROM audit.fn_chain_verify($1, 'gateway')`, [owner.id])
  await refuses(t, nobody, '42501')
})

const columns: [string, unknown, string][] = [
  ['event_kind', 'attestation', 'entry_altered'],
  ['device_id', randomUUID(), 'entry_altered'],
  ['device_id', null, 'entry_altered'],
  ['kid', randomUUID(), 'entry_altered'],
  ['op_id', randomUUID(), 'entry_altered'],
  ['digest', randomHash(), 'entry_altered'],
  ['digest', null, 'entry_altered'],
  ['created_at', new Date(0), 'entry_altered'],
  ['prev_hash', randomHash(), 'entry_altered'],
  ['entry_hash', randomHash(), 'entry_altered'],
  ['payload', '{"n":5}', 'payload_altered'],
  ['payload_hash', randomHash(), 'payload_altered'],
]

test.serial('AU-4: any altered column of any entry is found at its place', async (t) => {
  for (const [column, value, reason] of columns) {
    for (const place of [1, 3, 5]) {
      const lenser = await chainOf(world(), 5)
      await tamper(world(), `UPDATE audit.hash_chains SET ${column} = $2 WHERE lenser_id = $1 AND seq = $3`, [
        lenser,
        value,
        place,
      ])
      t.deepEqual(
        await check(world(), lenser),
        { ok: false, first_bad_index: String(place), entries: '5', reason },
        column,
      )
    }
  }
})

test.serial('AU-4: a removed entry is found at its place, and so is an end cut off', async (t) => {
  for (const place of [1, 2, 5]) {
    const lenser = await chainOf(world(), 5)
    await tamper(world(), 'DELETE FROM audit.hash_chains WHERE lenser_id = $1 AND seq = $2', [lenser, place])
    const expected = { ok: false, first_bad_index: String(place), entries: '4', reason: 'missing' }
    t.deepEqual(await check(world(), lenser), expected)
  }
  const lenser = await chainOf(world(), 5)
  await tamper(world(), 'DELETE FROM audit.hash_chains WHERE lenser_id = $1', [lenser])
  t.like(await check(world(), lenser), { ok: false, first_bad_index: '1', entries: '0', reason: 'missing' })
})

test.serial('AU-4: entries in another order are found, also where gaps were closed', async (t) => {
  const lenser = await chainOf(world(), 5)
  await tamper(world(), 'UPDATE audit.hash_chains SET seq = seq + 10 WHERE lenser_id = $1 AND seq = 2', [lenser])
  t.like(await check(world(), lenser), { ok: false, first_bad_index: '2', reason: 'missing' })
  const other = await chainOf(world(), 5)
  await tamper(world(), 'DELETE FROM audit.hash_chains WHERE lenser_id = $1 AND seq = 2', [other])
  await tamper(world(), 'UPDATE audit.hash_chains SET seq = 2 WHERE lenser_id = $1 AND seq = 3', [other])
  t.like(await check(world(), other), { ok: false, first_bad_index: '2', reason: 'entry_altered' })
})

test.serial('AU-4: an entry rewritten with a hash that fits is found by the next one, or by the head', async (t) => {
  const rewrite = `UPDATE audit.hash_chains c SET payload = '{}', payload_hash = sha256('{}'),
    entry_hash = audit.fn_entry_hash(ROW(c.chain_kind, c.lenser_id, c.seq, c.prev_hash, c.entry_hash, c.event_kind, c.device_id,
      c.kid, c.op_id, c.digest, '{}'::jsonb, sha256('{}'), c.created_at)::audit.hash_chains)
    WHERE lenser_id = $1 AND seq = $2`
  const lenser = await chainOf(world(), 5)
  await tamper(world(), rewrite, [lenser, 2])
  t.deepEqual(await check(world(), lenser), { ok: false, first_bad_index: '3', entries: '5', reason: 'broken_link' })
  const other = await chainOf(world(), 5)
  await tamper(world(), rewrite, [other, 5])
  t.deepEqual(await check(world(), other), { ok: false, first_bad_index: '5', entries: '5', reason: 'head_mismatch' })
})

test.serial('AU-4: a head that says something else than the chain is found', async (t) => {
  const lenser = await chainOf(world(), 3)
  await tamper(world(), 'UPDATE audit.chain_heads SET seq = 2 WHERE lenser_id = $1', [lenser])
  t.like(await check(world(), lenser), { ok: false, first_bad_index: '3', reason: 'head_mismatch' })
  await tamper(world(), 'UPDATE audit.chain_heads SET seq = 4 WHERE lenser_id = $1', [lenser])
  t.like(await check(world(), lenser), { ok: false, first_bad_index: '4', reason: 'missing' })
  await tamper(world(), 'DELETE FROM audit.chain_heads WHERE lenser_id = $1', [lenser])
  t.like(await check(world(), lenser), { ok: false, first_bad_index: '1', reason: 'head_mismatch' })
})

test.serial('AU-4: an entry moved into another account’s chain is found there', async (t) => {
  const [lenser, other] = [await chainOf(world(), 3), await chainOf(world(), 3)]
  await tamper(world(), 'DELETE FROM audit.hash_chains WHERE lenser_id = $1 AND seq = 3', [other])
  await tamper(world(), 'UPDATE audit.hash_chains SET lenser_id = $2 WHERE lenser_id = $1 AND seq = 3', [lenser, other])
  t.like(await check(world(), other), { ok: false, first_bad_index: '3', reason: 'entry_altered' })
})
