import fc from 'fast-check'
import {
  actorOf,
  admit,
  apply,
  type Change,
  type Clock,
  conflictsOf,
  covers,
  type Delta,
  edit,
  emptyState,
  type Json,
  join,
  joinClocks,
  linkOf,
  type ObjectState,
  reopened,
  reservedActor,
  resolved,
  rewritten,
  stateOf,
  tick,
} from '../src/index.ts'
import type { Taken } from './_oracle.ts'

// One object of one class on some machines and at the gateway, by sync.md's rules: what travels may come twice, late, in another
// order or never; machines are restored from backups; people delete, bring back, resolve and undo.

export const paths: Readonly<Record<string, readonly string[]>> = {
  agent_config: ['name', 'model', 'notes'],
  agent_team_graph: ['name', 'node/a', 'node/b', 'edge/a/b'],
  workflow_definition: ['name', 'step/a/body', 'step/a/pos', 'version/v1'],
}
const values: readonly Json[] = ['x', 'y', null, { z: [1, null] }]

interface Entry {
  readonly delta: Delta
  readonly base: Clock
  /** What the gateway had that this machine knew of. */
  readonly seen: ReadonlySet<string>
  isApplied: boolean
}
interface Machine {
  readonly id: string
  incarnation: number
  link: string | null
  confirmed: ObjectState
  seen: ReadonlySet<string>
  entries: readonly Entry[]
}
interface Message {
  readonly from: number
  readonly delta: Delta
  readonly seen: ReadonlySet<string>
}
interface Version {
  readonly state: ObjectState
  readonly seen: ReadonlySet<string>
}

export interface World {
  readonly className: string
  readonly machines: Machine[]
  readonly backups: { readonly index: number; readonly machine: Machine }[]
  readonly links: Map<string, string>
  readonly versions: Version[]
  readonly taken: Taken[]
  /** Each edit that was taken, alone. */
  readonly pieces: ObjectState[]
  readonly undoable: { path: string; values: readonly Json[] }[]
  readonly counts: Record<string, number>
  messages: Message[]
  newest: number
}

export const machineId = (index: number): string => `00000000-0000-7000-8000-00000000000${index + 1}`
const idOf = (actor: string, n: number | undefined): string => `${actor}#${n}`
const ownId = ({ actor, clock }: Delta): string => idOf(actor, clock[actor])

export const newWorld = (className: string, machines: number): World => ({
  className,
  machines: Array.from({ length: machines }, (_, index) => ({
    id: machineId(index),
    incarnation: 1,
    link: null,
    confirmed: emptyState,
    seen: new Set<string>(),
    entries: [],
  })),
  backups: [],
  links: new Map(),
  versions: [{ state: emptyState, seen: new Set() }],
  taken: [],
  pieces: [],
  undoable: [],
  counts: {},
  messages: [],
  newest: 1,
})

const count = (world: World, what: string): void => {
  world.counts[what] = (world.counts[what] ?? 0) + 1
}
const nameIn = ({ className }: World) => ({ class: className, object: 'one' })
export const gatewayOf = (world: World): Version => world.versions.at(-1) as Version
export const localOf = ({ confirmed, entries }: Machine): ObjectState =>
  entries.reduce((state, { delta }) => apply(state, delta), confirmed)

const write = (world: World, machine: Machine, change: Change): void => {
  const actor = actorOf(machine.id, machine.incarnation)
  const delta = edit(nameIn(world), localOf(machine), { actor, prev: machine.link }, change)
  if (delta === undefined) return
  const { seen, confirmed } = machine
  machine.entries = [...machine.entries, { delta, base: confirmed.clock, seen, isApplied: false }]
  machine.link = linkOf(delta)
}

/** Rule 9. */
const rewrite = (world: World, machine: Machine): void => {
  world.newest += 1
  machine.incarnation = world.newest
  const applied = machine.entries.filter(({ isApplied }) => isApplied)
  const pending = machine.entries.filter(({ isApplied }) => !isApplied)
  const known = applied.reduce((clock, { delta }) => joinClocks(clock, delta.clock), machine.confirmed.clock)
  const from = applied.reduce((clock, { delta }) => joinClocks(clock, delta.clock), {} as Clock)
  const deltas = rewritten(
    nameIn(world),
    pending.map(({ delta, base }) => ({ delta, base: joinClocks(base, from) })),
    known,
    actorOf(machine.id, machine.incarnation),
  )
  const also = applied.flatMap(({ delta, seen }) => [ownId(delta), ...seen])
  machine.entries = [
    ...applied,
    ...pending.map((entry, index) => ({
      ...entry,
      delta: deltas[index] as Delta,
      seen: new Set([...entry.seen, ...also]),
    })),
  ]
  machine.link = linkOf(deltas.at(-1) as Delta)
  count(world, 'rewritten')
}

/** Everything that an edit rests on: what its machine had from the gateway, its own edits before, and what those rest on. */
const pastOf = (world: World, { delta, seen }: Message): ReadonlySet<string> => {
  const own = Array.from({ length: (delta.clock[delta.actor] ?? 1) - 1 }, (_, index) => idOf(delta.actor, index + 1))
  const near = new Set([...seen, ...own])
  return new Set([...near, ...world.taken.filter(({ id }) => near.has(id)).flatMap(({ past }) => [...past])])
}

/** The gateway takes or refuses an edit, and its machine may hear of it. */
const arrive = (world: World, message: Message, isHeard: boolean): void => {
  const { delta, from } = message
  const { state, seen } = gatewayOf(world)
  const link = linkOf(delta)
  const linkAt = world.links.get(ownId(delta))
  const known = {
    ...state,
    link: world.links.get(delta.actor) ?? null,
    ...(linkAt === undefined ? {} : { linkAt }),
  }
  const answer = admit(known, delta, link)
  count(world, answer)
  if (answer === 'admitted') {
    const id = ownId(delta)
    world.taken.push({ id, actor: delta.actor, past: pastOf(world, message), paths: delta.paths })
    world.pieces.push(stateOf(delta))
    world.links.set(delta.actor, link)
    world.links.set(id, link)
    world.versions.push({ state: apply(state, delta), seen: new Set([...seen, id]) })
  }
  const machine = world.machines[from]
  const entry = machine?.entries.find((each) => !each.isApplied && linkOf(each.delta) === link)
  if (!isHeard || machine === undefined || entry === undefined) return
  if (answer === 'admitted' || answer === 'duplicate') {
    machine.entries = machine.entries.map((each) => (each === entry ? { ...each, isApplied: true } : each))
  }
  if (answer === 'clock_reused' || answer === 'clock_ahead') rewrite(world, machine)
}

const send = (world: World, from: number): void => {
  const entries = world.machines[from]?.entries.filter(({ isApplied }) => !isApplied) ?? []
  world.messages.push(...entries.map(({ delta, seen }) => ({ from, delta, seen })))
}

/** A row of the feed comes to a machine, which joins it (rule 8). */
const pull = (machine: Machine, { state, seen }: Version): void => {
  machine.confirmed = join(machine.confirmed, state)
  machine.seen = new Set([...machine.seen, ...seen])
  machine.entries = machine.entries.filter(
    ({ isApplied, delta }) => !(isApplied && covers(machine.confirmed.clock, delta.clock)),
  )
}

/** The gateway itself writes one path, as so many reserved actors as there are values. */
const decide = (world: World, path: string, sides: readonly Json[], state: ObjectState): void => {
  const { seen, state: before } = gatewayOf(world)
  const ids = sides.map((value, index): string => {
    const actor = reservedActor(sides.length - index)
    const id = idOf(actor, state.clock[actor])
    world.taken.push({ id, actor, past: seen, paths: { [path]: value } })
    world.pieces.push(stateOf({ actor, clock: tick(before.clock, actor), paths: { [path]: value } }))
    return id
  })
  world.versions.push({ state, seen: new Set([...seen, ...ids]) })
}
const resolve = (world: World, which: number, value: Json): void => {
  const { state } = gatewayOf(world)
  const open = conflictsOf(world.className, state)
  const conflict = open[which % open.length]
  if (conflict === undefined) return
  const winner = conflict.sides[which]?.value ?? (conflict.path === '$life' ? true : value)
  world.undoable.push({ path: conflict.path, values: conflict.sides.map((side) => side.value) })
  decide(world, conflict.path, [winner], resolved(state, conflict.path, winner))
  count(world, 'resolved')
}
const undo = (world: World): void => {
  const last = world.undoable.pop()
  if (last === undefined) return
  decide(world, last.path, last.values, reopened(gatewayOf(world).state, last.path, last.values))
  count(world, 'undone')
}

/** Whatever may happen to the one at a place. */
export type Step =
  | readonly ['edit', number, readonly (readonly [number, number])[]]
  | readonly ['delete' | 'undelete' | 'send' | 'backup' | 'restore' | 'undo', number]
  | readonly ['arrive', number, 'taken' | 'again' | 'unheard']
  | readonly ['pull', number, number]
  | readonly ['resolve', number, number]

const at = fc.nat({ max: 63 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.constant('edit' as const), at, fc.array(fc.tuple(at, at), { maxLength: 2 })) },
  {
    weight: 6,
    arbitrary: fc.tuple(fc.constantFrom('delete', 'undelete', 'send', 'send', 'send', 'backup', 'restore', 'undo'), at),
  },
  { weight: 8, arbitrary: fc.tuple(fc.constant('arrive' as const), at, fc.constantFrom('taken', 'again', 'unheard')) },
  { weight: 4, arbitrary: fc.tuple(fc.constant('pull' as const), at, fc.oneof(fc.constant(0), at)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('resolve' as const), at, at) },
)
/** A class, how many machines have the object, and what happens. */
export const history = fc.record({
  className: fc.constantFrom(...Object.keys(paths)),
  machines: fc.integer({ min: 2, max: 5 }),
  steps: fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }),
})
export type History = typeof history extends fc.Arbitrary<infer T> ? T : never

const pick = <T>(from: readonly T[], index: number): T | undefined => from[index % from.length]

const bring = (world: World, index: number, how: 'taken' | 'again' | 'unheard'): void => {
  const message = pick(world.messages, index)
  if (message === undefined) return
  if (how !== 'again') world.messages = world.messages.filter((other) => other !== message)
  arrive(world, message, how !== 'unheard')
}
const restore = (world: World, index: number): void => {
  const backup = pick(world.backups, index)
  if (backup !== undefined) world.machines[backup.index] = { ...backup.machine }
}

const take = (world: World, [what, which, more]: Step): void => {
  const index = which % world.machines.length
  const machine = world.machines[index] as Machine
  if (what === 'edit') {
    const changed = more.map(([path, value]) => [pick(paths[world.className] ?? [], path), pick(values, value) ?? null])
    write(world, machine, { paths: Object.fromEntries(changed) })
  } else if (what === 'delete' || what === 'undelete') write(world, machine, what)
  else if (what === 'send') send(world, index)
  else if (what === 'backup') world.backups.push({ index, machine: { ...machine } })
  else if (what === 'restore') restore(world, which)
  else if (what === 'undo') undo(world)
  else if (what === 'pull') pull(machine, world.versions.at(-1 - (more % world.versions.length)) as Version)
  else if (what === 'resolve') resolve(world, which, pick(values, more) ?? null)
  else if (what === 'arrive') bring(world, which, more)
}

/** Everything that is under way comes, and all machines push and pull until none has anything left. */
const settle = (world: World): void => {
  for (let round = 0; round < 50; round += 1) {
    for (const message of world.messages.splice(0)) arrive(world, message, true)
    world.machines.forEach((machine, index) => {
      pull(machine, gatewayOf(world))
      send(world, index)
    })
    if (world.messages.length === 0) return
  }
  throw new Error('not at rest after 50 rounds')
}

export const live = ({ className, machines, steps }: History): World => {
  const world = newWorld(className, machines)
  for (const each of steps) take(world, each)
  settle(world)
  return world
}
