import { setTimeout as sleep } from 'node:timers/promises'
import { createPool, type Pool } from '@lenserfight/db'
import { createGate, createLogger, type Gate, type Logger } from '@lenserfight/runtime'
import { askSubject, inSubject, type KindName } from '@lenserfight/schemas'
import { type TestDatabase, testPostgres } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import { createAnswerer, type Request } from '../src/ask/answer-request.ts'
import { createDesk, type Reply } from '../src/ask/request-desk.ts'
import { createBudget } from '../src/budget.ts'
import { createStore, type RegistrarStore } from '../src/store.ts'
import { createTokenVerifier } from '../src/token/verify-token.ts'
import { gatewayId, type Key, newKey, type Session, sign, World } from './_world.ts'

// One after another: some take the database away.
let database: TestDatabase
let world: World
const silent = createLogger({ service: 'test', level: 'silent' })
const poolAs = (role?: string): Pool =>
  createPool({ ...(role === undefined ? database.owner : database.as(role)), max: 4, logger: silent })

test.before(async () => {
  database = await testPostgres()
  world = new World(poolAs, () => database.drop())
})
test.after.always(() => world?.close())

/** So many, and never filled again. */
const takes = (count: number) => createBudget(count, () => 0)

interface Over {
  readonly store?: RegistrarStore
  readonly gate?: Gate
  readonly budget?: number
  readonly provenLines?: number
  readonly unprovenLines?: number
  readonly logger?: Logger
}

const newGate = (t: ExecutionContext, store: RegistrarStore): Gate => {
  // It learns of the database by being told, not by its own looks.
  const gate = createGate({ probe: store.probe, onProbe: () => {}, logger: silent, everyMs: 3_600_000, retryMs: 50 })
  t.teardown(gate.stop)
  return gate
}

const untilGate = async (gate: Gate, isOpen: boolean): Promise<void> => {
  for (const end = Date.now() + 60_000; gate.isOpen() !== isOpen; await sleep(10))
    if (Date.now() > end) throw new Error(`the gate never was ${isOpen ? 'open' : 'closed'}`)
}

/** The desk as `main.ts` wires it, and what it answers. */
const setUp = async (t: ExecutionContext, over: Over = {}) => {
  const sent: { request: Request; reply: Reply }[] = []
  const { store = world.store } = over
  const gate = over.gate ?? newGate(t, store)
  await gate.looked
  const tokens = createTokenVerifier({ issuers: [] })
  const desk = createDesk({
    answer: createAnswerer({ gatewayId, store, tokens, keyList: { text: '{}', number: 1 } }),
    send: (request, reply) => void sent.push({ request, reply }),
    unproven: takes(over.budget ?? 100),
    gate,
    logger: over.logger ?? silent,
    lines: { proven: takes(over.provenLines ?? 100), unproven: takes(over.unprovenLines ?? 100) },
    bounds: { at_once: 2, waiting: 3, per_kid: 8 },
  })
  const codes = () => sent.map(({ reply }) => (reply.ok ? 'ok' : reply.code))
  return { desk, gate, sent, codes }
}

/** A request that a session makes; signed by another key where one is named. */
const asked = (
  session: Session,
  {
    kind = 'list',
    members = {},
    signer = session,
  }: { kind?: KindName; members?: object; signer?: Pick<Key, 'key'> } = {},
): [string, Uint8Array] => [
  askSubject({ lenser: session.lenser, kid: session.kid, kind }),
  Buffer.from(sign({ ...session, key: signer.key }, kind, members).text),
]
const claimsOf = async ({ kid }: Session): Promise<number> =>
  (await world.query('SELECT FROM devices.envelope_claims WHERE kid = $1', [kid])).length

test.serial(
  'rate_limited: what is over a bound is turned away at once, and what was taken in is answered',
  async (t) => {
    const session = await world.newSession()
    const { desk, codes } = await setUp(t)
    const before = await claimsOf(session)
    const holder = await world.owner.connect()
    try {
      await holder.query('BEGIN; LOCK TABLE devices.envelope_claims IN EXCLUSIVE MODE')
      for (let n = 0; n < 9; n += 1) desk.offer(...asked(session))
      await world.untilWaitedFor(holder)
      t.deepEqual(codes(), Array(4).fill('rate_limited'), 'two at work, three wait')
      t.is(desk.figures().waiting, 3)
    } finally {
      await holder.query('ROLLBACK')
      holder.release()
    }
    await desk.idle()
    t.deepEqual(codes().slice(4), Array(5).fill('ok'))
    t.is(await claimsOf(session), before + 5)
  },
)

test.serial('law 8: answers that nobody proved to have asked for are rate-bounded, proven ones are not', async (t) => {
  const session = await world.newSession()
  const forger = newKey()
  const offerAll = async (budget: number, signer: Pick<Key, 'key'>) => {
    const { desk, codes } = await setUp(t, { budget })
    for (let n = 0; n < 5; n += 1) {
      desk.offer(...asked(session, { signer }))
      await desk.idle()
    }
    return [codes(), desk.figures().dropped]
  }
  t.deepEqual(await offerAll(2, forger), [['signature_mismatch', 'signature_mismatch'], 3])
  t.deepEqual(await offerAll(0, session), [Array(5).fill('ok'), 0])
})

test.serial('unavailable: while the database is gone everybody is told so, and nothing is tried', async (t) => {
  const session = await world.newSession()
  const before = await claimsOf(session)
  const gone = createPool({ ...database.as('ltg_registrar'), host: '/nonexistent', max: 1, logger: silent })
  t.teardown(() => gone.end())
  // What would be asked is there: it is the gate that knows better.
  const { desk, sent } = await setUp(t, { gate: newGate(t, createStore(gone)) })
  desk.offer(...asked(session))
  await desk.idle()
  t.is(await claimsOf(session), before)
  t.like(sent[0]?.reply, { ok: false, code: 'unavailable', retry_after: 2 })
})

test.serial(
  'unavailable: a failure of infrastructure is told, and the database is asked whether it lives',
  async (t) => {
    const session = await world.newSession()
    const pool = poolAs('ltg_registrar')
    t.teardown(() => pool.end())
    const { desk, gate, codes } = await setUp(t, { store: createStore(pool) })
    t.true(gate.isOpen())
    const name = database.owner.database
    await world.query(`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`)
    try {
      await world.query(
        `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'ltg_registrar' AND datname = current_database()`,
      )
      desk.offer(...asked(session))
      await desk.idle()
      t.deepEqual(codes(), ['unavailable'])
      await untilGate(gate, false)
    } finally {
      await world.query(`GRANT CONNECT ON DATABASE ${name} TO PUBLIC`)
    }
    await untilGate(gate, true)
    desk.offer(...asked(session))
    await desk.idle()
    t.deepEqual(codes(), ['unavailable', 'ok'])
  },
)

test.serial(
  'internal_error: a request that we fail on gets an incident id, and its neighbours their answers',
  async (t) => {
    const session = await world.newSession()
    const { desk, sent } = await setUp(t)
    const register = (name: string) =>
      asked(session, { kind: 'register', members: world.registration(newKey(), { name }) })
    await world.query(`ALTER TABLE devices.registered_devices ADD CONSTRAINT on_purpose CHECK (name <> 'poison')`)
    try {
      for (const name of ['fine', 'poison']) desk.offer(...register(name))
      await desk.idle()
    } finally {
      await world.query('ALTER TABLE devices.registered_devices DROP CONSTRAINT on_purpose')
    }
    const [failed, neighbour] = sent.toSorted((a, b) => Number(a.reply.ok) - Number(b.reply.ok))
    t.like(failed?.reply, { ok: false, code: 'internal_error' })
    t.regex(failed?.reply.incident_id ?? '', /^[0-9a-f-]{36}$/)
    t.true(neighbour?.reply.ok)
  },
)

test.serial('what comes from no ask door is dropped without a word', async (t) => {
  const { desk, sent } = await setUp(t)
  const { lenser, kid, ...signer } = await world.newSession()
  const [, bytes] = asked({ lenser, kid, ...signer })
  for (const subject of ['ltg.v1.ask.x.y.list', inSubject({ lenser, kid, kind: 'list' }), 'ltg.v1.ask', ''])
    desk.offer(subject, bytes)
  await desk.idle()
  t.deepEqual(sent, [])
  t.is(desk.figures().dropped, 4)
})

test.serial(
  'garbage without end is a bounded number of lines, counts the rest and hides nothing that was proven',
  async (t) => {
    const session = await world.newSession()
    const lines: { proven?: boolean }[] = []
    const destination = { write: (line: string) => void lines.push(JSON.parse(line)) }
    const { desk } = await setUp(t, {
      logger: createLogger({ service: 'test', level: 'info', destination }),
      ...{ provenLines: 2, unprovenLines: 5 },
    })
    const [subject] = asked(session)
    for (let n = 0; n < 50; n++) {
      desk.offer(subject, new Uint8Array([1]))
      await desk.idle()
    }
    t.is(lines.length, 5)
    t.is(desk.figures().unlogged, 45)
    for (let n = 0; n < 3; n++) {
      desk.offer(...asked(session))
      await desk.idle()
    }
    t.is(lines.filter((line) => line.proven).length, 2)
    t.is(desk.figures().unlogged, 46)
  },
)
