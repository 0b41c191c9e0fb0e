import type { Chance } from '../fault/_random.ts'

/** What somebody asks a daemon to do to one object. */
export type Edit = { readonly class: string; readonly object: string } & (
  | { readonly act: 'set'; readonly paths: Readonly<Record<string, unknown>> }
  | { readonly act: 'delete' | 'undelete' }
)

/** A log that shows this shows something of an object: the run's log scan looks for it. */
const text = (n: number): string => `LTG-CANARY ${n}`

const oneOf = <T>(chance: Chance, items: readonly T[]): T => items[Math.floor(chance.next() * items.length)] as T
const steps = ['s1', 's2', 's3']
const ends = ['a', 'b', 'c', 'd']

/** Paths of each class that edges write, with a value that no other edit of the run writes there. */
const paths: Readonly<Record<string, Readonly<Record<string, (n: number) => unknown>>>> = {
  agent_config: {
    name: text,
    system_prompt: text,
    temperature: (n) => n / 10_000,
    max_tokens: (n) => n + 1,
    tools: (n) => [text(n), 'grep'],
  },
  agent_team_graph: {
    description: text,
    ...Object.fromEntries(ends.map((end) => [`node/${end}`, text])),
    ...Object.fromEntries(ends.flatMap((from) => ends.slice(0, 2).map((to) => [`edge/${from}/${to}`, text]))),
  },
  workflow_definition: {
    name: text,
    ...Object.fromEntries(steps.map((step) => [`step/${step}/body`, (n: number) => ({ run: text(n) })])),
    ...Object.fromEntries(steps.map((step) => [`step/${step}/pos`, (n: number) => n + 0.5])),
    ...Object.fromEntries(['v1', 'v2'].map((id) => [`version/${id}`, (n: number) => ({ created_at: text(n) })])),
  },
  lens_draft: { template: text, parameters: (n) => ({ depth: n }), notes: text },
  runner_metadata: { name: text, labels: (n) => [text(n)] },
  non_secret_pref: { 'pref/theme': text, 'pref/keys.map': (n) => ({ save: n }) },
  automation_registry_entry: { name: text, 'entry/nightly': text, 'entry/weekly': (n) => [n] },
}
export const editedClasses = Object.keys(paths)
/** What the run's machines call their objects: few, so that they meet. */
const objects = ['one', 'two', 'three:x']

/**
 * The next random edit: up to three paths of one object, now and then one of them deleted, and some of them with a value that
 * others write too; or a whole object deleted or brought back.
 * @param n no other edit of the run has it
 */
export const randomEdit = (chance: Chance, n: number): Edit => {
  const named = { class: oneOf(chance, editedClasses), object: oneOf(chance, objects) }
  const drawn = chance.next()
  if (drawn < 0.06) return { ...named, act: 'delete' }
  if (drawn < 0.09) return { ...named, act: 'undelete' }
  const own = chance.shuffled(Object.entries(paths[named.class] ?? {})).slice(0, 1 + Math.floor(chance.next() * 3))
  // The first is this edit's alone, by which it is found again.
  const values = own.map(([path, make], index): [string, unknown] => {
    const kind = index === 0 ? 1 : chance.next()
    return [path, kind < 0.15 ? null : make(kind < 0.3 ? 0 : n)]
  })
  return { ...named, act: 'set', paths: Object.fromEntries(values) }
}
