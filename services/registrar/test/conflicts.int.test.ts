import { randomUUID } from 'node:crypto'
import { canonicalize, newUuidV7 } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import {
  conflictsOf,
  digestOf,
  join,
  type ObjectState,
  read,
  reopened,
  reservedActor,
  resolved,
} from '@lenserfight/sync'
import test from 'ava'
import fc from 'fast-check'
import { createAnswerer } from '../src/ask/answer-request.ts'
import { createTokenVerifier } from '../src/token/verify-token.ts'
import {
  createConflicts,
  type ListedConflict,
  putObject,
  Replica,
  type Resolution,
  sequence,
  stateIn,
} from './_sync.ts'
import { codeOf, type Device, gatewayId, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)
const { answer, list, show, resolve, undo } = createConflicts(world)

const step = 'step/build/body'
const newName = () => ({ class: 'workflow_definition', object: `w-${randomUUID()}` })

/** An account with two machines that edited one step apart. */
const disagreeing = async (values: readonly unknown[] = ['left', 'right'], path = step) => {
  const session = await world().newSession()
  const name = newName()
  const devices: Device[] = []
  for (const _ of values) devices.push(await world().newDevice(session))
  const first = new Replica(name, (devices[0] as Device).kid)
  first.edit({ paths: { name: 'Build', 'step/build/pos': 1 } })
  const replicas = devices.map((device, index) => {
    const replica = index === 0 ? first : new Replica(name, device.kid)
    replica.state = first.state
    return replica
  })
  replicas.forEach((replica, index) => {
    const value = values[index]
    replica.edit(value === 'deleted' ? 'delete' : { paths: { [path]: value as never } })
  })
  const state = replicas.map((each) => each.state).reduce(join)
  await putObject(world().owner, session.lenser, name, state)
  const [conflict] = await list(session)
  return { session, name, devices, replicas, state, conflict: conflict as ListedConflict }
}
const stateOf = async (session: Session, name: { class: string; object: string }) =>
  (await stateIn(world().owner, session.lenser, name)) as ObjectState
const resolution = async (...asked: Parameters<typeof resolve>) =>
  resultOf(await resolve(...asked)) as unknown as Resolution
const undone = async (...asked: Parameters<typeof undo>) => resultOf(await undo(...asked)) as unknown as Resolution
const valuesOf = ({ sides }: ListedConflict) => sides.map(({ value }) => value)

test('SC-3: a conflict is listed with both sides, whose each is, and their base; and to no other account', async (t) => {
  const { session, name, devices, conflict, state } = await disagreeing()
  await world().query(`UPDATE devices.sync_conflicts SET base = '{"value": null}' WHERE id = $1`, [conflict.id])
  const [shown] = await list(session)
  t.like(shown, { ...name, path: step, base: { value: null }, closed_at: null, resolutions: [] })
  const expected = conflictsOf(name.class, state)[0]?.sides.map((side) => ({ ...side }))
  t.deepEqual(
    shown?.sides.map(({ actor, clock, value }) => ({ actor, clock, value })),
    expected as never,
  )
  const kids = devices.map(({ kid }) => kid)
  for (const side of shown?.sides ?? []) {
    t.true(kids.includes(side.device_id as string))
    t.is(
      side.device_name,
      `device ${(await world().query<{ name: string }>('SELECT name FROM devices.registered_devices WHERE id = $1', [side.device_id]))[0]?.name.slice(7)}`,
    )
  }
  t.deepEqual(await show(session, conflict.id), shown)
  const stranger = await world().newSession()
  t.deepEqual(await answer(stranger), { conflicts: [], more: false })
  t.is(codeOf(await world().ask(stranger, 'sync_conflicts', { conflict_id: conflict.id })), 'unknown_conflict')
  t.is(codeOf(await world().ask(session, 'sync_conflicts', { conflict_id: newUuidV7() })), 'unknown_conflict')
})

test('SC-3: however many conflicts there are, each is listed once, oldest first, page after page', async (t) => {
  const session = await world().newSession()
  const count = limits.conflictsPerAnswer + 3
  await world().query(
    `INSERT INTO devices.sync_conflicts (lenser_id, class, object, path, sides, sides_digest)
     SELECT $1, 'workflow_definition', 'w' || n, 'name', s, sha256(convert_to(s::text, 'UTF8'))
       FROM generate_series(1, $2) n, jsonb_build_array(jsonb_build_object('actor', $3::text, 'clock', '{}'::jsonb, 'value', 1),
                                        jsonb_build_object('actor', $3::text, 'clock', '{}'::jsonb, 'value', 2)) s`,
    [session.lenser, count, `${randomUUID()}~1`],
  )
  const first = await answer(session)
  t.is(first.conflicts.length, limits.conflictsPerAnswer)
  t.true(first.more)
  const second = await answer(session, { after: first.conflicts.at(-1)?.id })
  t.false(second.more)
  const ids = [...first.conflicts, ...second.conflicts].map(({ id }) => id)
  t.is(new Set(ids).size, count)
  t.deepEqual(ids, ids.toSorted())
})

test('SC-3: a conflict that no answer has room for is listed without its values, and can be decided', async (t) => {
  const big = (letter: string) => letter.repeat(60_000)
  const { session, name, conflict } = await disagreeing(['a', 'b', 'c'].map(big))
  await world().query('UPDATE devices.sync_conflicts SET base = $2 WHERE id = $1', [
    conflict.id,
    JSON.stringify({ value: big('d') }),
  ])
  const shown = await show(session, conflict.id)
  t.true(shown.omitted)
  t.deepEqual(valuesOf(shown), [null, null, null])
  t.deepEqual(shown.base, { value: null })
  const sides = (await stateOf(session, name)).paths[step]
  await resolution(session, shown, { side: 2 })
  t.is((await stateOf(session, name)).paths[step]?.[0]?.value, sides?.[2]?.value)
})

test('rule 12: a side, the base, or a value of one’s own is written over everything seen; the conflict is closed', async (t) => {
  const chosen = async (winner: object) => {
    const { session, name, conflict, state } = await disagreeing()
    await world().query(`UPDATE devices.sync_conflicts SET base = '{"value": "before"}' WHERE id = $1`, [conflict.id])
    const done = await resolution(session, conflict, winner)
    t.like(done, { conflict_id: conflict.id, ...name, path: step })
    const now = await stateOf(session, name)
    const value = read(name.class, now).paths[step] ?? null
    t.is(digestOf(now), digestOf(resolved(state, step, value)))
    t.deepEqual(conflictsOf(name.class, now), [])
    t.deepEqual(await list(session), [])
    const closed = await show(session, conflict.id)
    t.not(closed.closed_at, null)
    t.like(closed.resolutions[0], { id: done.resolution_id, kind: 'resolve', by: session.kid, winner })
    // Nobody has its digest until the sequencer tells the feed.
    t.deepEqual(
      await world().query('SELECT digest FROM devices.sync_objects WHERE (lenser_id, object) = ($1, $2)', [
        session.lenser,
        name.object,
      ]),
      [{ digest: null }],
    )
    t.is((await world().query('SELECT FROM devices.sync_pending WHERE object = $1', [name.object])).length, 1)
    return { value, sides: valuesOf(conflict) }
  }
  const [first, second] = [await chosen({ side: 0 }), await chosen({ side: 1 })]
  t.is(first.value, first.sides[0] as string)
  t.is(second.value, second.sides[1] as string)
  t.is((await chosen({ base: true })).value, 'before')
  t.deepEqual((await chosen({ value: { run: ['make', 1.5, null] } })).value, { run: ['make', 1.5, null] })
  t.is((await chosen({ value: null })).value, null)
})

test('rule 12: what was edited since the person looked is never written over: conflict_changed', async (t) => {
  const { session, name, conflict, replicas, state } = await disagreeing()
  replicas[0]?.edit({ paths: { [step]: 'left again' } })
  const later = join(state, (replicas[0] as Replica).state)
  await putObject(world().owner, session.lenser, name, later)
  t.is(codeOf(await resolve(session, conflict, { side: 0 })), 'conflict_changed')
  t.deepEqual(await stateOf(session, name), later)
  const again = await show(session, conflict.id)
  t.true(valuesOf(again).includes('left again'))
  t.is(codeOf(await resolve(session, again, { side: 0 })), 'ok')
})

test('rule 12: a merge that is under way is waited for, and what it changed is not decided unseen', async (t) => {
  const { session, name, conflict, replicas, state } = await disagreeing()
  const merge = await world().owner.connect()
  try {
    await merge.query('BEGIN')
    replicas[1]?.edit({ paths: { [step]: 'right again' } })
    await putObject(merge, session.lenser, name, join(state, (replicas[1] as Replica).state))
    const asked = resolve(session, conflict, { side: 0 })
    await world().untilWaitedFor(merge)
    await merge.query('COMMIT')
    t.is(codeOf(await asked), 'conflict_changed')
  } finally {
    merge.release()
  }
})

test('rule 12: of two people who decide at once one does; the other is told conflict_closed', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const { session, name, conflict } = await disagreeing()
    const outcomes = await Promise.all([0, 1, 0, 1].map((side) => resolve(session, conflict, { side })))
    t.deepEqual(outcomes.map(codeOf).toSorted(), ['conflict_closed', 'conflict_closed', 'conflict_closed', 'ok'])
    t.is((await stateOf(session, name)).paths[step]?.length, 1)
    t.is((await show(session, conflict.id)).resolutions.length, 1)
  }
})

test('rule 12: the same decision sent again has the same result', async (t) => {
  const { session, conflict } = await disagreeing()
  const members = operation({ conflict_id: conflict.id, sides_digest: conflict.sides_digest, winner: { side: 1 } })
  const first = await world().ask(session, 'sync_resolve', members)
  t.deepEqual(await world().ask(session, 'sync_resolve', members), first)
  const taking = operation({ resolution_id: (resultOf(first) as unknown as Resolution).resolution_id })
  const back = await world().ask(session, 'sync_undo', taking)
  t.deepEqual(await world().ask(session, 'sync_undo', taking), back)
  t.is((await list(session)).length, 1)
})

test('rule 12: a decision that is taken back leaves the sides beside each other as before', async (t) => {
  const { session, name, conflict } = await disagreeing(['left', 'middle', 'right'])
  await world().query(`UPDATE devices.sync_conflicts SET base = '{"value": "before"}' WHERE id = $1`, [conflict.id])
  const done = await resolution(session, conflict, { side: 2 })
  const decided = await stateOf(session, name)
  const back = await undone(session, done.resolution_id)
  t.like(back, { ...name, path: step })
  const now = await stateOf(session, name)
  t.is(digestOf(now), digestOf(reopened(decided, step, valuesOf(conflict) as never)))
  const [again] = await list(session)
  t.is(again?.id, back.conflict_id)
  t.not(again?.id, conflict.id)
  t.deepEqual(valuesOf(again as ListedConflict), valuesOf(conflict))
  t.deepEqual(again?.base, { value: 'before' })
  t.deepEqual(
    again?.sides.map(({ device_id }) => device_id),
    conflict.sides.map(({ device_id }) => device_id),
    'whose each was is told still',
  )
  t.deepEqual(
    (await show(session, conflict.id)).resolutions.map(({ kind }) => kind),
    ['resolve', 'undo'],
  )
  t.deepEqual(
    conflictsOf(name.class, now).map(({ sides }) => sides.map(({ value }) => value)),
    [valuesOf(conflict)] as never,
  )
  // Decided anew, and taken back once more.
  const anew = await resolution(session, again as ListedConflict, { side: 0 })
  t.is((await stateOf(session, name)).paths[step]?.length, 1)
  await undone(session, anew.resolution_id)
  t.deepEqual(valuesOf((await list(session))[0] as ListedConflict), valuesOf(conflict))
})

test('unknown_resolution: taken back already, an undo itself, nobody’s, or another account’s', async (t) => {
  const { session, conflict } = await disagreeing()
  const done = await resolution(session, conflict, { side: 0 })
  t.is(codeOf(await undo(await world().newSession(), done.resolution_id)), 'unknown_resolution')
  t.is(codeOf(await undo(session, newUuidV7())), 'unknown_resolution')
  const outcomes = await Promise.all([0, 1, 2].map(() => undo(session, done.resolution_id)))
  t.deepEqual(outcomes.map(codeOf).toSorted(), ['ok', 'unknown_resolution', 'unknown_resolution'])
  const back = outcomes.find(({ ok }) => ok) as never
  t.is(codeOf(await undo(session, (resultOf(back) as unknown as Resolution).resolution_id)), 'unknown_resolution')
})

test('rule 12: what was edited since a decision is one side more when it is taken back', async (t) => {
  const { session, name, conflict, replicas } = await disagreeing()
  const done = await resolution(session, conflict, { side: 0 })
  const seeing = replicas[1] as Replica
  seeing.state = join(seeing.state, await stateOf(session, name))
  seeing.edit({ paths: { [step]: 'since' } })
  await putObject(world().owner, session.lenser, name, seeing.state)
  await undone(session, done.resolution_id)
  t.deepEqual(valuesOf((await list(session))[0] as ListedConflict), ['since', ...valuesOf(conflict)])
})

test('rule 12: what was edited beside a decision is one side more, and its conflict stays one', async (t) => {
  const { session, name, conflict, replicas } = await disagreeing()
  const done = await resolution(session, conflict, { side: 0 })
  const unseeing = replicas[1] as Replica
  unseeing.edit({ paths: { [step]: 'beside' } })
  await putObject(world().owner, session.lenser, name, join(await stateOf(session, name), unseeing.state))
  const [open] = await list(session)
  t.deepEqual(valuesOf(open as ListedConflict).toSorted(), [valuesOf(conflict)[0], 'beside'].toSorted() as never)
  const back = await undone(session, done.resolution_id)
  t.is(back.conflict_id, open?.id as string)
  t.deepEqual(valuesOf((await list(session))[0] as ListedConflict), ['beside', ...valuesOf(conflict)])
})

test('rule 12: a later decision of the same path is one side more when the one before it is taken back', async (t) => {
  const { session, name, conflict, replicas } = await disagreeing()
  const first = await resolution(session, conflict, { side: 0 })
  const unseeing = replicas[1] as Replica
  unseeing.edit({ paths: { [step]: 'beside' } })
  await putObject(world().owner, session.lenser, name, join(await stateOf(session, name), unseeing.state))
  await resolution(session, (await list(session))[0] as ListedConflict, { value: 'decided later' })
  await undone(session, first.resolution_id)
  t.deepEqual(valuesOf((await list(session))[0] as ListedConflict), ['decided later', ...valuesOf(conflict)])
})

test('rules 10, 12: deleted here and edited there: a person decides whether it lives, and takes it back', async (t) => {
  const { session, name, conflict } = await disagreeing(['deleted', 'edited'], 'name')
  t.is(conflict.path, '$life')
  t.deepEqual(conflict.edited, ['name'], 'what the deletion had not seen')
  t.true(read(name.class, await stateOf(session, name)).alive, 'shown alive meanwhile')
  const dead = valuesOf(conflict).indexOf(null)
  const done = await resolution(session, conflict, { side: dead })
  t.false(read(name.class, await stateOf(session, name)).alive)
  t.is((await stateOf(session, name)).paths.name?.[0]?.value, 'edited', 'its fields stay under the tombstone')
  await undone(session, done.resolution_id)
  t.true(read(name.class, await stateOf(session, name)).alive)
  const [again] = await list(session)
  await resolution(session, again as ListedConflict, { side: valuesOf(again as ListedConflict).indexOf(true) })
  t.true(read(name.class, await stateOf(session, name)).alive)
  t.deepEqual(await list(session), [])
})

test('unknown_conflict, conflict_closed, malformed_body: what is refused changes nothing and is on record', async (t) => {
  const { session, name, conflict, state } = await disagreeing()
  const stranger = await world().newSession()
  t.is(codeOf(await resolve(stranger, conflict, { side: 0 })), 'unknown_conflict')
  t.is(codeOf(await resolve(session, { ...conflict, id: newUuidV7() }, { side: 0 })), 'unknown_conflict')
  t.is(codeOf(await resolve(session, conflict, { side: 2 })), 'malformed_body')
  t.like(await resolve(session, conflict, { base: true }), {
    code: 'malformed_body',
    detail: 'no common base of it is kept',
  })
  t.is(codeOf(await resolve(session, conflict, { value: 'x'.repeat(limits.objectBytes) })), 'object_too_large')
  t.deepEqual(await stateOf(session, name), state)
  t.is((await list(session)).length, 1)
  // Both sides came to say the same, so nothing is left to decide.
  await putObject(world().owner, session.lenser, name, resolved(state, step, 'left'))
  t.is(codeOf(await resolve(session, conflict, { side: 0 })), 'conflict_closed')
  const records = await world().query<{ code: string }>(
    `SELECT code FROM devices.operations WHERE kid = $1 AND kind = 'sync_resolve' ORDER BY committed_at`,
    [session.kid],
  )
  t.deepEqual(
    records.map(({ code }) => code),
    ['unknown_conflict', 'malformed_body', 'malformed_body', 'object_too_large', 'conflict_closed'],
  )
})

test('object_too_large: a decision leaves no object larger than one may be, and a side that fits can be chosen', async (t) => {
  const { session, name, conflict, replicas } = await disagreeing(['short', 'y'.repeat(40_000)])
  const one = replicas[0] as Replica
  one.state = join(one.state, (replicas[1] as Replica).state)
  one.edit({ paths: { 'version/1': { created_at: '2026', text: 'z'.repeat(30_000) } } })
  await putObject(world().owner, session.lenser, name, one.state)
  const long = valuesOf(conflict).findIndex((value) => value !== 'short')
  // Whichever side is read meanwhile: this one is longer than both.
  t.is(codeOf(await resolve(session, conflict, { value: 'y'.repeat(40_001) })), 'object_too_large')
  t.is(codeOf(await resolve(session, conflict, { side: 1 - long })), 'ok')
})

test('object_too_large: writers fill up nothing that a decision needs, and no more sides stand beside each other than may', async (t) => {
  const { session, name, conflict, state } = await disagreeing()
  const actors = Array.from({ length: limits.clockActors }, () => `${randomUUID()}~1`)
  const clock = Object.fromEntries(actors.map((actor) => [actor, 1] as const))
  await putObject(world().owner, session.lenser, name, join(state, { clock, paths: {} }))
  const first = await resolution(session, conflict, { side: 0 })
  t.is(codeOf(await undo(session, first.resolution_id)), 'ok')
  const [again] = await list(session)
  const second = await resolution(session, again as ListedConflict, { side: 0 })
  const writes = actors
    .slice(0, limits.writesPerPath - 1)
    .map((actor, n) => ({ actor, clock: { [actor]: 2 }, value: `${n}` }))
  const later = Object.fromEntries(writes.map(({ actor }) => [actor, 2]))
  const beside = join(await stateOf(session, name), { clock: later, paths: { [step]: writes } })
  await putObject(world().owner, session.lenser, name, beside)
  t.is(codeOf(await undo(session, second.resolution_id)), 'object_too_large')
})

test('object_too_large: what canonical JSON writes short is counted short, so either side can be chosen', async (t) => {
  for (const side of [0, 1]) {
    const { session, conflict } = await disagreeing([Array(900).fill(1e-300), Array(800).fill(1e-300)])
    t.is(codeOf(await resolve(session, conflict, { side })), 'ok')
  }
})

test('unknown_resolution: nothing of an object that is forgotten comes back in another of its name', async (t) => {
  const { session, name, conflict } = await disagreeing()
  const done = await resolution(session, conflict, { side: 0 })
  const actor = `${randomUUID()}~1`
  // Decided as often as the former was.
  const clock = { [actor]: 3, [reservedActor()]: 1 }
  const fresh = { clock, paths: { [step]: [{ actor, clock, value: 'other' }], $life: [{ actor, clock, value: true }] } }
  await world().query('DELETE FROM devices.sync_objects WHERE object = $1', [name.object])
  await putObject(world().owner, session.lenser, name, fresh)
  t.is(codeOf(await undo(session, done.resolution_id)), 'unknown_resolution')
  t.deepEqual(await stateOf(session, name), fresh)
})

test('the size of an object as it reads is the same in the database as in the merge', async (t) => {
  const ids = ['a', 'b', 'c']
  const paths = ['name', ...ids.map((id) => `node/${id}`), 'edge/a/b', 'edge/b/c', 'edge/c/a']
  const value = fc.oneof(
    fc.constant(null),
    // Numbers that canonical JSON writes with an exponent count as longer: no limit is near them.
    fc
      .jsonValue({ maxDepth: 3 })
      .filter((each) => !/[0-9]e|\\u0000|[\ud800-\udfff]/i.test(JSON.stringify(each)))
      .map((each) => JSON.parse(JSON.stringify(each)) as never),
  )
  const edits = fc.array(fc.record({ path: fc.constantFrom(...paths), value }), { minLength: 5, maxLength: 20 })
  await t.notThrowsAsync(() =>
    fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const replica = new Replica({ class: 'agent_team_graph', object: 'g' }, randomUUID())
        for (const each of changes) replica.edit({ paths: { [each.path]: each.value } })
        const [row] = await world().query<{ view: object; bytes: string; state: string }>(
          `SELECT v AS view, devices.fn_canonical_bytes(v) AS bytes, devices.fn_canonical_bytes($1) AS state
             FROM devices.fn_sync_view($1) v`,
          [JSON.stringify(replica.state)],
        )
        const { paths: shown } = read('agent_team_graph', replica.state)
        const expected = [canonicalize(shown as never), canonicalize(replica.state as never)]
        if (canonicalize(row?.view as never) !== expected[0]) throw new Error('it reads otherwise')
        const bytes = [row?.bytes, row?.state].map(Number)
        if (bytes.join() !== expected.map((text) => Buffer.byteLength(text)).join()) throw new Error(bytes.join())
      }),
      { numRuns: 25 },
    ),
  )
})

test('rules 9, 12: what one machine wrote twice under two names is decided and taken back like any other', async (t) => {
  const session = await world().newSession()
  const { kid } = await world().newDevice(session)
  const name = { class: 'agent_config', object: `a-${randomUUID()}` }
  const [before, restored] = [new Replica(name, kid, 1), new Replica(name, kid, 2)]
  before.edit({ paths: { name: 'before' } })
  restored.edit({ paths: { name: 'restored' } })
  await putObject(world().owner, session.lenser, name, join(before.state, restored.state))
  const [conflict] = await list(session)
  t.deepEqual(
    conflict?.sides.map(({ device_id }) => device_id),
    [kid, kid],
  )
  const done = await resolution(session, conflict as ListedConflict, { side: 1 })
  t.deepEqual(conflictsOf(name.class, await stateOf(session, name)), [])
  await undone(session, done.resolution_id)
  const now = await stateOf(session, name)
  const [again] = await list(session)
  t.deepEqual(valuesOf(again as ListedConflict), valuesOf(conflict as ListedConflict))
  t.deepEqual(
    conflictsOf(name.class, now).map(({ path }) => path),
    ['name'],
  )
})

test('invalid_object: a value of one’s own has the form that its class requires there, judged before anything is written', async (t) => {
  const { session, name, conflict, state } = await disagreeing(['Build', 'Make'], 'version/1')
  const answerer = createAnswerer({
    gatewayId,
    store: world().store,
    tokens: createTokenVerifier({ issuers: [] }),
    keyList: { text: '{}', number: 1 },
  })
  const asked = async (winner: object) => {
    const { id: conflict_id, sides_digest } = conflict
    const { text } = sign(session, 'sync_resolve', operation({ conflict_id, sides_digest, winner }))
    const { outcome } = await answerer({
      subject: { door: 'ask', lenser: session.lenser, kid: session.kid, kind: 'sync_resolve' } as never,
      bytes: Buffer.from(text),
    })
    return outcome
  }
  const refused = await asked({ value: 'LTG-CANARY' })
  t.is(codeOf(refused), 'invalid_object')
  t.false(JSON.stringify(refused).includes('LTG-CANARY'))
  t.deepEqual(await stateOf(session, name), state)
  t.is(codeOf(await asked({ value: { created_at: '2026-11-21' } })), 'ok')
})

test('SC-4: what was decided and taken back is in the account’s chain with who, and never with what an object says', async (t) => {
  const secret = 'LTG-CANARY-value'
  const { session, conflict } = await disagreeing([secret, `${secret}-2`])
  const done = await resolution(session, conflict, { value: `${secret}-3` })
  const back = await undone(session, done.resolution_id)
  for (let linked = 1; linked > 0; ) {
    linked = (await world().query<{ n: number }>('SELECT audit.fn_chain_link(1000) AS n'))[0]?.n as number
  }
  const entries = await world().query<{
    event_kind: string
    kid: string
    op_id: string
    payload: Record<string, never>
  }>(
    `SELECT event_kind, kid, op_id, payload FROM audit.hash_chains
      WHERE lenser_id = $1 AND event_kind LIKE 'sync_%' ORDER BY seq`,
    [session.lenser],
  )
  t.deepEqual(
    entries.map(({ event_kind, kid }) => ({ event_kind, kid })),
    ['sync_resolve', 'sync_undo'].map((event_kind) => ({ event_kind, kid: session.kid })),
  )
  t.like(entries[0]?.payload, {
    ok: true,
    conflict_id: conflict.id,
    sides_digest: conflict.sides_digest,
    result: { resolution_id: done.resolution_id, path: step },
  })
  t.deepEqual(Object.keys(entries[0]?.payload.winner ?? {}), ['value_digest'])
  t.like(entries[1]?.payload, { ok: true, undoes: done.resolution_id, result: { conflict_id: back.conflict_id } })
  t.false(JSON.stringify(entries).includes('CANARY'))
  t.like(resultOf(await world().ask(session, 'audit_verify', { chain_kind: 'gateway' })), { intact: true })
})

test('SC-4: no role writes an object, a conflict or a decision in any other way', async (t) => {
  const { session, name, conflict } = await disagreeing()
  const tables = ['sync_objects', 'sync_changes', 'sync_conflicts', 'sync_resolutions', 'sync_pending']
  const roles = await world().query<{ rolname: string }>(
    `SELECT rolname FROM pg_roles WHERE rolname LIKE 'ltg\\_%' AND rolname <> 'ltg_owner'
        OR rolname IN ('anon', 'authenticated', 'service_role')`,
  )
  t.true(roles.length > 8)
  for (const { rolname } of roles) {
    for (const table of tables) {
      for (const right of ['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) {
        const [row] = await world().query<{ may: boolean }>('SELECT has_table_privilege($1, $2, $3) AS may', [
          ...[rolname, `devices.${table}`, right],
        ])
        t.false(row?.may, `${rolname} ${right} ${table}`)
      }
    }
    const [row] = await world().query<{ may: boolean }>(
      `SELECT bool_or(has_function_privilege($1, f, 'EXECUTE')) AS may
         FROM unnest(ARRAY['devices.fn_sync_resolve_conflict(text)', 'devices.fn_sync_undo_resolution(text)']) f`,
      [rolname],
    )
    t.is(row?.may, rolname === 'ltg_registrar', rolname)
  }
  // Nor does the one function without a signed request of the account's own session.
  const members = operation({ conflict_id: conflict.id, sides_digest: conflict.sides_digest, winner: { side: 0 } })
  const before = await stateOf(session, name)
  t.is(codeOf(await world().store.apply('sync_resolve', sign(session, 'sync_resolve', members).text)), 'claim_expired')
  const [device] = [await world().newDevice(session)]
  t.is(codeOf(await world().ask(device, 'sync_resolve', members)), 'unsupported_kind')
  t.deepEqual(await stateOf(session, name), before)
})

test('rule 12: random edits, merges, decisions and undos: the database writes what the merge would, and all come to the same', async (t) => {
  const session = await world().newSession()
  const devices = [await world().newDevice(session), await world().newDevice(session), await world().newDevice(session)]
  const act = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('edit' as const), at: fc.nat(2), value: fc.nat(3), path: fc.nat(1) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), at: fc.nat(2) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('push' as const), at: fc.nat(2) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('pull' as const), at: fc.nat(2) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('resolve' as const), which: fc.nat(5), side: fc.nat(1) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('undo' as const), which: fc.nat(5) }) },
  )
  const run = async (script: readonly (typeof act extends fc.Arbitrary<infer A> ? A : never)[]): Promise<void> => {
    const name = newName()
    const paths = [step, 'step/test/body']
    const replicas = devices.map(({ kid }) => new Replica(name, kid))
    const known = async (): Promise<ObjectState> =>
      (await stateIn(world().owner, session.lenser, name)) ?? { clock: {}, paths: {} }
    const open = async () => (await list(session)).filter(({ object }) => object === name.object)
    const push = async (at: number) =>
      putObject(world().owner, session.lenser, name, join(await known(), (replicas[at] as Replica).state))
    const pull = async (at: number) => {
      const replica = replicas[at] as Replica
      replica.state = join(replica.state, await known())
    }
    const same = (found: ObjectState, expected: ObjectState) => {
      if (digestOf(found) !== digestOf(expected)) throw new Error('the database wrote something else')
    }
    const done: { id: string; taken: boolean }[] = []
    for (const each of script) {
      if (each.do === 'edit')
        replicas[each.at]?.edit({ paths: { [paths[each.path] as string]: each.value === 0 ? null : `v${each.value}` } })
      else if (each.do === 'delete') replicas[each.at]?.edit('delete')
      else if (each.do === 'push') await push(each.at)
      else if (each.do === 'pull') await pull(each.at)
      else if (each.do === 'resolve') {
        const conflicts = await open()
        const conflict = conflicts[each.which % conflicts.length]
        if (conflict === undefined) continue
        const before = await known()
        const { resolution_id } = await resolution(session, conflict, { side: each.side })
        same(await known(), resolved(before, conflict.path, conflict.sides[each.side]?.value as never))
        done.push({ id: resolution_id, taken: false })
      } else {
        const one = done[each.which % done.length]
        if (one === undefined) continue
        const code = codeOf(await undo(session, one.id))
        if (code !== (one.taken ? 'unknown_resolution' : 'ok')) throw new Error(code)
        one.taken = true
      }
      const now = await known()
      const listed = (await open()).map(({ path, sides }) => ({ path, values: sides.map(({ value }) => value) }))
      const derived = conflictsOf(name.class, now).map(({ path, sides }) => ({
        path,
        values: sides.map(({ value }) => value),
      }))
      const inOrder = (conflicts: typeof listed) =>
        JSON.stringify(conflicts.toSorted((a, b) => (a.path < b.path ? -1 : 1)))
      if (inOrder(listed) !== inOrder(derived as never))
        throw new Error(`listed ${inOrder(listed)}, derived ${inOrder(derived as never)}`)
    }
    for (const at of [0, 1, 2]) await push(at)
    for (const at of [0, 1, 2]) await pull(at)
    const end = await known()
    for (const { state } of replicas) same(state, end)
    await sequence(world().owner, session.lenser)
    const [row] = await world().query<{ fed_digest: Buffer }>(
      'SELECT fed_digest FROM devices.sync_objects WHERE (lenser_id, object) = ($1, $2) AND digest = fed_digest',
      [session.lenser, name.object],
    )
    if (Object.keys(end.paths).length > 0 && done.length > 0 && row?.fed_digest.toString('base64url') !== digestOf(end))
      throw new Error('the feed tells something else')
    await world().query(
      'UPDATE devices.sync_conflicts SET closed_at = now() WHERE lenser_id = $1 AND closed_at IS NULL',
      [session.lenser],
    )
  }
  await t.notThrowsAsync(() =>
    fc.assert(fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 25 }), run), { numRuns: 12 }),
  )
})
