import { newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { codeOf, type Device, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const bind = (session: Session, name: string, device: Device) =>
  world().ask(session, 'runner_bind', operation({ name, device_id: device.kid }))
const unbind = (session: Session, runner_id: unknown, members: object = operation()) =>
  world().ask(session, 'runner_unbind', { ...members, runner_id })
const list = async (session: Session) =>
  resultOf(await world().ask(session, 'runners', {})) as { runners: Record<string, unknown>[]; more: boolean }
const activeOf = (runner: unknown) =>
  world().query<{ id: string; device_id: string }>(
    `SELECT id, device_id FROM execution.runner_device_bindings WHERE runner_id = $1 AND status = 'active'`,
    [runner],
  )
const errorOf = async (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error: { code?: string }) => error.code,
  )

test('RH-1: fn_runner_list_with_devices shows each runner with the one device that it is bound to, and the unbound ones', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const bound = resultOf(await bind(session, 'nightly', device))
  const other = resultOf(await bind(session, 'retired', device))
  resultOf(await unbind(session, other.runner_id))
  const { runners, more } = await list(session)
  t.false(more)
  t.is(runners.length, 2)
  const { created_at, bound_at, ...shown } = runners[0] ?? {}
  t.deepEqual(shown, {
    ...{ runner_id: bound.runner_id, name: 'nightly', last_heartbeat_at: null, binding_id: bound.binding_id },
    ...{ device_id: device.kid, device_trust_level: 'approved' },
    open_runs: 0,
    device_name: runners[0]?.device_name,
  })
  t.true(Number.isInteger(created_at) && Number.isInteger(bound_at))
  t.like(runners[1], { name: 'retired', binding_id: null, bound_at: null, device_id: null, device_trust_level: null })
  t.deepEqual((await list(await world().newSession())).runners, [], 'nobody sees another’s')
})

test('runners: as many as an answer has room for, and it says that there are more', async (t) => {
  const session = await world().newSession()
  await world().query(
    `INSERT INTO execution.runners (lenser_id, name) SELECT $1, lpad(n::text, 64, 'ü') FROM generate_series(1, 600) n`,
    [session.lenser],
  )
  const answer = await list(session)
  t.true(answer.more)
  t.true(Buffer.byteLength(JSON.stringify(answer.runners)) <= 192 * 1024)
  t.true(answer.runners.length > 100)
})

test('a runner’s open runs are those that it may go on with now', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const { runner_id } = resultOf(await bind(session, 'busy', device))
  const signed = sign(
    device,
    'run_start',
    operation({ command_hash: Buffer.alloc(32, 7).toString('base64url'), inputs: [], runner_id }),
  )
  t.is(await world().claimIngress(signed), 'ok')
  await world().query('SELECT FROM execution.fn_run_start($1)', [[signed.text]])
  t.is((await list(session)).runners[0]?.open_runs, 1)
  await world().query(`UPDATE execution.open_runs SET open_until = now() WHERE device_id = $1`, [device.kid])
  t.is((await list(session)).runners[0]?.open_runs, 0)
})

test('unbinding ends the binding once: again it says the same, and what was bound is on record', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const { runner_id, binding_id } = resultOf(await bind(session, 'nightly', device))
  const members = operation()
  const first = await unbind(session, runner_id, members)
  t.like(resultOf(first), { runner_id, name: 'nightly', binding_id, device_id: device.kid })
  t.true(Number.isInteger(resultOf(first).ended_at))
  t.deepEqual(resultOf(await unbind(session, runner_id, members)), resultOf(first), 'law 2')
  t.like(resultOf(await unbind(session, runner_id)), { runner_id, binding_id: null, device_id: null, ended_at: null })
  t.deepEqual(await activeOf(runner_id), [])
  const records = await world().query<{ device_id: string; payload: { ok: boolean } }>(
    `SELECT device_id, payload FROM audit.pending WHERE kid = $1 AND event_kind = 'runner_unbind' ORDER BY id`,
    [session.kid],
  )
  t.deepEqual(
    records.map(({ device_id, payload }) => [device_id, payload.ok]),
    [
      [device.kid, true],
      [null, true],
    ],
  )
  const again = resultOf(await bind(session, 'nightly', device))
  t.is(again.runner_id, runner_id)
  t.not(again.binding_id, binding_id, 'a binding that ended does not come back')
})

test('unbinding another account’s runner, or none, is unknown_runner and ends nothing', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const { runner_id } = resultOf(await bind(mine, 'nightly', await world().newDevice(mine)))
  t.is(codeOf(await unbind(theirs, runner_id)), 'unknown_runner')
  t.is(codeOf(await unbind(mine, newUuidV7())), 'unknown_runner')
  t.is((await activeOf(runner_id)).length, 1)
})

test('RH-1: whoever races, a runner never has two active bindings', async (t) => {
  const session = await world().newSession()
  const devices = await Promise.all([1, 2, 3].map(() => world().newDevice(session)))
  const { runner_id } = resultOf(await bind(session, 'contested', devices[0] as Device))
  const requests = () => [...devices.map((device) => bind(session, 'contested', device)), unbind(session, runner_id)]
  for (let round = 0; round < 5; round += 1) {
    for (const outcome of await Promise.all(requests())) t.is(codeOf(outcome), 'ok')
    t.true((await activeOf(runner_id)).length <= 1)
  }
  // Against the table's own owner too, who takes its locks in another order: one of two that wait for each other is put off.
  const raw = ({ kid }: Device) =>
    world().query('INSERT INTO execution.runner_device_bindings (runner_id, device_id) VALUES ($1, $2)', [
      runner_id,
      kid,
    ])
  for (let round = 0; round < 5; round += 1) {
    const works = [...requests(), ...devices.map(raw)]
    const ends = await Promise.allSettled(works)
    const odd = ends.flatMap((end) => (end.status === 'rejected' ? [`${end.reason.code} ${end.reason.detail}`] : []))
    t.deepEqual(
      odd.filter((why) => !/23505|40P01/.test(why)),
      [],
    )
    t.true((await activeOf(runner_id)).length <= 1)
  }
  resultOf(await bind(session, 'contested', devices[2] as Device))
  t.is((await activeOf(runner_id))[0]?.device_id, devices[2]?.kid)
  const overlapping = await world().query(
    `SELECT FROM execution.runner_device_bindings a JOIN execution.runner_device_bindings b
        ON b.runner_id = a.runner_id AND b.id <> a.id AND a.ended_at IS NULL AND b.ended_at IS NULL WHERE a.runner_id = $1`,
    [runner_id],
  )
  t.deepEqual(overlapping, [])
  const second = world().query('INSERT INTO execution.runner_device_bindings (runner_id, device_id) VALUES ($1, $2)', [
    runner_id,
    devices[0]?.kid,
  ])
  t.is(await errorOf(second), '23505', 'nor by hand')
})
