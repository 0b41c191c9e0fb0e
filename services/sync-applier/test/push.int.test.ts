import { createPool } from '@lenserfight/db'
import { generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { createLogger, InfrastructureError } from '@lenserfight/runtime'
import { checkBody, limits, objectClasses, objectClassNames, pushableClasses } from '@lenserfight/schemas'
import { actorOf, digestOf, tick } from '@lenserfight/sync'
import test from 'ava'
import { createMachine, createWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const agent = (object: string) => ({ class: 'agent_config', object })
const changesOf = (lenser: string) => world.count('devices.sync_changes WHERE lenser_id = $1', [lenser])

test('rule 8: entries are merged in order, and each is told its sequence and the digest of the merged state', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const [a, b] = [agent('a'), agent('b')]
  const entries = [machine.set(a, { name: 'one' }), machine.set(b, { name: 'x' }), machine.set(a, { notes: 'two' })]
  const said = await world.push(machine, entries)
  t.deepEqual(said, [
    { status: 'applied', seq: 1, digest: digestOf(machine.state(a)) },
    { status: 'applied', seq: 2, digest: digestOf(machine.state(b)) },
    { status: 'applied', seq: 1, digest: digestOf(machine.state(a)) },
  ])
  t.deepEqual(await world.stored(lenser, a), machine.state(a) as never)
  t.is(await changesOf(lenser), 2, 'one change row an object and batch')
  t.is(await world.count('devices.sync_outbox WHERE lenser_id = $1', [lenser]), 3)
})

test('rule 7: what was merged before is a duplicate that changes nothing, whatever operation brings it', async (t) => {
  const machine = await world.addMachine()
  const name = agent('a')
  const entries = [machine.set(name, { name: 'one' }), machine.set(name, { name: 'two' })]
  const [, last] = await world.push(machine, entries)
  const again = await world.push(machine, entries)
  t.deepEqual(again, [
    { ...last, status: 'duplicate' },
    { ...last, status: 'duplicate' },
  ])
  t.is(await changesOf(machine.device.lenser), 1)
  const twice = machine.set(name, { name: 'three' })
  t.deepEqual(
    (await world.push(machine, [twice, twice])).map(({ status }) => status),
    ['applied', 'duplicate'],
  )
})

test('rule 7: another edit under a number, another past, a gap and an inflated clock are refused, each with its code', async (t) => {
  const machine = await world.addMachine()
  const name = agent('a')
  const [first, second, third] = ['one', 'two', 'three'].map((value) => machine.set(name, { name: value }))
  if (first === undefined || second === undefined || third === undefined) return t.fail()
  const other = actorOf(newUuidV7(), 1)
  const codes = async (...entries: Parameters<World['push']>[1]) =>
    (await world.push(machine, entries)).map(({ status, code }) => status ?? code)
  t.deepEqual(await codes(second), ['out_of_order'])
  t.is(await world.stored(machine.device.lenser, name), undefined, 'nothing stands for what did not come to be')
  t.deepEqual(await codes(first), ['applied'])
  t.deepEqual(await codes({ ...first, paths: { ...first.paths, name: 'forked' } }), ['clock_reused'])
  t.deepEqual(await codes({ ...second, prev: first.prev ?? third.prev }), ['clock_reused'])
  t.deepEqual(await codes({ ...second, clock: { ...second.clock, [other]: 1 } }), ['clock_ahead'])
  t.deepEqual(await codes({ ...second, clock: { ...second.clock, [machine.actor]: 1000 } }), ['out_of_order'])
  t.deepEqual(await codes({ ...second, clock: { [other]: 1 } }), ['invalid_object'])
  t.deepEqual(await codes(second, third), ['applied', 'applied'])
  // Its link is on record still, and not that of the newest edit.
  t.deepEqual(await codes(first, { ...first, paths: { ...first.paths, name: 'forked' } }), [
    'duplicate',
    'clock_reused',
  ])
})

test('one that is refused holds up no other, and its detail names no value', async (t) => {
  const machine = await world.addMachine()
  const good = machine.set(agent('good'), { name: 'x' })
  const spoil = (object: string, paths: Record<string, unknown>) => ({
    ...machine.set(agent(object), { name: 'x' }),
    paths: { $life: true, ...paths },
  })
  const canary = 'LTG-CANARY-object'
  const large = machine.set(agent('large'), { system_prompt: 'x'.repeat(32_000), notes: 'y'.repeat(16_000) })
  const said = await world.push(machine, [
    spoil('a', { no_such: canary }),
    spoil('b', { temperature: canary }),
    spoil('c', { __proto__x: canary }),
    { ...machine.set(agent('d'), { name: 'x' }), paths: { name: canary } },
    { ...machine.set(agent('e'), { name: 'x' }), class: 'no_such_class' },
    { ...machine.set(agent('f'), { name: 'x' }), object: 'no name' },
    good,
    large,
  ])
  t.deepEqual(
    said.map(({ status, code }) => status ?? code),
    [...Array(4).fill('invalid_object'), 'unknown_class', 'invalid_object', 'applied', 'applied'],
  )
  t.false(JSON.stringify(said).includes(canary))
  const more = machine.set(agent('large'), { description: 'z'.repeat(2000), tags: Array(100).fill('t'.repeat(120)) })
  const most = machine.set(agent('large'), { tools: Array(100).fill('t'.repeat(120)) })
  const after = machine.set(agent('large'), { name: 'x' })
  t.deepEqual(
    (await world.push(machine, [more, most, after])).map(({ status, code }) => status ?? code),
    ['applied', 'object_too_large', 'out_of_order'],
  )
  t.is(await world.count('devices.sync_objects WHERE lenser_id = $1', [machine.device.lenser]), 2)
})

test('SB-4 SC-5: of every class that no machine may write nothing is applied, and what never leaves a machine is on record', async (t) => {
  const machine = await world.addMachine()
  const { id, lenser } = machine.device
  const canary = 'LTG-CANARY-local'
  const entries = objectClassNames.map((name) => ({ ...machine.set(agent(name), { name: canary }), class: name }))
  // Coordinated ones are tested by themselves.
  const said = await world.push(machine, entries)
  const expected = { cloud: 'cloud_authoritative', local: 'local_only_class' }
  for (const [index, name] of objectClassNames.entries()) {
    const { authority } = objectClasses[name]
    if (authority !== 'both') t.is(said[index]?.code, expected[authority], name)
  }
  const kept = await world.owner.query('SELECT DISTINCT class FROM devices.sync_objects WHERE lenser_id = $1', [lenser])
  t.true(kept.rows.every((row: { class: never }) => pushableClasses.includes(row.class)))
  const { rows } = await world.owner.query(
    `SELECT device_id, payload FROM audit.pending WHERE lenser_id = $1 AND event_kind = 'sync.local_only_refused'`,
    [lenser],
  )
  const locals = objectClassNames.filter((name) => objectClasses[name].authority === 'local')
  t.deepEqual(rows.map((row: { payload: { class: string } }) => row.payload.class).toSorted(), locals.toSorted())
  t.true(rows.every((row: { device_id: string }) => row.device_id === id))
  t.false(JSON.stringify(rows).includes(canary))
})

test('SB-2 mistake 3: of a push that its device did not sign no entry is looked at, though a verifier let it through', async (t) => {
  const rig = world.createRig()
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const entry = machine.set(agent('a'), { name: 'x' })
  const forged = await world.seal(machine.device, world.pushBody([entry]), { signer: generateKeyPair() })
  const good = await world.sealPush(machine.device, [machine.set(agent('b'), { name: 'x' })])
  const altered = { ...good, text: good.text.replace('"name":"x"', '"name":"y"') }
  await rig.handle([forged, altered, good])
  const codes = rig.receipts.map(({ item }) => item.code)
  t.deepEqual(codes, ['signature_mismatch', 'signature_mismatch', undefined])
  t.is(rig.figures().disagreements, 2)
  t.is(await world.stored(lenser, agent('a')), undefined)
  t.deepEqual(await world.stored(lenser, agent('b')), machine.state(agent('b')) as never)
  t.like(rig.lines[0], { level: 'error', event: 'verifier_disagrees', kind: 'sync_push' })
  t.is(await world.count('devices.operations WHERE lenser_id = $1', [lenser]), 1)
  // Nor one that nobody verified, however well it is signed.
  const unseen = await world.seal(machine.device, world.pushBody([entry]), { claim: false })
  t.like((await world.apply([unseen]))[0], { ok: false, code: 'claim_expired' })
})

test('SB-3: one name in two accounts is two objects, and neither machine reaches the other’s', async (t) => {
  const [mine, theirs] = [await world.addMachine(), await world.addMachine()]
  const name = agent('same')
  await world.push(mine, [mine.set(name, { name: 'mine' })])
  const [said] = await world.push(theirs, [theirs.set(name, { name: 'theirs' })])
  t.like(said, { status: 'applied', seq: 1 })
  t.deepEqual(await world.stored(mine.device.lenser, name), mine.state(name) as never)
  t.deepEqual(await world.stored(theirs.device.lenser, name), theirs.state(name) as never)
  // Its clock there is not known here.
  theirs.absorb(name, mine.state(name))
  t.like((await world.push(theirs, [theirs.set(name, { notes: 'x' })]))[0], { code: 'clock_ahead' })
})

test('mistake 6: edits of different fields by two machines both stay, and the clock that comes of them is the join', async (t) => {
  const one = await world.addMachine()
  const { lenser } = one.device
  const two = await world.addMachine(lenser)
  const name = agent('a')
  await world.push(one, [one.set(name, { name: 'n', notes: 'n' })])
  two.absorb(name, one.state(name))
  const [left, right] = [one.set(name, { name: 'left' }), two.set(name, { notes: 'right' })]
  // In one batch, of two devices.
  const told = await world.apply([await world.sealPush(one.device, [left]), await world.sealPush(two.device, [right])])
  t.true(told.every(({ ok }) => ok))
  const state = await world.stored(lenser, name)
  t.deepEqual(state?.clock, { [one.actor]: 2, [two.actor]: 1 })
  t.is(state?.paths.name?.[0]?.value, 'left')
  t.is(state?.paths.notes?.[0]?.value, 'right')
  one.absorb(name, two.state(name))
  t.deepEqual(state, one.state(name) as never)
  // A later edit that has seen both is merged over both.
  t.like((await world.push(one, [one.set(name, { name: 'after' })]))[0], { status: 'applied' })
})

test('law 2: the same push again, in one batch or later, has the same result; another under its id has none', async (t) => {
  const machine = await world.addMachine()
  const body = world.pushBody([machine.set(agent('a'), { name: 'x' })])
  const items = [await world.seal(machine.device, body), await world.seal(machine.device, body)]
  const together = await world.apply(items)
  const later = await world.apply(items)
  t.true(together[0]?.ok)
  t.deepEqual(together[1]?.result, together[0]?.result)
  t.deepEqual(later, together)
  const other = await world.seal(machine.device, { ...body, entries: [machine.set(agent('b'), { name: 'x' })] })
  t.like((await world.apply([other]))[0], { ok: false, code: 'op_id_conflict' })
  t.is(checkBody('receipt', { kind: 'receipt', aud: newUuidV7(), to: newUuidV7(), time: 0, items: later }), null)
  t.is(await world.count(`audit.pending WHERE lenser_id = $1 AND event_kind = 'sync_push'`, [machine.device.lenser]), 1)
})

test('R7: a push leaves one audit record that counts its entries and hashes them, and says nothing of what they hold', async (t) => {
  const machine = await world.addMachine()
  const canary = 'LTG-CANARY-audit'
  const entry = machine.set(agent('a'), { notes: canary })
  await world.push(machine, [entry, entry, { ...entry, class: 'policy' }])
  const { rows } = await world.owner.query('SELECT * FROM audit.pending WHERE lenser_id = $1', [machine.device.lenser])
  const [{ payload, event_kind }] = rows
  t.is(event_kind, 'sync_push')
  t.like(payload, { ok: true, applied: 1, duplicate: 1, refused: 1 })
  t.is(Buffer.from(payload.entries_hash, 'base64url').length, 32)
  t.is(rows.length, 1)
  t.false(JSON.stringify(rows).includes(canary))
})

test('rule 14: a push of another epoch is refused as a whole, and so is one by a device that may not', async (t) => {
  const machine = await world.addMachine()
  const entry = machine.set(agent('a'), { name: 'x' })
  const late = await world.sealPush(machine.device, [entry], { epoch: 2 })
  t.like((await world.apply([late]))[0], { ok: false, code: 'resync_required' })
  await world.setLevel(machine.device, 'revoked')
  t.like((await world.apply([await world.sealPush(machine.device, [entry])]))[0], { ok: false, code: 'device_revoked' })
  t.is(await world.count('devices.sync_objects WHERE lenser_id = $1', [machine.device.lenser]), 0)
})

test('coordinated classes are written under the fence of the machine that leads, in its time, and by it alone', async (t) => {
  const machine = await world.addMachine()
  const { id, lenser } = machine.device
  const other = await world.addMachine(lenser)
  const name = { class: 'automation_registry_entry', object: 'a' }
  const lead = (device: string, fence: number, left: string) =>
    world.owner.query(
      `INSERT INTO devices.peer_leases (lease_kind, lenser_id, device_id, fence, acquired_at, expires_at)
       VALUES ('sync_flush', $1, $2, $3, now() - interval '1 hour', now() + $4::interval)
       ON CONFLICT (lease_kind, lenser_id) DO UPDATE
         SET device_id = excluded.device_id, fence = excluded.fence, expires_at = excluded.expires_at`,
      [lenser, device, fence, left],
    )
  const codeOf = async (by: typeof machine, fence?: number) => {
    const entry = createMachine(by.device).set(name, { name: 'x' })
    const [said] = await world.push(by, [entry], fence === undefined ? {} : { fence })
    return said?.status ?? said?.code
  }
  t.is(await codeOf(machine, 1), 'not_leader', 'there is no lease')
  await lead(id, 7, '30 seconds')
  t.is(await codeOf(machine), 'not_leader', 'it names no fence')
  t.is(await codeOf(machine, 6), 'not_leader')
  t.is(await codeOf(machine, 8), 'not_leader')
  t.is(await codeOf(other, 7), 'not_leader')
  await lead(id, 7, '-1 seconds')
  t.is(await codeOf(machine, 7), 'not_leader', 'its time is over')
  await lead(id, 7, '30 seconds')
  t.is(await codeOf(machine, 7), 'applied')
  await lead(other.device.id, 8, '30 seconds')
  t.is(await codeOf(machine, 7), 'not_leader')
  t.is(await codeOf(other, 8), 'applied')
})

test('an account that has as many objects as it may begins no other, and edits those that it has', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  await world.push(machine, [machine.set(agent('a'), { name: 'x' })])
  await world.owner.query('UPDATE devices.sync_checksums SET objects = $2 WHERE lenser_id = $1', [
    lenser,
    limits.objectsPerLenser - 1,
  ])
  const said = await world.push(machine, [
    machine.set(agent('b'), { name: 'x' }),
    machine.set(agent('c'), { name: 'x' }),
    machine.set(agent('a'), { name: 'y' }),
  ])
  t.deepEqual(
    said.map(({ status, code }) => status ?? code),
    ['applied', 'object_limit', 'applied'],
  )
  t.is(await world.count('devices.sync_objects WHERE lenser_id = $1', [lenser]), 2)
})

test('the machines of the account that may pull are told, but not the one that pushed, nor for what changed nothing', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const others = [await world.addDevice(lenser), await world.addDevice(lenser)]
  await world.setLevel(await world.addDevice(lenser), 'revoked')
  await world.addDevice()
  const rig = world.createRig()
  const body = world.pushBody([machine.set(agent('a'), { name: 'x' })])
  await rig.handle([await world.seal(machine.device, body)])
  t.deepEqual(rig.notices, [{ lenser, epoch: 1, seq: 1, to: others.map(({ id }) => id).toSorted() }])
  await rig.handle([await world.seal(machine.device, body)])
  t.is(rig.notices.length, 1)
  t.like(rig.figures(), { entries: { applied: 2, refused: 0 }, conflicts: 0, disagreements: 0 })
})

test('a clock names at most so many writers', async (t) => {
  const machine = await world.addMachine()
  const name = agent('a')
  await world.push(machine, [machine.set(name, { name: 'x' })])
  const many = Object.fromEntries(Array.from({ length: limits.clockActors }, () => [actorOf(newUuidV7(), 1), 1]))
  await world.owner.query(
    `UPDATE devices.sync_objects SET state = jsonb_set(state, '{clock}', $2) WHERE lenser_id = $1`,
    [machine.device.lenser, many],
  )
  const other = await world.addMachine(machine.device.lenser)
  const entry = { ...other.set(name, { notes: 'x' }), clock: tick({}, other.actor) }
  const beside = other.set(agent('b'), { name: 'x' })
  const said = await world.push(other, [entry, { ...entry, clock: { ...entry.clock, ...many } }, beside])
  t.deepEqual(
    said.map(({ status, code }) => status ?? code),
    ['object_too_large', 'object_too_large', 'applied'],
  )
})

/** Has each result or record of one account come to this. */
const onInsert = async (table: string, lenser: string, does: string): Promise<void> => {
  const name = `fn_on_${lenser.replaceAll('-', '')}`
  await world.owner.query(
    `CREATE FUNCTION public.${name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ${does}; RETURN NEW; END';
     CREATE TRIGGER z_test BEFORE INSERT ON ${table} FOR EACH ROW WHEN (NEW.lenser_id = '${lenser}')
       EXECUTE FUNCTION public.${name}()`,
  )
}

test('what takes the database too long is merged in halves; what is too long by itself is held, three times, and nothing of it kept', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  await onInsert('devices.operations', lenser, 'PERFORM pg_sleep(0.3)')
  const logger = createLogger({ service: 'sync-applier', level: 'silent' })
  const poolOf = (statementTimeoutMs: number) =>
    createPool({ ...world.database.as('ltg_sync_applier'), max: 1, logger, statementTimeoutMs })
  const items = await Promise.all(
    Array.from({ length: 12 }, (_, n) => world.sealPush(machine.device, [machine.set(agent(`o${n}`), { name: 'x' })])),
  )
  const [tooShort, short] = [poolOf(200), poolOf(2500)]
  await t.throwsAsync(world.createRig(tooShort).handle(items.slice(0, 2)), { instanceOf: InfrastructureError })
  t.is(await world.count('devices.sync_objects WHERE lenser_id = $1', [lenser]), 0)
  // Then it is given up, and those beside it go on.
  const impatient = world.createRig(tooShort)
  const [alone] = items.slice(0, 1)
  const other = await world.addMachine()
  const beside = await world.sealPush(other.device, [other.set(agent('a'), { name: 'x' })])
  for (let tries = 1; tries < 3; tries += 1) {
    await t.throwsAsync(impatient.handle(items.slice(0, 1)), { instanceOf: InfrastructureError })
  }
  await t.throwsAsync(impatient.handle([beside, alone as (typeof items)[0]]), { code: 'internal_error' })
  await impatient.handle([beside])
  t.true(impatient.receipts.some(({ item }) => item.digest === beside.digest && item.ok))
  await t.throwsAsync(impatient.handle(items.slice(0, 1)), { code: 'internal_error' })
  t.is(await world.count('devices.sync_objects WHERE lenser_id = $1', [lenser]), 0)
  const rig = world.createRig(short)
  await rig.handle(items)
  t.deepEqual(
    rig.receipts.map(({ item }) => [item.ok, item.digest]),
    items.map(({ digest }) => [true, digest]),
  )
  await Promise.all([tooShort.end(), short.end()])
})

test('AU-2: where its audit record cannot be written, nothing of a push is kept', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  await onInsert('audit.pending', lenser, 'RAISE check_violation')
  await t.throwsAsync(world.push(machine, [machine.set(agent('a'), { name: 'x' })]), { code: 'internal_error' })
  for (const table of ['sync_objects', 'sync_changes', 'sync_outbox', 'operations']) {
    t.is(await world.count(`devices.${table} WHERE lenser_id = $1`, [lenser]), 0, table)
  }
})
