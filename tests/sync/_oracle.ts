/**
 * What a set of edits comes to, by sync.md alone and all at once: no join, no order, nothing of the code that is tested.
 */

type Clock = Readonly<Record<string, number>>

/** One edit as the server logged it. */
export interface Logged {
  readonly device: string
  readonly class: string
  readonly object: string
  /** `device~incarnation`. */
  readonly actor: string
  readonly n: number
  readonly clock: Clock
  /** What it wrote; null deletes. */
  readonly paths: Readonly<Record<string, unknown>>
}

export interface Expected {
  readonly alive: boolean
  /** What is read at each path, whether or not the object is alive. */
  readonly paths: Readonly<Record<string, unknown>>
  /** Sides of each conflict, by path, as sorted JSON. */
  readonly conflicts: Readonly<Record<string, readonly string[]>>
}

const keptPaths = /^(\$life|step\/[^/]+\/body|version\/[^/]+)$/
const isKept = (className: string, path: string): boolean => className === 'workflow_definition' && keptPaths.test(path)

const text = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  )

/** An edit has seen another if it counts the other's author that far. */
const hasSeen = (later: Logged, earlier: Logged): boolean =>
  later !== earlier && (later.clock[earlier.actor] ?? 0) >= earlier.n

const sumOf = (clock: Clock): number => Object.values(clock).reduce((sum, n) => sum + n, 0)
const incarnationOf = ({ actor }: Logged): number => Number(actor.split('~')[1])
/** Rule 3. */
const readFirst = (a: Logged, b: Logged): number =>
  sumOf(b.clock) - sumOf(a.clock) ||
  (a.device < b.device ? -1 : a.device > b.device ? 1 : incarnationOf(b) - incarnationOf(a))

/** What stands at a path: what was written there and overwritten by nobody who had seen it. */
const standingAt = (edits: readonly Logged[], path: string): readonly Logged[] => {
  const writers = edits.filter(({ paths }) => Object.hasOwn(paths, path))
  return writers.filter((each) => !writers.some((other) => hasSeen(other, each))).sort(readFirst)
}

const distinct = (standing: readonly Logged[], path: string): readonly string[] =>
  [...new Set(standing.map(({ paths }) => text(paths[path])))].sort()

/** Rule 4: on a kept path all that differs, elsewhere only what one device wrote twice without knowing. */
const conflictAt = (className: string, path: string, standing: readonly Logged[]): readonly string[] => {
  if (isKept(className, path)) return distinct(standing, path)
  const byDevice = Map.groupBy(standing, ({ device }) => device)
  return [...byDevice.values()]
    .map((own) => distinct(own, path))
    .filter((own) => own.length > 1)
    .flat()
    .sort()
}

const expectedOf = (className: string, edits: readonly Logged[]): Expected => {
  const names = [...new Set(edits.flatMap(({ paths }) => Object.keys(paths)))].sort()
  const standing = new Map(names.map((path) => [path, standingAt(edits, path)]))
  const life = standing.get('$life') ?? []
  const isThere = ({ paths }: Logged): boolean => paths.$life !== null
  const read = names
    .filter((path) => path !== '$life')
    .map((path): [string, unknown] => [path, standing.get(path)?.[0]?.paths[path]])
    .filter(([, value]) => value !== null)
  const all = Object.fromEntries(read)
  const hasEnds = (path: string): boolean =>
    !path.startsWith('edge/') ||
    path
      .split('/')
      .slice(1)
      .every((end) => Object.hasOwn(all, `node/${end}`))
  const conflicts = names
    .map((path): [string, readonly string[]] => [path, conflictAt(className, path, standing.get(path) ?? [])])
    .filter(([, sides]) => sides.length > 1)
  return {
    alive: isKept(className, '$life') ? life.some(isThere) : life[0] !== undefined && isThere(life[0]),
    paths: Object.fromEntries(read.filter(([path]) => hasEnds(path))),
    conflicts: Object.fromEntries(conflicts),
  }
}

/** Every object that was ever edited, as `class object`. */
export const whatComesOf = (edits: readonly Logged[]): ReadonlyMap<string, Expected> => {
  const byObject = Map.groupBy(edits, (edit) => `${edit.class} ${edit.object}`)
  return new Map([...byObject].map(([name, own]) => [name, expectedOf(own[0]?.class ?? '', own)]))
}

/** An object as it is kept: the join of all clocks, and per path who wrote what stands there, as `actor n value`. */
export interface Kept {
  readonly clock: Clock
  readonly paths: Readonly<Record<string, readonly string[]>>
}

export const keptWrite = (actor: string, n: number | undefined, value: unknown): string =>
  `${actor} ${n} ${text(value)}`

const keptOf = (edits: readonly Logged[]): Kept => {
  const clock: Record<string, number> = {}
  for (const { clock: seen } of edits) {
    for (const [actor, n] of Object.entries(seen)) clock[actor] = Math.max(n, clock[actor] ?? 0)
  }
  const names = new Set(edits.flatMap(({ paths }) => Object.keys(paths)))
  const standing = [...names].map((path): [string, string[]] => [
    path,
    standingAt(edits, path)
      .map(({ actor, n, paths }) => keptWrite(actor, n, paths[path]))
      .sort(),
  ])
  return { clock, paths: Object.fromEntries(standing) }
}

/** Every object as it must be kept, by `class object`. */
export const whatIsKept = (edits: readonly Logged[]): Readonly<Record<string, Kept>> => {
  const byObject = Map.groupBy(edits, (edit) => `${edit.class} ${edit.object}`)
  return Object.fromEntries([...byObject].map(([name, own]) => [name, keptOf(own)]))
}

/** Edits that the same author numbered twice, or left a number out before: none may be there. */
export const misnumbered = (edits: readonly Logged[]): readonly string[] => {
  const byAuthor = Map.groupBy(edits, ({ class: className, object, actor }) => `${className} ${object} ${actor}`)
  return [...byAuthor]
    .filter(([, own]) =>
      own
        .map(({ n }) => n)
        .sort((a, b) => a - b)
        .some((n, index) => n !== index + 1),
    )
    .map(([author]) => author)
}

export { text as sortedJson }
