import { canonicalize } from '@lenserfight/envelope'
import { lifePath, readingOf } from '@lenserfight/schemas'
import { covers, partsOf } from './clock.ts'
import type { Json, ObjectState, Write } from './types.ts'

/** Writes of one path that a person has to choose between; the first is the one shown meanwhile. */
export interface Conflict {
  readonly path: string
  readonly sides: readonly Write[]
}

/** An object as a person sees it. */
export interface View {
  /** Whether it exists: it was written, and not deleted since. */
  readonly alive: boolean
  /** What each path reads, deleted ones left out. Edges whose end is gone are hidden, not removed (rule 2). */
  readonly paths: Readonly<Record<string, Json>>
  readonly conflicts: readonly Conflict[]
  /**
   * Of `lww` paths, `$life` among them: writes with another value beside the one that is read, while nobody wrote over them. No
   * conflict, since the clock rule decides (rule 3), and nothing that a person should have to guess either.
   */
  readonly beside: Readonly<Record<string, readonly Write[]>>
  /** Paths written by who had not seen that it was deleted, as long as a deletion stands, read or not (rule 10). */
  readonly editedWhileDeleted: readonly string[]
}

/** One write a distinct value, in the order in which they are read. */
const distinctValues = (writes: readonly Write[]): readonly Write[] => {
  const seen = new Set<string>()
  return writes.filter(({ value }) => {
    const text = canonicalize(value)
    return !seen.has(text) && seen.add(text)
  })
}

const isSplit = (writes: readonly Write[]): boolean => distinctValues(writes).length > 1

/**
 * Rule 4: two maximal writes with different values, on a `keep` path or by one device. Equal values are never a conflict. Who has
 * to choose sees whatever stands there, since the choice goes over all of it.
 */
const conflictOf = (className: string, path: string, writes: readonly Write[]): Conflict | undefined => {
  if (writes.length < 2) return undefined
  const isConflict =
    readingOf(className, path) === 'keep'
      ? isSplit(writes)
      : [...Map.groupBy(writes, ({ actor }) => partsOf(actor).deviceId).values()].some(isSplit)
  return isConflict ? { path, sides: distinctValues(writes) } : undefined
}

/** The conflicts of a state, by path: derived from it alone, so that they do not depend on the order of merging. */
export const conflictsOf = (className: string, state: ObjectState): readonly Conflict[] =>
  Object.keys(state.paths)
    .sort()
    .map((path) => conflictOf(className, path, state.paths[path] ?? []))
    .filter((conflict) => conflict !== undefined)

/** What stands beside what is read; of a deleted object only who else said whether it exists. */
const besideOf = (className: string, state: ObjectState, alive: boolean): View['beside'] =>
  Object.fromEntries(
    Object.entries(state.paths)
      .filter(([path, writes]) => writes.length > 1 && (alive || path === lifePath))
      .filter(([path]) => readingOf(className, path) === 'lww')
      .filter(([path, writes]) => isSplit(writes) && conflictOf(className, path, writes) === undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, writes]) => [path, distinctValues(writes).slice(1)]),
  )

/** A deleted `keep` object that somebody edited meanwhile is shown alive; else the clock rule decides. */
const isAlive = (className: string, writes: readonly Write[] | undefined): boolean => {
  if (writes === undefined || writes.length === 0) return false
  if (readingOf(className, lifePath) === 'keep') return writes.some(({ value }) => value !== null)
  return writes[0]?.value !== null
}

const edgePattern = /^edge\/([^/]+)\/([^/]+)$/
const isShown = (path: string, paths: Readonly<Record<string, Json>>): boolean => {
  const edge = edgePattern.exec(path)
  return edge === null || [edge[1], edge[2]].every((end) => Object.hasOwn(paths, `node/${end}`))
}

/** What a state reads, by its class's rule for each path. */
export const read = (className: string, state: ObjectState): View => {
  const life = state.paths[lifePath]
  const alive = isAlive(className, life)
  const written = Object.entries(state.paths)
    .filter(([path, writes]) => path !== lifePath && writes[0] !== undefined && writes[0].value !== null)
    .map(([path, writes]): [string, Write] => [path, writes[0] as Write])
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const all = Object.fromEntries(written.map(([path, { value }]) => [path, value]))
  const deletions = (life ?? []).filter(({ value }) => value === null)
  return {
    alive,
    paths: Object.fromEntries(Object.entries(all).filter(([path]) => isShown(path, all))),
    conflicts: conflictsOf(className, state),
    beside: besideOf(className, state, alive),
    editedWhileDeleted:
      deletions.length === 0
        ? []
        : written.filter(([, { clock }]) => !deletions.some((each) => covers(each.clock, clock))).map(([path]) => path),
  }
}
