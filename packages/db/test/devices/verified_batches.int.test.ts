import { randomUUID } from 'node:crypto'
import { generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import test from 'ava'
import fc from 'fast-check'
import type { Pool } from '../../src/index.ts'
import { refuses, useWorld } from '../_world.ts'

const world = useWorld(test)
const { privateKey: key } = generateKeyPair()
const aud = randomUUID()

/** An outcome that is final, one that is final though it refuses, and one that is no result. */
const outcomes = {
  done: { ok: true, result: { n: 1 } },
  refused: { ok: false, code: 'unknown_run', detail: 'no such' },
  wait: { ok: false, code: 'device_unhealthy' },
} as const
/** What opening a batch may have found of an item, and what it says then. */
const opened = {
  refused: { ok: false, code: 'claim_expired' },
  stale: { ok: false, code: 'key_expired' },
} as const

interface Item {
  readonly op: number
  readonly note: string
  readonly step: keyof typeof opened | null
  readonly outcome: keyof typeof outcomes
}
interface Said {
  readonly ok: boolean
  readonly code?: string
  readonly detail?: string
  readonly result?: unknown
}

const batches = fc.array(
  fc.array(
    fc.record<Item>({
      op: fc.nat({ max: 2 }),
      note: fc.constantFrom('one', 'other'),
      step: fc.constantFrom<Item['step']>(null, null, null, 'stale', 'refused'),
      outcome: fc.constantFrom('done', 'refused', 'wait'),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  { minLength: 1, maxLength: 3 },
)

/** Begins and commits a batch, each new item with the outcome that was meant for it. */
const apply = async (
  kid: string,
  ids: readonly string[],
  lenser: string,
  items: readonly Item[],
  db: Pick<Pool, 'query'> = world().owner,
): Promise<Said[]> => {
  const texts = items.map(
    ({ op, note }) => signEnvelope({ kid, key, body: { aud, kind: 'run_start', note, op_id: ids[op] as string } }).text,
  )
  const { rows } = await db.query(
    `WITH given AS (
       SELECT g.*, devices.fn_read_envelope(g.text) AS parts
         FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[]) WITH ORDINALITY
           AS g (text, step, opened, wanted, idx))
     SELECT c.outcome - ARRAY['digest', 'op_id', 'lenser', 'kid'] AS outcome
       FROM devices.fn_commit_verified((
         SELECT array_agg(ROW(b.idx, b.parts, b.lenser_id, b.trust_level, b.earlier_level, b.stored_at, b.step,
                              CASE b.step WHEN 'new' THEN g.wanted ELSE b.outcome END,
                              b.run_id, b.key_number, b.is_forked)::devices.verified_item ORDER BY b.place)
           FROM unnest(devices.fn_begin_verified((
                  SELECT array_agg(ROW(g.idx, g.parts, $5, 'approved', NULL, now(), g.step, g.opened, NULL, 1, false)
                                     ::devices.verified_item ORDER BY (g.parts).kid, (g.parts).op_id, g.idx)
                    FROM given g))) WITH ORDINALITY
                AS b (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number,
                      is_forked, place)
           JOIN given g ON g.idx = b.idx)) c
      ORDER BY c.idx`,
    [
      texts,
      items.map(({ step }) => step),
      items.map(({ step }) => (step === null ? null : JSON.stringify(opened[step]))),
      items.map(({ outcome }) => JSON.stringify(outcomes[outcome])),
      lenser,
    ],
  )
  return rows.map(({ outcome }: { outcome: Said }) => outcome)
}

interface Known {
  readonly note: string
  readonly said: Said
}

/** The same one at a time: what each item is told, and what is on record after it. */
const model = (items: readonly Item[], known: Map<number, Known>): Said[] => {
  const begun = new Map<number, Said>()
  const order = items.map((item, index) => ({ item, index })).sort((a, b) => a.item.op - b.item.op || a.index - b.index)
  const said: Said[] = []
  for (const { item, index } of order) {
    const { op, note, step } = item
    const before = known.get(op)
    const again =
      before === undefined ? undefined : before.note === note ? before.said : { ok: false, code: 'op_id_conflict' }
    if (step === 'refused') said[index] = opened.refused
    else if (begun.has(op)) said[index] = again ?? (begun.get(op) as Said)
    else if (step === 'stale') said[index] = again ?? opened.stale
    else {
      said[index] = again ?? outcomes[item.outcome]
      if (again === undefined && item.outcome !== 'wait') known.set(op, { note, said: outcomes[item.outcome] })
      begun.set(op, said[index])
    }
  }
  return said
}

test('law 2: a batch tells each of its items what one at a time would, and stores each operation once', async (t) => {
  const { id: lenser } = await world().addLenser()
  await t.notThrowsAsync(
    fc.assert(
      fc.asyncProperty(batches, async (all) => {
        const kid = randomUUID()
        const ids = [0, 1, 2].map((n) => newUuidV7(Date.now() - 10 + n))
        const known = new Map<number, Known>()
        for (const items of all) {
          const expected = model(items, known)
          const told = await apply(kid, ids, lenser, items)
          if (JSON.stringify(told.map(sorted)) !== JSON.stringify(expected.map(sorted))) {
            throw new Error(`${JSON.stringify(told)} instead of ${JSON.stringify(expected)}`)
          }
        }
        const wanted = [...known].map(([op, { said }]) => ({ op_id: ids[op], code: said.code ?? null })).sort(byId)
        const stored = await world().rows('SELECT op_id, code FROM devices.operations WHERE kid = $1 ORDER BY op_id', [
          kid,
        ])
        const audited = await world().rows(
          `SELECT op_id, payload ->> 'code' AS code FROM audit.pending WHERE kid = $1 ORDER BY op_id`,
          [kid],
        )
        if (JSON.stringify([stored, audited]) !== JSON.stringify([wanted, wanted])) {
          throw new Error(
            `${JSON.stringify(stored)} and ${JSON.stringify(audited)} instead of ${JSON.stringify(wanted)}`,
          )
        }
      }),
      { numRuns: 60 },
    ),
  )
})

const sorted = ({ ok, code, detail, result }: Said): Said => ({
  ok,
  ...(code === undefined ? {} : { code }),
  ...(detail === undefined ? {} : { detail }),
  ...(result === undefined ? {} : { result }),
})
const byId = (a: { op_id: string | undefined }, b: { op_id: string | undefined }): number =>
  (a.op_id ?? '') < (b.op_id ?? '') ? -1 : 1

test('a batch with an operation that nobody decided, or with a code that the contract does not have, is not committed', async (t) => {
  const { id: lenser } = await world().addLenser()
  const { text } = signEnvelope({
    kid: randomUUID(),
    key,
    body: { aud, kind: 'run_start', op_id: newUuidV7() },
  })
  for (const outcome of [null, '{}', '{"ok": false, "code": "because"}']) {
    await refuses(
      t,
      () =>
        world().rows(
          `SELECT * FROM devices.fn_commit_verified(ARRAY[
             ROW(1, devices.fn_read_envelope($1), $2, 'approved', NULL, now(), 'new', $3::jsonb, NULL, 1, false)
             ::devices.verified_item])`,
          [text, lenser, outcome],
        ),
      'LT004',
    )
  }
})

test('two batches with the same operations, in whatever order they came: the second waits and is told the first one’s results', async (t) => {
  const { id: lenser } = await world().addLenser()
  const kid = randomUUID()
  const ids = Array.from({ length: 20 }, (_, n) => newUuidV7(Date.now() + n))
  const items = ids.map((_, op): Item => ({ op, note: 'one', step: null, outcome: 'done' }))
  const [first, second] = [await world().owner.connect(), await world().owner.connect()]
  try {
    await first.query('BEGIN')
    const told = await apply(kid, ids, lenser, items, first)
    const { rows } = await second.query('SELECT pg_backend_pid() AS pid')
    const waiting = apply(kid, ids, lenser, items.toReversed(), second)
    const isWaiting = async (): Promise<boolean> =>
      (
        await world().one<{ waits: boolean }>(
          'SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted) AS waits',
          [rows[0].pid],
        )
      ).waits
    for (const end = Date.now() + 60_000; !(await isWaiting()); ) if (Date.now() > end) return t.fail('nobody waits')
    await first.query('COMMIT')
    for (const said of [...told, ...(await waiting)]) t.deepEqual(said, outcomes.done)
  } finally {
    await first.query('ROLLBACK')
    for (const db of [first, second]) db.release()
  }
  const { count } = await world().one<{ count: number }>(
    'SELECT count(*)::int AS count FROM audit.pending WHERE kid = $1',
    [kid],
  )
  t.is(count, ids.length)
})
