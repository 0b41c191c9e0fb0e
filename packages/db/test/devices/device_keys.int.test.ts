import { randomBytes } from 'node:crypto'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'

const world = useWorld(test)

/** An approved device and its account. */
const setUp = async () => {
  const lenser = await world().addLenser()
  return { lenser, device: await world().addDevice(lenser.id, 'approved') }
}
const set = (device: string, assignments: string, values: unknown[] = []) =>
  world().rows(`UPDATE devices.registered_devices SET ${assignments} WHERE id = $1`, [device, ...values])
const rotate = (device: string, key = randomBytes(32)) =>
  set(
    device,
    'public_key = $2, key_number = key_number + 1, former_public_key = public_key, former_key_until = now()',
    [key],
  )
const historyOf = (device: string) =>
  world().rows<{ number: number; how: string; public_key: Buffer; until: Date | null }>(
    'SELECT number, how, public_key, until FROM devices.device_keys WHERE device_id = $1 ORDER BY number',
    [device],
  )

test('a device has its first key from its approval on, and each that follows, whoever changes it', async (t) => {
  const lenser = await world().addLenser()
  const device = await world().addDevice(lenser.id)
  t.deepEqual(await historyOf(device), [])
  await world().setLevel(device, 'approved')
  const [second, third] = [randomBytes(32), randomBytes(32)]
  await rotate(device, second)
  await set(device, 'public_key = $2, key_number = key_number + 1, former_public_key = NULL, former_key_until = NULL', [
    third,
  ])
  const history = await historyOf(device)
  t.deepEqual(
    history.map(({ number, how, until }) => [number, how, until !== null]),
    [
      [1, 'registered', true],
      [2, 'rotated', true],
      [3, 'reproved', false],
    ],
  )
  t.deepEqual(
    history.slice(1).map(({ public_key }) => public_key),
    [second, third],
  )
})

test('a device goes from one key to the next: none is skipped, taken twice, renamed or taken away', async (t) => {
  const { device } = await setUp()
  const key = randomBytes(32)
  await refuses(t, () => set(device, 'public_key = $2', [key]), 'LT003')
  await refuses(t, () => set(device, 'public_key = $2, key_number = key_number + 2', [key]), 'LT003')
  await refuses(t, () => set(device, 'key_number = key_number + 1'), 'LT003')
  await refuses(t, () => set(device, 'public_key = NULL, key_number = key_number + 1'), '23514')
  const taken = 'public_key = $2, key_number = key_number + 1, former_public_key = $3, former_key_until = now()'
  await refuses(t, () => set(device, taken, [key, randomBytes(32)]), 'LT003')
  const revived = 'former_public_key = $2, former_key_until = now()'
  await refuses(t, () => set(device, revived, [key]), 'LT003')
  t.is((await historyOf(device)).length, 1)
})

test('a key is one device’s alone, for ever', async (t) => {
  const [one, other] = [await setUp(), await setUp()]
  const key = randomBytes(32)
  await rotate(one.device, key)
  await refuses(t, () => rotate(other.device, key), '23505')
  await rotate(one.device)
  await refuses(t, () => rotate(one.device, key), '23505')
  await refuses(t, () => rotate(other.device, key), '23505')
})

test('AU-3: history is added to and never changed, but for the end of a key, once; to a superuser and to its owner', async (t) => {
  const { device } = await setUp()
  await rotate(device)
  for (const role of ['postgres', 'ltg_owner']) {
    for (const [statement, where] of [
      ["UPDATE devices.device_keys SET until = now() + interval '1 day'", 'number = 1'],
      ['UPDATE devices.device_keys SET until = NULL', 'number = 1'],
      ["UPDATE devices.device_keys SET public_key = sha256('x')", 'number = 2'],
      ['UPDATE devices.device_keys SET since = now(), until = now()', 'number = 2'],
      ['DELETE FROM devices.device_keys', 'number = 1'],
    ] as const) {
      await refuses(
        t,
        async () => {
          const client = await world().owner.connect()
          try {
            await client.query(`SET ROLE ${role}`)
            await client.query(`${statement} WHERE device_id = $1 AND ${where}`, [device])
          } finally {
            await client.query('RESET ROLE')
            client.release()
          }
        },
        'LT003',
      )
    }
  }
  await refuses(t, () => world().rows('TRUNCATE devices.device_keys CASCADE'), 'LT003')
})

test('owners read the keys of their own devices, and nobody writes any', async (t) => {
  const [mine, theirs] = [await setUp(), await setUp()]
  const rows = await world().asUser(mine.lenser.user, (query) => query('SELECT device_id FROM devices.device_keys'))
  t.deepEqual(rows, [{ device_id: mine.device }])
  t.not(mine.device, theirs.device)
  await refuses(
    t,
    () =>
      world().asUser(mine.lenser.user, (query) =>
        query('INSERT INTO devices.device_keys VALUES ($1, 2, $2, $3, now(), NULL)', [
          ...[mine.device, randomBytes(32), 'rotated'],
        ]),
      ),
    '42501',
  )
})
