import { randomUUID } from 'node:crypto'
import { generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import type { Connection } from '../../src/index.ts'
import { type Lenser, refuses, useWorld } from '../_world.ts'

const world = useWorld(test)
const { privateKey: key } = generateKeyPair()

interface Outcome {
  ok: boolean
  code?: string
  detail?: string
  result?: Record<string, unknown>
}
interface Attempt {
  readonly kid: string
  readonly opId: string
  readonly text: string
  readonly digest: Buffer
}

/** One attempt at an operation; what is left out is new. */
const attempt = (given: { kid?: string; opId?: string; kind?: string; note?: string; iat?: number } = {}): Attempt => {
  const { kid = randomUUID(), opId = newUuidV7(), kind = 'run_start', note = '' } = given
  const { text, digest } = signEnvelope({
    ...{
      kid,
      key,
      body: { aud: randomUUID().replaceAll(/./g, (c) => (c === '-' ? c : '0')), kind, note, op_id: opId },
    },
    ...(given.iat === undefined ? {} : { iat: given.iat }),
  })
  return { kid, opId, text, digest: Buffer.from(digest) }
}

const begin = async (db: Connection, { text }: Attempt): Promise<Outcome | null> =>
  (await db.query('SELECT devices.fn_operation_begin(devices.fn_read_envelope($1)) AS outcome', [text])).rows[0].outcome

const commit = async (db: Connection, { text }: Attempt, lenser: string | null, outcome: string): Promise<Outcome> =>
  (
    await db.query(
      `SELECT devices.fn_operation_commit(devices.fn_read_envelope($1), $2, NULL, ${outcome}) AS outcome`,
      [text, lenser],
    )
  ).rows[0].outcome

/** Begins and commits in one transaction, as an applier does: the outcome known before, or this one. */
const apply = async (lenser: Lenser | null, one: Attempt, outcome = `devices.fn_ok('{"n":1}')`): Promise<Outcome> => {
  const db = await world().owner.connect()
  try {
    await db.query('BEGIN')
    const known = await begin(db, one)
    const result = known ?? (await commit(db, one, lenser?.id ?? null, outcome))
    await db.query('COMMIT')
    return result
  } finally {
    await db.query('ROLLBACK')
    db.release()
  }
}

const pendingOf = (one: Attempt) =>
  world().rows(
    'SELECT lenser_id, device_id, event_kind, digest, payload FROM audit.pending WHERE kid = $1 AND op_id = $2',
    [one.kid, one.opId],
  )

test('a new operation begins; once committed, each further attempt gives its result again', async (t) => {
  const lenser = await world().addLenser()
  const first = attempt()
  t.deepEqual(await apply(lenser, first), { ok: true, result: { n: 1 } })
  const again = attempt({ kid: first.kid, opId: first.opId })
  t.notDeepEqual(again.digest, first.digest)
  t.deepEqual(await apply(lenser, again, `devices.fn_ok('{"n":2}')`), { ok: true, result: { n: 1 } })
  t.is((await pendingOf(first)).length, 1)
})

test('a refusal for good is a result too, with its detail', async (t) => {
  const lenser = await world().addLenser()
  const one = attempt()
  const refusal = { ok: false, code: 'unknown_run', detail: 'no such' }
  t.deepEqual(await apply(lenser, one, `devices.fn_refusal('unknown_run', 'no such')`), refusal)
  t.deepEqual(await apply(lenser, one), refusal)
})

test('what the edge sends again is no result: neither stored nor audited', async (t) => {
  const lenser = await world().addLenser()
  const one = attempt()
  for (const code of ['claim_expired', 'device_unhealthy']) {
    t.like(await apply(lenser, one, `devices.fn_refusal('${code}')`), { ok: false, code })
  }
  t.deepEqual(await pendingOf(one), [])
  t.like(await apply(lenser, one), { ok: true })
})

test('an operation that no account is behind is not stored', async (t) => {
  const one = attempt()
  t.like(await apply(null, one, `devices.fn_refusal('unknown_session')`), { code: 'unknown_session' })
  t.deepEqual(await world().rows('SELECT FROM devices.operations WHERE kid = $1', [one.kid]), [])
})

test('AU-2: a committed operation leaves an audit record in its own transaction, naming signer, digest and result', async (t) => {
  const lenser = await world().addLenser()
  const one = attempt({ kind: 'run_start' })
  await apply(lenser, one)
  t.deepEqual(await pendingOf(one), [
    {
      lenser_id: lenser.id,
      device_id: null,
      event_kind: 'run_start',
      digest: one.digest,
      payload: { ok: true, result: { n: 1 } },
    },
  ])
  const undone = attempt()
  const db = await world().owner.connect()
  await db.query('BEGIN')
  await commit(db, undone, lenser.id, 'devices.fn_ok()')
  await db.query('ROLLBACK')
  db.release()
  t.deepEqual(await pendingOf(undone), [])
  t.is(await begin(world().owner as unknown as Connection, undone), null)
})

test.serial('AU-2: where the audit record cannot be written, the operation is not committed', async (t) => {
  const lenser = await world().addLenser()
  const db = await world().owner.connect()
  try {
    await db.query('BEGIN')
    await db.query('ALTER TABLE audit.pending ADD CONSTRAINT no_room CHECK (false) NOT VALID')
    await refuses(t, () => commit(db, attempt(), lenser.id, 'devices.fn_ok()'), '23514')
  } finally {
    await db.query('ROLLBACK')
    db.release()
  }
})

test('the same id with other content or of another kind is op_id_conflict; another signer’s is another operation', async (t) => {
  const lenser = await world().addLenser()
  const { kid, opId } = attempt()
  await apply(lenser, attempt({ kid, opId }))
  t.like(await apply(lenser, attempt({ kid, opId, note: 'else' })), { code: 'op_id_conflict' })
  t.like(await apply(lenser, attempt({ kid, opId, kind: 'attestation' })), { code: 'op_id_conflict' })
  t.like(await apply(lenser, attempt({ opId })), { ok: true })
})

test('an id from the envelope’s future, or of no time at all, is malformed_body', async (t) => {
  const lenser = await world().addLenser()
  const iat = Math.floor(Date.now() / 1000)
  const ahead = (seconds: number) => newUuidV7((iat + seconds) * 1000)
  t.like(await apply(lenser, attempt({ opId: ahead(limits.operationLeadSeconds), iat })), { ok: true })
  t.like(await apply(lenser, attempt({ opId: ahead(limits.operationLeadSeconds + 1), iat })), {
    code: 'malformed_body',
  })
  t.like(await apply(lenser, attempt({ opId: randomUUID() })), { code: 'malformed_body' })
})

test('an id older than 89 days is op_expired, unless its result is on record', async (t) => {
  const lenser = await world().addLenser()
  const day = 86_400_000
  const old = attempt({ opId: newUuidV7(Date.now() - limits.operationMaxAgeDays * day - 60_000) })
  const young = attempt({ opId: newUuidV7(Date.now() - limits.operationMaxAgeDays * day + 60_000) })
  t.like(await apply(lenser, old), { code: 'op_expired' })
  t.like(await apply(lenser, young), { ok: true })
  const db = await world().owner.connect()
  await commit(db, old, lenser.id, 'devices.fn_ok()')
  db.release()
  t.like(await apply(lenser, old), { ok: true })
})

test('two attempts at once: the second waits, and gets the first one’s result', async (t) => {
  const lenser = await world().addLenser()
  const one = attempt()
  const [first, second] = [await world().owner.connect(), await world().owner.connect()]
  try {
    await first.query('BEGIN')
    t.is(await begin(first, one), null)
    await second.query('BEGIN')
    const waiting = begin(second, one)
    const state = await Promise.race([waiting, new Promise((done) => setTimeout(done, 150, 'waits'))])
    t.is(state, 'waits')
    await commit(first, one, lenser.id, `devices.fn_ok('{"n":7}')`)
    await first.query('COMMIT')
    t.deepEqual(await waiting, { ok: true, result: { n: 7 } })
  } finally {
    for (const db of [first, second]) {
      await db.query('ROLLBACK')
      db.release()
    }
  }
})

test('devices.fn_refusal gives no code that the contract does not have', async (t) => {
  await refuses(t, () => world().rows(`SELECT devices.fn_refusal('because')`), 'LT004')
  await refuses(t, () => world().rows(`SELECT devices.fn_limit('patience')`), 'LT004')
})
