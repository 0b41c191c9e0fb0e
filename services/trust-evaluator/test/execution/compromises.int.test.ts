import { randomBytes } from 'node:crypto'
import { newUuidV7 } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import fc from 'fast-check'
import { createStore } from '../../src/commit.ts'
import { startReevaluation } from '../../src/reevaluate.ts'
import { addSetting, addSubmission, attestation, beatOf, ranAt, runStart, type Setting } from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const minutes = (n: number): number => n * 60_000
const levelOf = async (run: unknown): Promise<string> =>
  (
    await world.one<{ trust_level: string }>(
      'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
      [run],
    )
  ).trust_level
/** A run with everything as it should be, attested so long ago. */
const attestAgo = async (setting: Setting, age: number): Promise<string> => {
  const { device, runner, version } = setting
  const stored = Date.now() - age
  await world.send(device, beatOf(setting), { stored: stored - 1000 })
  const named = { runner_id: runner, version_id: version, op_id: newUuidV7(stored) }
  const { result } = await world.send(device, runStart(named), { stored })
  const outcome = await world.send(device, attestation(result, { op_id: newUuidV7(stored), ...ranAt(stored) }), {
    stored,
  })
  if (outcome.result?.level !== 'fully_trusted') throw new TypeError(`not fully trusted: ${outcome.result?.reason}`)
  return result.run_id
}
interface Compromise {
  /** How long ago it began, milliseconds. */
  readonly age: number
  readonly kind?: 'revoked' | 'fork'
  readonly key?: number | null
}
const declare = async ({ device }: Setting, { age, kind = 'revoked', key = null }: Compromise): Promise<void> => {
  await world.owner.query(
    `INSERT INTO devices.compromises (device_id, kind, key_number, since, reason) VALUES ($1, $2, $3, $4, 'stolen')`,
    [device.id, kind, key, new Date(Date.now() - age)],
  )
}
const sweep = async (limit = 1000): Promise<number> =>
  (await world.evaluator.query('SELECT execution.fn_queue_compromised($1) AS n', [limit])).rows[0].n
const reevaluate = async (): Promise<void> => {
  await world.evaluator.query('SELECT execution.fn_reevaluate_due(1000)')
}

test.serial(
  'rule 8: runs attested since a device was compromised fall, those before stand, and every row stays',
  async (t) => {
    const setting = await addSetting(world)
    const [before, since] = [await attestAgo(setting, minutes(20)), await attestAgo(setting, minutes(10))]
    const submission = await addSubmission(world, setting.lenser)
    await world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [since, submission])
    await reevaluate()
    const rows = async () =>
      (
        await world.owner.query('SELECT * FROM execution.attestations WHERE device_id = $1 ORDER BY id', [
          setting.device.id,
        ])
      ).rows
    const stored = await rows()
    await world.setLevel(setting.device, 'revoked')
    await declare(setting, { age: minutes(15) })
    t.is(await levelOf(since), 'fully_trusted', 'until it is judged again')
    await sweep()
    await reevaluate()
    t.is(await levelOf(since), 'agent_verified')
    t.is(await levelOf(before), 'fully_trusted')
    t.deepEqual(await rows(), stored)
    const history = await world.owner.query(
      'SELECT trust_level, reason, submission_id FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id',
      [since],
    )
    t.deepEqual(history.rows.slice(-2), [
      { trust_level: 'fully_trusted', reason: null, submission_id: submission },
      { trust_level: 'agent_verified', reason: 'device_trusted', submission_id: submission },
    ])
    await world.owner.query('SELECT execution.fn_compute_submission_trust($1)', [[since, before]])
    t.is(await levelOf(since), 'agent_verified', 'and does not rise again')
  },
)

test.serial('rule 8: what was stored at the very moment falls, what was stored just before does not', async (t) => {
  const setting = await addSetting(world)
  const run = await attestAgo(setting, minutes(5))
  const at = async (offset: string) => {
    await world.owner.query(
      `INSERT INTO devices.compromises (device_id, kind, since, reason)
       SELECT device_id, 'revoked', stored_at + $2::interval, 'x' FROM execution.attestations WHERE run_id = $1`,
      [run, offset],
    )
    await sweep()
    await reevaluate()
    return levelOf(run)
  }
  t.is(await at('1 microsecond'), 'fully_trusted')
  t.is(await at('0'), 'agent_verified')
})

test.serial('rule 8: revoked without a date, or blocked, nothing that a device attested changes', async (t) => {
  for (const level of ['revoked', 'blocked'] as const) {
    const setting = await addSetting(world)
    const run = await attestAgo(setting, minutes(1))
    await world.setLevel(setting.device, level)
    t.is(await sweep(), 0)
    await world.owner.query('SELECT execution.fn_compute_submission_trust($1)', [[run]])
    t.is(await levelOf(run), 'fully_trusted', level)
  }
})

test.serial('of several dates the earliest counts, in whatever order they were declared', async (t) => {
  for (const ages of [
    [minutes(5), minutes(15)],
    [minutes(15), minutes(5)],
  ]) {
    const setting = await addSetting(world)
    const runs = [await attestAgo(setting, minutes(20)), await attestAgo(setting, minutes(10))]
    for (const age of ages) await declare(setting, { age })
    await sweep()
    await reevaluate()
    t.deepEqual(await Promise.all(runs.map(levelOf)), ['fully_trusted', 'agent_verified'])
  }
})

test.serial('a fork concerns the key that was forked: what the device attests with another counts', async (t) => {
  const setting = await addSetting(world)
  const [forked, other] = [await attestAgo(setting, minutes(10)), newUuidV7()]
  await world.owner.query(
    `UPDATE devices.registered_devices
        SET public_key = $2, key_number = 2, former_public_key = NULL, former_key_until = NULL WHERE id = $1`,
    [setting.device.id, randomBytes(32)],
  )
  // The same once more, of another run and by the second key.
  await world.owner.query(
    `WITH run AS (
       INSERT INTO execution.runs
       SELECT (jsonb_populate_record(r, jsonb_build_object('id', $2::uuid, 'op_id', uuidv7()))).*
         FROM execution.runs r WHERE r.id = $1 RETURNING id
     ), permitted AS (
       INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, covered_until)
       SELECT run.id, e.lenser_id, e.phase, e.verdict, e.reason, e.asked_at, e.covered_until
         FROM agents.policy_evaluations e, run WHERE e.run_id = $1
     )
     INSERT INTO execution.attestations
     SELECT (jsonb_populate_record(a, jsonb_build_object('id', uuidv7(), 'run_id', run.id, 'key_number', 2))).*
       FROM execution.attestations a, run WHERE a.run_id = $1`,
    [forked, other],
  )
  await declare(setting, { age: minutes(15), kind: 'fork', key: 1 })
  await sweep()
  await reevaluate()
  t.deepEqual([await levelOf(forked), await levelOf(other)], ['agent_verified', 'fully_trusted'])
})

test.serial('another device’s compromise concerns nobody else, its owner’s other devices neither', async (t) => {
  const setting = await addSetting(world)
  const run = await attestAgo(setting, minutes(1))
  const other = { ...setting, device: await world.addDevice(setting.lenser) }
  await declare(other, { age: minutes(60) })
  await sweep()
  await world.owner.query('SELECT execution.fn_compute_submission_trust($1)', [[run]])
  t.is(await levelOf(run), 'fully_trusted')
})

/** Many attestations at once, as a working device has them; two share each store time. */
const addMany = async (setting: Setting, count: number): Promise<void> => {
  const run = await attestAgo(setting, minutes(10))
  await world.owner.query(
    `WITH made AS (
       INSERT INTO execution.runs
       SELECT (jsonb_populate_record(r, jsonb_build_object('id', uuidv7(), 'op_id', uuidv7()))).*
         FROM execution.runs r, generate_series(1, $2) WHERE r.id = $1 RETURNING id
     ), numbered AS (
       SELECT id, row_number() OVER () / 2 AS place FROM made
     )
     INSERT INTO execution.attestations
     SELECT (jsonb_populate_record(a, jsonb_build_object('id', uuidv7(), 'run_id', n.id,
              'stored_at', a.stored_at + n.place * interval '1 microsecond'))).*
       FROM execution.attestations a, numbered n WHERE a.run_id = $1`,
    [run, count],
  )
}
const queued = async ({ device }: Setting): Promise<number> =>
  (
    await world.one<{ n: number }>(
      `SELECT count(*)::int AS n FROM execution.reevaluations q JOIN execution.runs r ON r.id = q.run_id WHERE r.device_id = $1`,
      [device.id],
    )
  ).n

test.serial('however many runs are concerned, they are queued in steps, each once, and the sweep ends', async (t) => {
  const setting = await addSetting(world)
  await addMany(setting, 250)
  await declare(setting, { age: minutes(15) })
  t.is(await queued(setting), 0, 'who declares it waits for none of them')
  t.is(await sweep(100), 100)
  t.is(await queued(setting), 100)
  t.is(await sweep(100), 100)
  t.is(await sweep(100), 52, 'the last 51, and the end')
  t.is(await queued(setting), 251)
  t.is(await sweep(100), 0)
  await reevaluate()
  const levels = await world.owner.query(
    `SELECT DISTINCT ON (e.run_id) e.trust_level FROM execution.trust_evaluations e JOIN execution.runs r ON r.id = e.run_id
      WHERE r.device_id = $1 ORDER BY e.run_id, e.id DESC`,
    [setting.device.id],
  )
  t.deepEqual(new Set(levels.rows.map(({ trust_level }) => trust_level)), new Set(['agent_verified']))
  t.is(levels.rows.length, 251)
})

test.serial(
  'declared again and again, each run is queued for it once, and nobody’s sweep waits behind the others',
  async (t) => {
    const [loud, quiet] = await Promise.all([addSetting(world), addSetting(world)])
    await addMany(loud, 50)
    const run = await attestAgo(quiet, minutes(1))
    for (const age of [15, 12, 15, 11, 16, 17, 18, 12, 18]) await declare(loud, { age: minutes(age) })
    await declare(loud, { age: minutes(14), kind: 'fork', key: 1 })
    await declare(quiet, { age: minutes(2) })
    // 51 runs and the end of theirs, three ends of sweeps that found nothing new, one run and its end.
    t.is(await sweep(1000), 51 + 1 + 3 + 1 + 1)
    t.deepEqual([await queued(loud), await queued(quiet)], [51, 1])
    await reevaluate()
    t.is(await levelOf(run), 'agent_verified')
  },
)

test.serial('a fork’s date covers no other key’s, nor what was stored before it', async (t) => {
  const setting = await addSetting(world)
  const runs = [
    await attestAgo(setting, minutes(20)),
    await attestAgo(setting, minutes(10)),
    await attestAgo(setting, minutes(1)),
  ]
  for (const said of [
    { age: minutes(15), kind: 'fork', key: 2 },
    { age: minutes(5), kind: 'fork', key: 1 },
    { age: minutes(12) },
    { age: minutes(25), kind: 'fork', key: 1 },
  ] as const) {
    await declare(setting, said)
    await sweep()
    await reevaluate()
    const fallen = runs.map(
      (_, index) => ({ 5: index === 2, 12: index > 0, 15: false, 25: true })[said.age / minutes(1)],
    )
    t.deepEqual(
      await Promise.all(runs.map(levelOf)),
      fallen.map((fell) => (fell ? 'agent_verified' : 'fully_trusted')),
    )
  }
})

test.serial('two who sweep at once, and many small sweeps in one call', async (t) => {
  const settings = await Promise.all([1, 2, 3].map(() => addSetting(world)))
  for (const setting of settings) {
    await addMany(setting, 30)
    await declare(setting, { age: minutes(15) })
  }
  await Promise.all([sweep(40), sweep(40), sweep(40)])
  while ((await sweep(40)) === 40);
  for (const setting of settings) t.is(await queued(setting), 31)
  t.is((await world.owner.query('SELECT FROM execution.compromise_sweeps')).rows.length, 0)
  await reevaluate()
})

test.serial(
  'rule 15: compromise, heartbeat, link, attestation and judging in any order end at the same level',
  async (t) => {
    const steps = ['heartbeat', 'link', 'attestation', 'compromise', 'sweep', 'judge'] as const
    const orders = fc.shuffledSubarray([...steps], { minLength: steps.length, maxLength: steps.length })
    const sinces = fc.constantFrom(minutes(4), minutes(2))
    await fc.assert(
      fc.asyncProperty(orders, sinces, async (order, age) => {
        const setting = await addSetting(world)
        const stored = Date.now() - minutes(3)
        const submission = await addSubmission(world, setting.lenser)
        const named = { runner_id: setting.runner, version_id: setting.version, op_id: newUuidV7(stored) }
        const { result: permit } = await world.send(setting.device, runStart(named), { stored })
        const body = attestation(permit, { op_id: newUuidV7(stored), ...ranAt(stored) })
        const take: Record<(typeof steps)[number], () => Promise<unknown>> = {
          heartbeat: () => world.send(setting.device, beatOf(setting), { stored: stored - 1000 }),
          link: () => world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [permit.run_id, submission]),
          attestation: () => world.send(setting.device, body, { stored }),
          compromise: () => declare(setting, { age, kind: 'fork', key: 1 }),
          sweep: () => sweep(),
          judge: reevaluate,
        }
        for (const step of order) await take[step]()
        await sweep()
        await reevaluate()
        return (await levelOf(permit.run_id)) === (age === minutes(4) ? 'agent_verified' : 'fully_trusted')
      }),
      { numRuns: 30, seed: 20261121 },
    )
    t.pass()
  },
)

test.serial('the evaluator’s loop brings the levels down by itself', async (t) => {
  const setting = await addSetting(world)
  const run = await attestAgo(setting, minutes(1))
  await declare(setting, { age: minutes(2) })
  const logger = createLogger({ service: 'trust-evaluator', level: 'silent' })
  const loop = startReevaluation({ store: createStore(world.evaluator), everyMs: 20, logger })
  for (const end = Date.now() + 60_000; (await levelOf(run)) !== 'agent_verified' && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await loop.stop()
  t.is(await levelOf(run), 'agent_verified')
})

test.serial('a compromise is its device’s owner’s to see, and nobody’s to take back', async (t) => {
  const [mine, other] = [newUuidV7(), newUuidV7()]
  const lenser = await world.addLenser(mine)
  await world.addLenser(other)
  const device = await world.addDevice(lenser)
  await world.owner.query(
    `INSERT INTO devices.compromises (device_id, kind, since, reason) VALUES ($1, 'revoked', now(), 'stolen')`,
    [device.id],
  )
  const as = async (user: string) => {
    const client = await world.owner.connect()
    try {
      await client.query('BEGIN')
      await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: user })])
      await client.query('SET LOCAL ROLE authenticated')
      return (await client.query('SELECT device_id FROM devices.compromises')).rows
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  }
  t.deepEqual(await as(mine), [{ device_id: device.id }])
  t.deepEqual(await as(other), [])
})

test.serial('sweeps take turns: behind one of hundreds of runs nobody waits for its end', async (t) => {
  const [loud, quiet] = await Promise.all([addSetting(world), addSetting(world)])
  await addMany(loud, 250)
  await attestAgo(quiet, minutes(1))
  await declare(loud, { age: minutes(15) })
  await declare(quiet, { age: minutes(2) })
  t.is(await sweep(50), 50)
  t.is(await sweep(50), 50)
  t.is(await queued(quiet), 1)
  t.true((await queued(loud)) < 100)
  while ((await sweep(50)) === 50);
  t.deepEqual([await queued(loud), await queued(quiet)], [251, 1])
  await reevaluate()
})
