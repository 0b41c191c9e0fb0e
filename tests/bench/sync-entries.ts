import { newUuidV7 } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { limits } from '@lenserfight/schemas'
import { actorOf, apply, edit, emptyState, entryOf, type Json, linkOf, type ObjectState } from '@lenserfight/sync'
import { openRawEdge, type RawEdge } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import { largest, rateOf, type Timed } from './figures.ts'
import { cpuByProcess } from './processes.ts'
import { functionTimes, until } from './stack-times.ts'
import type { Sample } from './workload.ts'
import { type BenchWorld, type Machine, openWorld, signAs } from './world.ts'

export interface SyncOptions {
  /** Rounds that count; one more warms up. */
  readonly rounds: number
  readonly say: (sentence: string) => void
}

export interface SyncFigures {
  /** Entries a second, from the first push published to the last signed receipt. */
  readonly sync_entries_per_s: number
  readonly round_entries_per_s: readonly number[]
  readonly lensers: number
  readonly entries_per_push: number
  readonly entries_per_round: number
  readonly state_bytes: number
  readonly cpu_us_per_entry: Readonly<Record<string, number>>
  /** Where PostgreSQL's time goes, in functions, µs an entry, what they call not counted; of one more round. */
  readonly where_time_goes: Readonly<Record<string, number>>
}

/** Each has one push under way, as a machine does: the next rests on it. */
const lensers = 128
const fields = ['name', 'description', 'template', 'language', 'notes'] as const

/** A machine's objects as it holds them, all edited by itself. */
interface Desk {
  readonly machine: Machine
  readonly objects: { state: ObjectState; link: string | null }[]
  edits: number
}

const newDesk = (machine: Machine): Desk => ({
  machine,
  objects: Array.from({ length: limits.entriesPerPush }, () => ({ state: emptyState, link: null })),
  edits: 0,
})

/** One edit of each object, signed as one push: all fields of what is new, then one after another. */
const nextPush = (world: BenchWorld, desk: Desk): Sample => {
  const { machine, objects } = desk
  desk.edits += 1
  const said = `edit ${desk.edits}`
  const field = fields[desk.edits % fields.length] ?? 'name'
  const paths: Record<string, Json> =
    desk.edits === 1 ? Object.fromEntries(fields.map((each) => [each, said])) : { [field]: said }
  const entries = objects.map((object, index) => {
    const name = { class: 'lens_draft', object: `lens-${index}` }
    const delta = edit(name, object.state, { actor: actorOf(machine.kid, 1), prev: object.link }, { paths })
    if (delta === undefined) throw new Error('an edit changes nothing')
    object.state = apply(object.state, delta)
    object.link = linkOf(delta)
    return entryOf(delta)
  })
  return signAs(world, machine, { kind: 'sync_push', op_id: newUuidV7(), epoch: 1, entries })
}

interface Round extends Timed {
  readonly cpu: Readonly<Record<string, number>>
}

const run = async (stack: Stack, edge: RawEdge, samples: readonly Sample[]): Promise<Round> => {
  const pidOf = (name: 'verifier' | 'sync-applier') => stack.workers(name)[0]?.pid as number
  const pids = {
    verifier: [pidOf('verifier')],
    sync_applier: [pidOf('sync-applier')],
    nats_server: [stack.nats.pid],
    caller: [process.pid],
  }
  const look = () => cpuByProcess(pids, stack.postgres.pid)
  const known = edge.receipts.size
  const before = look()
  const start = performance.now()
  for (const { subject, bytes } of samples) edge.publish(subject, bytes)
  await edge.flush()
  await until(() => edge.receipts.size >= known + samples.length)
  const seconds = (performance.now() - start) / 1000
  const after = look()
  const fresh = [...edge.receipts.values()].slice(known).map(([item]) => item)
  const entries = fresh.flatMap((item) => (item?.result?.entries ?? []) as { status?: string; code?: string }[])
  const failed = entries.find(({ status }) => status !== 'applied') ?? fresh.find((item) => item?.ok !== true)
  if (failed !== undefined) throw new Error(`an entry was not applied: ${failed.code}`)
  const cpu = Object.fromEntries(Object.entries(after).map(([name, us]) => [name, us - (before[name] ?? 0)]))
  return { count: entries.length, seconds, cpu }
}

/**
 * `sync_entries_per_s`: edits of small objects of 128 Lensers, in pushes of 100, through verifier and sync-applier as deployed, fsync
 * on: published, checked, merged, kept in the feed, and told by a signed receipt.
 */
export const benchSync = async ({ rounds, say }: SyncOptions): Promise<SyncFigures> => {
  say('starting the stack (sync)')
  const stack = await testStack({ callout: false, fsync: true, replicas: { 'broker-auth': 0, registrar: 0 } })
  const closers: (() => Promise<unknown>)[] = [() => stack.stop()]
  try {
    await stack.whenReady()
    const edge = await openRawEdge(stack)
    closers.unshift(edge.close)
    const world = await openWorld(stack.owner, stack.descriptor.gateway_id, lensers)
    closers.unshift(() => world.owner.end())
    const desks = world.machines.map(newDesk)
    const round = (): Promise<Round> =>
      run(
        stack,
        edge,
        desks.map((desk) => nextPush(world, desk)),
      )
    say('warming up')
    await round()
    const measured: Round[] = []
    for (let n = 1; n <= rounds; n++) {
      say(`round ${n} of ${rounds}`)
      measured.push(await round())
    }
    say('one more to see where time goes')
    const times = await functionTimes(world.owner, round)
    const count = measured.reduce((sum, each) => sum + each.count, 0)
    const names = Object.keys(measured[0]?.cpu ?? {})
    const cpuOf = (name: string) => measured.reduce((sum, { cpu }) => sum + (cpu[name] ?? 0), 0) / count
    return {
      sync_entries_per_s: rateOf(measured),
      round_entries_per_s: measured.map((each) => rateOf([each])),
      lensers,
      entries_per_push: limits.entriesPerPush,
      entries_per_round: lensers * limits.entriesPerPush,
      state_bytes: JSON.stringify(desks[0]?.objects[0]?.state).length,
      cpu_us_per_entry: Object.fromEntries(names.map((name) => [name, cpuOf(name)])),
      where_time_goes: largest(times, { count: lensers * limits.entriesPerPush, keep: 14 }),
    }
  } finally {
    for (const close of closers) await close()
  }
}
