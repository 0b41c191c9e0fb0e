import { randomUUID } from 'node:crypto'
import { setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'
import { serviceRoles } from '../catalog/_expected.ts'
import { standAt, standings } from './_ladder.ts'

const world = useWorld(test)

const asPlatform = async (call: string, values: unknown[]): Promise<Record<string, unknown>> => {
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    await client.query('SET LOCAL ROLE service_role')
    const { rows } = await client.query(`SELECT devices.${call} AS outcome`, values)
    await client.query('COMMIT')
    return rows[0].outcome
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}
const block = (device: string, reason: string | null = 'abuse') =>
  asPlatform('fn_device_block($1, $2)', [device, reason])
const unblock = (device: string, reason: string | null = 'cleared') =>
  asPlatform('fn_device_unblock($1, $2)', [device, reason])
const rowOf = (device: string) =>
  world().one('SELECT trust_level, trust_reason FROM devices.registered_devices WHERE id = $1', [device])

test('the platform blocks a device at any level, and unblocked it is what it was, for the reason that it had', async (t) => {
  for (const standing of standings.filter(({ way }) => way.at(-1) !== 'blocked')) {
    const { kid } = await standAt(world(), standing)
    await world().rows(`UPDATE devices.registered_devices SET trust_reason = 'what was said' WHERE id = $1`, [kid])
    const level = standing.way.at(-1)
    t.deepEqual(await block(kid), { ok: true, result: { device_id: kid, trust_level: 'blocked' } })
    t.deepEqual(await rowOf(kid), { trust_level: 'blocked', trust_reason: 'blocked by the platform: abuse' })
    t.deepEqual(await block(kid, 'again'), { ok: true, result: { device_id: kid, trust_level: 'blocked' } })
    t.deepEqual(await unblock(kid), { ok: true, result: { device_id: kid, trust_level: level } }, level)
    t.deepEqual(await rowOf(kid), { trust_level: level, trust_reason: 'what was said' })
    t.deepEqual(await unblock(kid), { ok: true, result: { device_id: kid, trust_level: level } }, 'twice is once')
    const reasons = await world().rows<{ reason: string }>(
      `SELECT payload ->> 'reason' AS reason FROM audit.hash_chains WHERE device_id = $1 ORDER BY seq DESC LIMIT 2`,
      [kid],
    )
    t.deepEqual(
      reasons.map(({ reason }) => reason),
      ['unblocked by the platform: cleared', 'blocked by the platform: abuse'],
    )
  }
})

test('no block without a reason, none of a device that does not exist', async (t) => {
  const { kid } = await standAt(world(), { way: ['approved'] })
  for (const reason of [null, '', '   ', 'x'.repeat(201)]) {
    await refuses(t, () => block(kid, reason), '22023')
    await refuses(t, () => unblock(kid, reason), '22023')
  }
  t.deepEqual(await rowOf(kid), { ...(await rowOf(kid)), trust_level: 'approved' })
  t.like(await block(randomUUID()), { ok: false, code: 'device_not_found' })
  t.like(await unblock(randomUUID()), { ok: false, code: 'device_not_found' })
})

test('no owner, nobody signed in, nobody else and no service blocks or unblocks', async (t) => {
  const { kid } = await standAt(world(), { way: ['approved'] })
  for (const role of [...serviceRoles, 'authenticated', 'anon']) {
    for (const call of ['fn_device_block', 'fn_device_unblock']) {
      const attempt = async () => {
        const client = await world().owner.connect()
        try {
          await client.query('BEGIN')
          await client.query(`SET LOCAL ROLE ${role}`)
          await client.query(`SELECT devices.${call}($1, 'mine')`, [kid])
        } finally {
          await client.query('ROLLBACK')
          client.release()
        }
      }
      await refuses(t, attempt, '42501', `${role} ${call}`)
    }
  }
})

test('law 7: a block waits for a claim in flight', async (t) => {
  const { kid } = await standAt(world(), { way: ['approved'] })
  const claim = await world().owner.connect()
  await claim.query('BEGIN')
  await claim.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [kid])
  let isDone = false
  const blocking = block(kid).then(() => {
    isDone = true
  })
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.false(isDone)
  await claim.query('COMMIT')
  claim.release()
  await blocking
  t.like(await rowOf(kid), { trust_level: 'blocked' })
  await refuses(t, () => setLevel(world().owner, kid, 'trusted'), 'LT002')
})
