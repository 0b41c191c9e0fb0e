import { encodeBase64Url, encodeKey, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import type { KindName } from '@lenserfight/schemas'
import { conflictsOf, digestOf, type ObjectState } from '@lenserfight/sync'
import { makeSession, type Signatory } from '@lenserfight/testkit'
import test from 'ava'
import { createWorld, gatewayId, type Machine, type World } from './_world.ts'

let world: World
let registrar: ReturnType<World['connect']>
test.before(async () => {
  world = await createWorld()
  registrar = world.connect(world.database.as('ltg_registrar'), 8)
})
test.after.always(async () => {
  await registrar?.end()
  await world?.close()
})

const functions = {
  sync_conflicts: 'devices.fn_sync_conflicts',
  sync_resolve: 'devices.fn_sync_resolve_conflict',
  sync_undo: 'devices.fn_sync_undo_resolution',
  leader: 'devices.fn_acquire_leader_lease',
} as const satisfies Partial<Record<KindName, string>>
interface Outcome {
  ok: boolean
  code?: string
  result: Record<string, unknown>
}

/** Asks as the registrar does: claims the request, then applies it. */
const ask = async (signer: Pick<Signatory, 'kid' | 'keys'>, kind: keyof typeof functions, members: object) => {
  const { envelope, bytes, digest } = signEnvelope({
    kid: signer.kid,
    key: signer.keys.privateKey,
    body: { kind, aud: gatewayId, ...members },
  })
  const { nonce, iat } = envelope
  const { rows: claims } = await registrar.query('SELECT devices.fn_claim_ask($1) AS claimed', [
    JSON.stringify({
      ...{ kid: signer.kid, kind, nonce, iat },
      ...{ digest: encodeBase64Url(digest), public_key: encodeKey(signer.keys.publicKey) },
    }),
  ])
  const { verdict } = (claims[0] as { claimed: { verdict: string } }).claimed
  if (verdict !== 'ok') throw new Error(verdict)
  const { rows } = await registrar.query(`SELECT ${functions[kind]}($1) AS outcome`, [Buffer.from(bytes).toString()])
  return (rows[0] as { outcome: Outcome }).outcome
}

/** What the sequencer does, once: gives a digest to what the gateway wrote, and tells the feeds. */
const sequence = async (): Promise<void> => {
  const client = await world.applier.connect()
  try {
    await client.query('BEGIN')
    const { rows } = await client.query('SELECT devices.fn_sync_sequence_open(100) AS opened')
    const { objects } = (rows[0] as { opened: { objects: { state: ObjectState }[] } }).opened
    const sequenced = objects.map(({ state, ...name }) => ({ ...name, digest: digestOf(state) }))
    await client.query('SELECT devices.fn_sync_sequence_commit($1)', [JSON.stringify({ objects: sequenced })])
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

const step = 'step/build/body'
const workflow = (object: string) => ({ class: 'workflow_definition', object })
interface Listed {
  id: string
  object: string
  path: string
  sides_digest: string
  base: { value: unknown } | null
  sides: { value: unknown }[]
}
const listed = async (session: Signatory): Promise<Listed[]> =>
  (await ask(session, 'sync_conflicts', {})).result.conflicts as Listed[]
const resolve = (session: Signatory, { id: conflict_id, sides_digest }: Listed, winner: object) =>
  ask(session, 'sync_resolve', { op_id: newUuidV7(), conflict_id, sides_digest, winner })
const undo = (session: Signatory, resolution_id: unknown) =>
  ask(session, 'sync_undo', { op_id: newUuidV7(), resolution_id })

/** Two machines that edited one step of a workflow apart; their account's session. */
const parted = async (object: string) => {
  const one = await world.addMachine()
  const { lenser } = one.device
  const two = await world.addMachine(lenser)
  const name = workflow(object)
  await world.push(one, [one.set(name, { name: 'Build', [step]: 'base' })])
  two.absorb(name, (await world.stored(lenser, name)) as ObjectState)
  await world.push(one, [one.set(name, { [step]: 'left' })])
  await world.push(two, [two.set(name, { [step]: 'right' })])
  return { one, two, lenser, name, session: await makeSession(world.owner, lenser) }
}
const statusOf = (said: Awaited<ReturnType<World['push']>>) => said.map(({ status, code }) => status ?? code)

test('rules 11, 12: what two machines cannot agree on is decided once, and what they edit afterwards goes over it', async (t) => {
  const { one, two, lenser, name, session } = await parted('decided')
  const [conflict] = await listed(session)
  t.deepEqual(conflict?.base, { value: 'base' })
  t.deepEqual(conflict?.sides.map(({ value }) => value).toSorted(), ['left', 'right'])
  const done = await resolve(session, conflict as Listed, { value: 'both' })
  t.true(done.ok)
  await sequence()
  const decided = (await world.stored(lenser, name)) as ObjectState
  t.deepEqual(
    decided.paths[step]?.map(({ value }) => value),
    ['both'],
  )
  const [row] = (
    await world.owner.query('SELECT state, digest FROM devices.sync_changes WHERE lenser_id = $1 ORDER BY seq DESC', [
      lenser,
    ])
  ).rows as { state: ObjectState; digest: Buffer }[]
  t.deepEqual(row?.state, decided)
  t.is(row?.digest.toString('base64url'), digestOf(decided))
  // One machine has seen it, the other not.
  one.absorb(name, decided)
  t.deepEqual(statusOf(await world.push(one, [one.set(name, { [step]: 'after' })])), ['applied'])
  t.deepEqual(await listed(session), [])
  t.deepEqual(statusOf(await world.push(two, [two.set(name, { [step]: 'unseeing' })])), ['applied'])
  const [again] = await listed(session)
  t.deepEqual(again?.sides.map(({ value }) => value).toSorted(), ['after', 'unseeing'])
  t.deepEqual(again?.base, { value: 'base' })
})

test('rule 12: a push that comes between is merged with what was decided, sequenced or not', async (t) => {
  const { one, two, lenser, name, session } = await parted('between')
  const [conflict] = await listed(session)
  const done = await resolve(session, conflict as Listed, { side: 0 })
  const back = await undo(session, done.result.resolution_id)
  t.true(back.ok)
  t.deepEqual(statusOf(await world.push(one, [one.set(name, { 'step/build/pos': 2 })])), ['applied'])
  await sequence()
  const state = (await world.stored(lenser, name)) as ObjectState
  t.is(state.paths[step]?.length, 2)
  t.is(state.paths['step/build/pos']?.[0]?.value, 2)
  const open = await listed(session)
  t.deepEqual(
    open.map(({ id, sides }) => [id, sides.map(({ value }) => value)]),
    [[back.result.conflict_id as string, conflict?.sides.map(({ value }) => value)]] as never,
  )
  // A machine that saw the sides and chose ends it by its edit.
  two.absorb(name, state)
  t.deepEqual(statusOf(await world.push(two, [two.set(name, { [step]: 'chosen' })])), ['applied'])
  t.deepEqual(await listed(session), [])
})

test('rules 11, 12: pushes, decisions, undos and the sequencer at once: nobody is stuck, and each conflict stands once', async (t) => {
  const { one, two, lenser, name, session } = await parted('at-once')
  const codes = new Set<string>()
  const resolutions: unknown[] = []
  const editing = async (machine: Machine, label: string) => {
    for (let n = 0; n < 12; n += 1) {
      const pushed = await world.push(machine, [machine.set(name, { [step]: `${label}${n}` })])
      for (const code of statusOf(pushed)) codes.add(`push ${code}`)
      // Long enough for somebody to decide of it, or not.
      await listed(session)
      if (n % 3 === 2) machine.absorb(name, (await world.stored(lenser, name)) as ObjectState)
    }
  }
  const deciding = async (side: number) => {
    for (let n = 0; n < 12; n += 1) {
      const [open] = await listed(session)
      if (open === undefined) continue
      const outcome = await resolve(session, open, { side })
      codes.add(`resolve ${outcome.code ?? 'ok'}`)
      if (outcome.ok) resolutions.push(outcome.result.resolution_id)
    }
  }
  const undoing = async () => {
    for (let n = 0; n < 12; n += 1) {
      const id = resolutions[n % Math.max(1, resolutions.length)]
      if (id !== undefined) codes.add(`undo ${(await undo(session, id)).code ?? 'ok'}`)
      await sequence()
    }
  }
  await Promise.all([editing(one, 'a'), editing(two, 'b'), deciding(0), deciding(1), undoing()])
  for (const machine of [one, two]) machine.absorb(name, (await world.stored(lenser, name)) as ObjectState)
  await world.push(one, [one.set(name, { [step]: 'last a' })])
  await world.push(two, [two.set(name, { [step]: 'last b' })])
  const last = await resolve(session, (await listed(session))[0] as Listed, { side: 0 })
  codes.add(`resolve ${last.code ?? 'ok'}`)
  resolutions.push(last.result.resolution_id)
  await undo(session, resolutions.at(-1))
  await sequence()
  const expected = ['push applied', ...['ok', 'conflict_closed', 'conflict_changed'].map((code) => `resolve ${code}`)]
  for (const code of codes) t.true([...expected, 'undo ok', 'undo unknown_resolution'].includes(code), code)
  t.true(codes.has('resolve ok') && codes.has('push applied'), [...codes].join(', '))
  const state = (await world.stored(lenser, name)) as ObjectState
  const derived = conflictsOf(name.class, state)
  t.true(derived.length > 0)
  const rows = await world.conflicts(lenser)
  t.deepEqual(
    rows.filter(({ closed_at }) => closed_at === null).map(({ path, sides }) => ({ path, sides })),
    derived.map(({ path, sides }) => ({ path, sides: [...sides] })) as never,
  )
  const fed = await world.one<{ digest: Buffer; fed_digest: Buffer }>(
    'SELECT digest, fed_digest FROM devices.sync_objects WHERE lenser_id = $1',
    [lenser],
  )
  t.is(fed.digest.toString('base64url'), digestOf(state))
  t.deepEqual(fed.fed_digest, fed.digest)
  t.is(await world.count('devices.sync_outbox WHERE lenser_id = $1', [lenser]), 29)
})

test('coordinated classes: of machines that race to lead, what each flushes counts under its own fence alone', async (t) => {
  const first = await world.addMachine()
  const { lenser } = first.device
  const machines = [first, await world.addMachine(lenser), await world.addMachine(lenser)]
  const flushed: { kid: string; fence: number }[] = []
  const work = async (machine: Machine) => {
    const signer = { kid: machine.device.id, keys: machine.device.keys }
    const name = { class: 'automation_registry_entry', object: `of-${machine.device.id}` }
    for (let n = 0, done = 0; n < 300 && done < 3; n += 1) {
      const { result } = await ask(signer, 'leader', { lease_kind: 'sync_flush', seconds: 30 })
      if (result.granted !== true) continue
      const fence = result.fence as number
      const said = await world.push(machine, [machine.set(name, { name: `v${n}` })], { fence })
      t.deepEqual(statusOf(said), ['applied'])
      flushed.push({ kid: machine.device.id, fence })
      done += 1
      await ask(signer, 'leader', { lease_kind: 'sync_flush', seconds: 0 })
      const late = await world.push(
        machine,
        [machine.set({ ...name, object: `${name.object}-late` }, { name: `v${n}` })],
        {
          fence,
        },
      )
      t.deepEqual(statusOf(late), ['not_leader'], 'it gave the lease back')
      machine.absorb(name, (await world.stored(lenser, name)) as ObjectState)
    }
  }
  await Promise.all(machines.map(work))
  t.is(flushed.length, 9)
  t.is(new Set(flushed.map(({ fence }) => fence)).size, 9, 'each time under a fence of its own')
})
