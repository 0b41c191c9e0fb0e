import { readingOf } from '@lenserfight/schemas'
import type { Json } from '../src/index.ts'

// What must come out, by another way than the code's: no clock is compared here. Each edit names every edit that its writer had
// seen, and what counts is who had seen whom.

/** An edit that the gateway took, named `<actor>#<number>`. */
export interface Taken {
  readonly id: string
  readonly actor: string
  readonly past: ReadonlySet<string>
  readonly paths: Readonly<Record<string, Json>>
}

const textOf = (value: Json): string => JSON.stringify(value)
const device = (actor: string): string => actor.split('~')[0] ?? ''
const incarnation = (actor: string): number => Number(actor.split('~')[1])

/** The edits of a path that no other edit of it had seen, the one that is read first. */
const standing = (taken: readonly Taken[], path: string): readonly Taken[] => {
  const writers = taken.filter(({ paths }) => Object.hasOwn(paths, path))
  return writers
    .filter(({ id }) => !writers.some(({ past }) => past.has(id)))
    .sort(
      (a, b) =>
        b.past.size - a.past.size ||
        (device(a.actor) < device(b.actor) ? -1 : device(a.actor) > device(b.actor) ? 1 : 0) ||
        incarnation(b.actor) - incarnation(a.actor),
    )
}

/** What an object of a class must be after these edits, in whichever order they came. */
export const expectedOf = (className: string, taken: readonly Taken[]) => {
  const names = [...new Set(taken.flatMap(({ paths }) => Object.keys(paths)))].sort()
  const standings = new Map(names.map((path) => [path, standing(taken, path)]))
  const valuesAt = (path: string): Json[] => (standings.get(path) ?? []).map(({ paths }) => paths[path] ?? null)
  const isConflict = (path: string): boolean => {
    const each = standings.get(path) ?? []
    return each.some((a) =>
      each.some(
        (b) =>
          textOf(a.paths[path] ?? null) !== textOf(b.paths[path] ?? null) &&
          (readingOf(className, path) === 'keep' || device(a.actor) === device(b.actor)),
      ),
    )
  }
  const life = valuesAt('$life')
  const isRead = (path: string): boolean => path !== '$life' && (valuesAt(path)[0] ?? null) !== null
  const isHidden = (path: string): boolean => {
    const [kind, from, to] = path.split('/')
    return kind === 'edge' && !(isRead(`node/${from}`) && isRead(`node/${to}`))
  }
  const shown = names.filter((path) => isRead(path) && !isHidden(path))
  const clock: Record<string, number> = {}
  for (const { actor } of taken) clock[actor] = (clock[actor] ?? 0) + 1
  return {
    clock,
    standing: Object.fromEntries([...standings].map(([path, each]) => [path, each.map(({ actor }) => actor)])),
    alive: readingOf(className, '$life') === 'keep' ? life.some((each) => each !== null) : (life[0] ?? null) !== null,
    paths: Object.fromEntries(shown.map((path) => [path, valuesAt(path)[0]])),
    conflicts: names.filter(isConflict).map((path) => ({ path, values: [...new Set(valuesAt(path).map(textOf))] })),
  }
}
