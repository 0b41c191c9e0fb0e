import { createPool } from '@lenserfight/db'
import { generateKeyPair, newUuidV7, verifyEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { createStore } from '../../src/commit.ts'
import { judgeFork } from '../../src/judge-fork.ts'
import { addSetting, attestation, heartbeat, ranAt, runStart, startRun } from '../_bodies.ts'
import { createWorld, type Device, gatewayId, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const settleMs = limits.counterSettleSeconds * 1000
const keepMs = limits.counterKeepSeconds * 1000

const addDevice = async (levels?: Parameters<World['addDevice']>[1]): Promise<Device> =>
  world.addDevice(await world.addLenser(), levels)
const beat = (counter: number, more: object = {}) => heartbeat({ counter, ...more })
const say = (device: Device, counter: number, stored?: number): Promise<Outcome> =>
  world.send(device, beat(counter), stored === undefined ? {} : { stored })
const store = () => createStore(world.evaluator)
/** What the database suspects of one device, as the evaluator sees it. */
const suspicionsOf = async (device: Device) =>
  (await store().forkSuspicions(1000)).filter(({ deviceId }) => deviceId === device.id)
const levelOf = (device: Device) =>
  world.one<{ trust_level: string; trust_reason: string | null }>(
    'SELECT trust_level, trust_reason FROM devices.registered_devices WHERE id = $1',
    [device.id],
  )
const forksOf = async (device: Device) =>
  (
    await world.owner.query<{ earlier: Buffer; later: Buffer; key_number: number; earlier_stored_at: Date }>(
      'SELECT * FROM devices.identity_forks WHERE device_id = $1 ORDER BY key_number',
      [device.id],
    )
  ).rows
/** One round of the evaluator over one device's suspicions; what each came to. */
const judge = async (device: Device): Promise<boolean[]> => {
  const { proveFork, dismissFork } = store()
  const done: boolean[] = []
  for (const suspicion of await suspicionsOf(device)) {
    const verdict = judgeFork(suspicion, gatewayId)
    done.push(verdict.isProven ? await proveFork(suspicion) : !(await dismissFork(suspicion, verdict.forged)))
  }
  return done
}
const isUnblamed = async (t: ExecutionContext, device: Device, level = 'approved'): Promise<void> => {
  t.deepEqual(await suspicionsOf(device), [])
  t.deepEqual(await forksOf(device), [])
  t.is((await levelOf(device)).trust_level, level)
}
const settleAll = async (): Promise<void> => {
  for (let count = 100; count === 100; ) count = await store().settleCounters(100)
}

test('two envelopes with one counter: unhealthy, both kept as evidence, and both verify under the key', async (t) => {
  const device = await addDevice()
  const texts = [await world.seal(device, beat(7)), await world.seal(device, beat(7))]
  for (const text of texts) t.true((await world.apply('heartbeat', [text]))[0]?.ok)
  t.is((await suspicionsOf(device)).length, 1)
  t.deepEqual(await judge(device), [true])
  t.deepEqual(await levelOf(device), { trust_level: 'unhealthy', trust_reason: 'identity_forked' })
  const [fork, ...more] = await forksOf(device)
  t.deepEqual(more, [])
  t.deepEqual([String(fork?.earlier), String(fork?.later)].sort(), texts.toSorted())
  for (const wire of [fork?.earlier, fork?.later]) {
    t.like(verifyEnvelope(wire as Buffer, device.keys.publicKey), { kid: device.id, body: { counter: 7 } })
  }
  t.deepEqual(await suspicionsOf(device), [])
})

test('the same in one batch, by two appliers at once, and by two of another kind', async (t) => {
  const [one, two, three] = [await addDevice(), await addDevice(), await addDevice()]
  await world.apply('heartbeat', [await world.seal(one, beat(1)), await world.seal(one, beat(1))])
  const texts = [await world.seal(two, runStart({ counter: 9 })), await world.seal(two, runStart({ counter: 9 }))]
  await Promise.all(texts.map((text) => world.apply('run_start', [text])))
  await say(three, 4)
  await world.send(three, { kind: 'canary', sent_at: Date.now(), counter: 4 })
  for (const device of [one, two, three]) t.deepEqual(await judge(device), [true])
})

test('a counter below the settled floor is a fork; the floor outlives what it was taken from', async (t) => {
  const device = await addDevice()
  const now = Date.now()
  for (const [counter, ago] of [
    [40, keepMs + 60_000],
    [41, keepMs + 30_000],
  ] as const) {
    await say(device, counter, now - ago)
  }
  await say(device, 42, now)
  await settleAll()
  const kept = await world.owner.query('SELECT counter FROM devices.counters WHERE device_id = $1', [device.id])
  t.deepEqual(kept.rows, [{ counter: '42' }])
  await isUnblamed(t, device)
  await say(device, 3, now)
  t.deepEqual(await judge(device), [true])
  const [fork] = await forksOf(device)
  t.like(JSON.parse(String(fork?.earlier)), { body: { counter: 41 } })
  t.like(JSON.parse(String(fork?.later)), { body: { counter: 3 } })
})

test('a device restored from an old backup after days of silence is noticed at its first word', async (t) => {
  const device = await addDevice()
  await say(device, 5000, Date.now() - 3 * 24 * 3600_000)
  await settleAll()
  await settleAll()
  await say(device, 4000)
  t.deepEqual(await judge(device), [true])
  t.like(await levelOf(device), { trust_reason: 'identity_forked' })
})

test('gaps, order within the settle time, doubles and resends are no fork', async (t) => {
  const device = await addDevice()
  const now = Date.now()
  await say(device, 1_000_000, now - settleMs + 5_000)
  for (const counter of [5, 17, 3, 900, 901, 2]) await say(device, counter, now)
  const text = await world.seal(device, beat(31))
  for (let n = 0; n < 3; n += 1) await world.apply('heartbeat', [text, text])
  await Promise.all([text, text, text].map((again) => world.apply('heartbeat', [again])))
  const op_id = newUuidV7()
  const attempts = [
    runStart({ op_id, counter: 50 }),
    runStart({ op_id, counter: 51 }),
    runStart({ op_id, counter: 49 }),
  ]
  const outcomes: Outcome[] = []
  for (const attempt of attempts) outcomes.push(await world.send(device, attempt))
  t.is(new Set(outcomes.map(({ result }) => result.run_id)).size, 1, 'the counter is no content of an operation')
  await isUnblamed(t, device)
})

test('what the broker stored long ago and comes late, or again, is measured by its own store time', async (t) => {
  const device = await addDevice()
  const now = Date.now()
  const late = await world.seal(device, beat(10), { stored: now - keepMs - 30_000 })
  await world.apply('heartbeat', [late])
  await say(device, 11, now - keepMs - 20_000)
  await settleAll()
  await world.apply('heartbeat', [late])
  const backlog = await world.seal(device, beat(9), { stored: now - keepMs - 40_000 })
  await world.apply('heartbeat', [backlog])
  await isUnblamed(t, device)
})

test('another key begins another series, and other devices’ counters are their own', async (t) => {
  const [device, neighbour] = [await addDevice(), await addDevice()]
  await say(device, 5)
  await say(neighbour, 5)
  await isUnblamed(t, neighbour)
  const { publicKey, privateKey } = generateKeyPair()
  await world.owner.query(
    `UPDATE devices.registered_devices
        SET former_public_key = public_key, former_key_until = now(), public_key = $2, key_number = 2 WHERE id = $1`,
    [device.id, publicKey],
  )
  const renewed: Device = { ...device, keys: { publicKey, privateKey }, keyNumber: 2 }
  await world.send(renewed, beat(5))
  await world.send(renewed, beat(1))
  await isUnblamed(t, device)
})

test('rule 8: of a forked device nothing counts that was stored since; what it did before stays', async (t) => {
  const setting = await addSetting(world)
  const { device } = setting
  const now = Date.now()
  const runs: unknown[] = []
  for (const stored of [now - 60_000, now - 1_000]) {
    const permit = await startRun(world, setting, {}, { stored })
    await world.send(device, attestation(permit, ranAt(stored)), { stored })
    runs.push(permit.run_id)
  }
  await say(device, 5, now - 30_000)
  await say(device, 5, now)
  t.deepEqual(await judge(device), [true])
  while ((await store().queueCompromised(256)) === 256);
  while ((await store().reevaluate(256)) === 256);
  const levels = await Promise.all(
    runs.map((run) =>
      world.one<{ trust_level: string }>(
        'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
        [run],
      ),
    ),
  )
  t.deepEqual(
    levels.map(({ trust_level }) => trust_level),
    ['fully_trusted', 'agent_verified'],
  )
  const refused = await world.send(device, runStart())
  t.like(refused, { ok: false, code: 'device_unhealthy', detail: 'identity_forked' })
})

test('AU-1 AU-2: a proven fork is one record with both digests, and one transition by the server', async (t) => {
  const device = await addDevice()
  await say(device, 2)
  await say(device, 2)
  const [suspicion] = await suspicionsOf(device)
  const { proveFork } = store()
  const proven = await Promise.all([1, 2, 3].map(() => proveFork(suspicion as NonNullable<typeof suspicion>)))
  t.deepEqual(proven.toSorted(), [false, false, true], 'however many evaluators look')
  const { rows: records } = await world.owner.query(
    `SELECT payload FROM audit.pending WHERE device_id = $1 AND event_kind = 'identity_forked'`,
    [device.id],
  )
  t.is(records.length, 1)
  t.like(records[0].payload, { key_number: 1, earlier: { counter: 2 }, later: { counter: 2 } })
  const { rows: entries } = await world.owner.query(
    `SELECT payload FROM audit.hash_chains WHERE device_id = $1 AND payload ->> 'to' = 'unhealthy'`,
    [device.id],
  )
  t.deepEqual(entries, [{ payload: { from: 'approved', to: 'unhealthy', actor: 'server', reason: 'identity_forked' } }])
  await say(device, 2)
  await isClosed(t, device)
})

const isClosed = async (t: ExecutionContext, device: Device): Promise<void> => {
  t.deepEqual(await suspicionsOf(device), [])
  t.is((await forksOf(device)).length, 1)
}

test('law 5 law 8: what a device did not sign blames nobody, and counts no more', async (t) => {
  const device = await addDevice()
  const forger: Device = { ...device, keys: generateKeyPair() }
  const now = Date.now()
  // An applier and a verifier that lie together: the database cannot check signatures.
  await world.send(forger, beat(9_000_000), { stored: now - keepMs - 1000 })
  await settleAll()
  t.true((await say(device, 12)).ok)
  t.is((await suspicionsOf(device)).length, 1)
  t.deepEqual(await judge(device), [false])
  await say(device, 13)
  await isUnblamed(t, device)
  await world.send(forger, beat(14))
  await say(device, 14)
  t.deepEqual(await judge(device), [false])
  await isUnblamed(t, device)
})

test('law 5: the database blames nobody on the evaluator’s word alone', async (t) => {
  const device = await addDevice()
  const [a, b] = [await world.seal(device, beat(20)), await world.seal(device, beat(21))]
  const foreign = await world.seal(await addDevice(), beat(20))
  const plant = async (earlier: string, later: string) => {
    await world.owner.query(
      `INSERT INTO devices.fork_suspicions VALUES ($1, 1, $2, now(), $3, now())
       ON CONFLICT (device_id, key_number) DO UPDATE SET earlier = excluded.earlier, later = excluded.later`,
      [device.id, Buffer.from(earlier), Buffer.from(later)],
    )
    const [suspicion] = await suspicionsOf(device)
    return suspicion as NonNullable<typeof suspicion>
  }
  for (const [earlier, later] of [
    [a, b],
    [b, a],
    [a, a],
    [a, foreign],
    [foreign, a],
  ] as const) {
    const suspicion = await plant(earlier, later)
    t.false((await store().proveFork(suspicion)) ?? true)
  }
  const planted = await plant(a, b)
  t.false(await store().proveFork({ ...planted, later: a }), 'another pair than the one that is suspected')
  t.is((await suspicionsOf(device)).length, 1)
  t.true(await store().dismissFork(planted, []))
  await isUnblamed(t, device)
})

test('the verifier’s, the registrar’s and people’s roles can neither see, judge nor drop a suspicion', async (t) => {
  const logger = createLogger({ service: 'test', level: 'silent' })
  for (const role of ['ltg_verifier', 'ltg_registrar', 'ltg_audit_chain', 'authenticated', 'service_role']) {
    const pool = createPool({ ...world.database.owner, max: 1, logger })
    for (const call of [
      'devices.fn_fork_suspicions(1)',
      `devices.fn_judge_fork('${newUuidV7()}', 1, '', '')`,
      `devices.fn_dismiss_fork('${newUuidV7()}', 1, '', '', '{}')`,
      'devices.fn_settle_counters(1)',
    ]) {
      await t.throwsAsync(
        async () => {
          await pool.query(`SET ROLE ${role}`)
          await pool.query(`SELECT ${call}`)
        },
        { message: /permission denied/ },
        `${role} ${call}`,
      )
    }
    await pool.end()
  }
})

test('who is offline or trusted is blamed, who is suspended stays so for the fork, who is revoked is not brought back', async (t) => {
  for (const [levels, end] of [
    [['approved', 'trusted'], 'unhealthy'],
    [['approved', 'offline'], 'unhealthy'],
    [['approved', 'unhealthy'], 'unhealthy'],
    [['approved', 'revoked'], 'revoked'],
  ] as const) {
    const device = await addDevice(['approved'])
    await world.apply('canary', [await canaryOf(device), await canaryOf(device)])
    for (const level of levels.slice(1)) await world.setLevel(device, level)
    t.deepEqual(await judge(device), [true], levels.join())
    t.is((await levelOf(device)).trust_level, end)
    if (end === 'unhealthy') t.is((await levelOf(device)).trust_reason, 'identity_forked')
    t.is((await forksOf(device)).length, 1)
  }
})
const canaryOf = (device: Device) => world.seal(device, { kind: 'canary', sent_at: Date.now(), counter: 77 })

test('a blocked device’s suspicion waits for the platform; a pending device is not suspected', async (t) => {
  const device = await addDevice()
  await say(device, 1)
  await say(device, 1)
  await world.setLevel(device, 'blocked')
  t.deepEqual(await suspicionsOf(device), [])
  await world.setLevel(device, 'approved')
  t.deepEqual(await judge(device), [true])
  const pending = await addDevice([])
  for (let n = 0; n < 2; n += 1) await world.apply('canary', [await canaryOf(pending)])
  await isUnblamed(t, pending, 'pending')
})

test('a counter that is none is refused by the database too', async (t) => {
  const device = await addDevice()
  const outcome = await world.send(device, beat(0))
  t.like(outcome, { ok: false, code: 'malformed_body' })
})
