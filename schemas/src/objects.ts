import Type, { Compile, type TSchema, type Validator } from '../typebox/index.mjs'
import { limits } from './limits.ts'

/** Who decides what an object says (spec: Object classes): the gateway's database, this machine alone, or both together. */
export const authorities = ['cloud', 'local', 'both'] as const
export type Authority = (typeof authorities)[number]

/**
 * How a path with several maximal writes is read (sync.md, rule 2): `lww`, by the clock rule; `keep`, as a conflict that a
 * person resolves.
 */
export type Reading = 'lww' | 'keep'

interface PathRule {
  readonly read: Reading
  readonly value: TSchema
}
interface ObjectClass {
  readonly authority: Authority
  /** `global` classes are the same for every account: their feed belongs to nobody. */
  readonly feed: 'account' | 'global'
  /** Whether only the machine that leads may flush it: what it changes is shared by everything that this account runs. */
  readonly coordinated: boolean
  /** Paths by their form, where `<id>` stands for a name; empty where edges write nothing. */
  readonly paths: Readonly<Record<string, PathRule>>
}

/** What a deleted path or object is written as, and where an object says that it exists. */
export const lifePath = '$life'
export const objectIdPattern = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'
const nameInPath = '[A-Za-z0-9][A-Za-z0-9._-]{0,63}'

const text = (maxLength: number) => Type.String({ maxLength })
const name = text(120)
const names = Type.Array(text(120), { maxItems: 100 })
/** JSON of at most so many levels and bytes as limits say; what it means is the program's that wrote it. */
const anything = Type.Unknown()
const lww = (value: TSchema): PathRule => ({ read: 'lww', value })
const keep = (value: TSchema): PathRule => ({ read: 'keep', value })
const life = { [lifePath]: lww(Type.Literal(true)) }

const cloud = (feed: ObjectClass['feed'] = 'account'): ObjectClass => ({
  authority: 'cloud',
  feed,
  coordinated: false,
  paths: {},
})
const local: ObjectClass = { authority: 'local', feed: 'account', coordinated: false, paths: {} }
const both = (paths: ObjectClass['paths'], coordinated = false): ObjectClass => ({
  authority: 'both',
  feed: 'account',
  coordinated,
  paths: { ...life, ...paths },
})

/** Every class of object that there is, each decided here once (SC-1); what is not here is `unknown_class`. */
export const objectClasses = {
  xp_total: cloud(),
  trust_evaluation: cloud(),
  battle_result: cloud(),
  policy: cloud(),
  budget: cloud(),
  kill_switch: cloud(),
  dark_launch: cloud(),
  ai_catalog: cloud('global'),
  byok_key: local,
  local_battle: local,
  scratchpad_draft: local,
  keychain_entry: local,
  private_key: local,
  agent_config: both({
    name: lww(name),
    description: lww(text(2000)),
    model: lww(name),
    system_prompt: lww(text(32_000)),
    temperature: lww(Type.Number({ minimum: 0, maximum: 2 })),
    max_tokens: lww(Type.Integer({ minimum: 1, maximum: 10_000_000 })),
    tools: lww(names),
    tags: lww(names),
    notes: lww(text(16_000)),
  }),
  agent_team_graph: both({
    name: lww(name),
    description: lww(text(2000)),
    'node/<id>': lww(anything),
    'edge/<id>/<id>': lww(anything),
  }),
  workflow_definition: both({
    [lifePath]: keep(Type.Literal(true)),
    name: lww(name),
    description: lww(text(2000)),
    'step/<id>/body': keep(anything),
    'step/<id>/pos': lww(Type.Number()),
    'version/<id>': keep(Type.Object({ created_at: Type.String({ maxLength: 40 }) }, { additionalProperties: true })),
  }),
  lens_draft: both({
    name: lww(name),
    description: lww(text(2000)),
    template: lww(text(48_000)),
    language: lww(text(40)),
    parameters: lww(anything),
    tags: lww(names),
    notes: lww(text(16_000)),
  }),
  runner_metadata: both({
    name: lww(name),
    description: lww(text(2000)),
    labels: lww(names),
    notes: lww(text(16_000)),
  }),
  non_secret_pref: both({ 'pref/<id>': lww(anything) }),
  automation_registry_entry: both({ name: lww(name), description: lww(text(2000)), 'entry/<id>': lww(anything) }, true),
} as const satisfies Record<string, ObjectClass>

export type ObjectClassName = keyof typeof objectClasses
export const objectClassNames = Object.keys(objectClasses) as readonly ObjectClassName[]

/** The record of a class, or undefined for what this gateway does not know. Safe for any string. */
export const objectClassOf = (className: string): ObjectClass | undefined =>
  Object.hasOwn(objectClasses, className) ? objectClasses[className as ObjectClassName] : undefined

const classesOf = (...of: readonly Authority[]): readonly ObjectClassName[] =>
  objectClassNames.filter((each) => of.includes(objectClasses[each].authority))
/** What edges may push: the conflict-aware classes. */
export const pushableClasses = classesOf('both')
/** What edges pull: those, and what the cloud decides. */
export const pullableClasses = classesOf('cloud', 'both')

/** Why an edge may not write an object of this class; null where it may. SC-5, SB-4. */
export const classRefusal = (
  className: string,
): 'unknown_class' | 'cloud_authoritative' | 'local_only_class' | null => {
  const found = objectClassOf(className)
  if (found === undefined) return 'unknown_class'
  return ({ cloud: 'cloud_authoritative', local: 'local_only_class', both: null } as const)[found.authority]
}

interface CompiledRule extends PathRule {
  readonly form: string
  readonly pattern: RegExp
  validator?: Validator
}
const compiled = new Map<string, readonly CompiledRule[]>()
const rulesOf = (className: string): readonly CompiledRule[] => {
  let rules = compiled.get(className)
  if (rules === undefined) {
    rules = Object.entries(objectClassOf(className)?.paths ?? {}).map(([form, rule]) => ({
      ...rule,
      form,
      pattern: new RegExp(`^${form.replaceAll('$', '\\$').replaceAll('<id>', nameInPath)}$`),
    }))
    compiled.set(className, rules)
  }
  return rules
}
const ruleOf = (className: string, path: string): CompiledRule | undefined =>
  rulesOf(className).find(({ pattern }) => pattern.test(path))

/** The paths that people and programs write of a class's objects, by their form; none where edges write nothing. */
export const pathFormsOf = (className: string): readonly string[] =>
  Object.keys(objectClassOf(className)?.paths ?? {}).filter((form) => form !== lifePath)

/** How a path of a class is read; `lww` where the class has no such path. */
export const readingOf = (className: string, path: string): Reading => ruleOf(className, path)?.read ?? 'lww'

const depthOf = (value: unknown): number => {
  let depth = 0
  let level: unknown[] = [value]
  while (level.length > 0 && depth <= limits.objectDepth) {
    depth += 1
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? Object.values(each) : []))
  }
  return depth
}

const isCarriedText = (text: string): boolean => text.isWellFormed() && !text.includes('\0')
/** Whether an envelope takes it: what none can carry would be kept here and never sent. No deeper than `objectDepth`. */
const isCarried = (value: unknown): boolean => {
  if (typeof value === 'number')
    return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))
  if (typeof value === 'string') return isCarriedText(value)
  if (Array.isArray(value)) return value.every(isCarried)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, each]) => isCarriedText(name) && isCarried(each))
}

/**
 * Whether a value may stand at a path of an object: null may everywhere, it deletes. Sizes are the caller's to check.
 * @returns null if it may, else why not, without the value
 */
export const checkPath = (className: string, path: string, value: unknown): string | null => {
  const rule = ruleOf(className, path)
  // The name is the sender's own, of any length.
  if (rule === undefined) return `${className} has no path ${JSON.stringify(path.slice(0, 64).toWellFormed())}`
  if (value === null) return null
  rule.validator ??= Compile(rule.value)
  if (!rule.validator.Check(value)) {
    const [first] = rule.validator.Errors(value)
    return `${rule.form}: ${first?.message ?? 'does not match its schema'}`
  }
  if (depthOf(value) > limits.objectDepth) return `${rule.form}: over ${limits.objectDepth} levels deep`
  return isCarried(value)
    ? null
    : `${rule.form}: no integer is beyond 2^53 - 1, and no text has U+0000 or half a character`
}
