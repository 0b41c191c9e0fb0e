import type { Static, TSchema } from 'typebox'

/** Where and how a value does not fit: a JSON Pointer, and words that hold none of its values. */
export interface Misfit {
  readonly place: string
  readonly message: string
}

/** What the schemas of `type.ts` say. */
interface Schema {
  readonly type?: keyof typeof types
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: false
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const types = {
  object: isObject,
  array: Array.isArray,
  string: (value: unknown) => typeof value === 'string',
  boolean: (value: unknown) => typeof value === 'boolean',
  integer: Number.isInteger,
  number: Number.isFinite,
  null: (value: unknown) => value === null,
}

// As many as the schemas have, which are the program's own.
const patterns = new Map<string, RegExp>()
const patternOf = (text: string): RegExp => {
  const known = patterns.get(text)
  if (known !== undefined) return known
  const pattern = new RegExp(text, 'u')
  patterns.set(text, pattern)
  return pattern
}

const here = (message: string): Misfit => ({ place: '', message })

const within = (name: string | number, misfit: Misfit | undefined): Misfit | undefined =>
  misfit && {
    place: `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}${misfit.place}`,
    message: misfit.message,
  }

/** What is asked of a schema's members for each value, read off it once. */
interface Members {
  readonly required: readonly string[]
  readonly named: readonly (readonly [name: string, part: Schema, isRequired: boolean])[]
  readonly patterned: readonly (readonly [pattern: RegExp, part: Schema])[]
}
const members = new WeakMap<Schema, Members>()
const membersOf = (schema: Schema): Members => {
  const { required = [], properties = {}, patternProperties = {} } = schema
  const known = members.get(schema)
  if (known !== undefined) return known
  const read = {
    required,
    named: Object.entries(properties).map(([name, part]) => [name, part, required.includes(name)] as const),
    patterned: Object.entries(patternProperties).map(([text, part]) => [patternOf(text), part] as const),
  }
  members.set(schema, read)
  return read
}

const misfitOfMembers = (schema: Schema, value: Record<string, unknown>, closed: boolean): Misfit | undefined => {
  const { required, named, patterned } = membersOf(schema)
  if (!required.every((name) => Object.hasOwn(value, name))) {
    const missing = required.filter((name) => !Object.hasOwn(value, name))
    return here(`must have required properties ${missing.join(', ')}`)
  }
  if (closed || schema.additionalProperties === false) {
    const { properties = {} } = schema
    const isKnown = (name: string) =>
      Object.hasOwn(properties, name) || patterned.some(([pattern]) => pattern.test(name))
    const other = Object.getOwnPropertyNames(value).find((name) => !isKnown(name))
    if (other !== undefined) return within(other, here('schema is false'))
  }
  for (const [pattern, part] of patterned) {
    for (const [name, member] of Object.entries(value)) {
      const misfit = pattern.test(name) ? within(name, misfitOf(part, member, closed)) : undefined
      if (misfit !== undefined) return misfit
    }
  }
  for (const [name, part, isRequired] of named) {
    // A member that need not be there may also be there as undefined, which is how objects that are no JSON leave it out.
    if (!isRequired && (value[name] === undefined || !Object.hasOwn(value, name))) continue
    const misfit = within(name, misfitOf(part, value[name], closed))
    if (misfit !== undefined) return misfit
  }
  return undefined
}

const misfitOfItems = (schema: Schema, value: readonly unknown[], closed: boolean): Misfit | undefined => {
  const { items, minItems = 0, maxItems = Number.POSITIVE_INFINITY } = schema
  for (const [index, item] of items === undefined ? [] : value.entries()) {
    const misfit = within(index, misfitOf(items as Schema, item, closed))
    if (misfit !== undefined) return misfit
  }
  if (value.length < minItems) return here(`must not have fewer than ${minItems} items`)
  if (value.length > maxItems) return here(`must not have more than ${maxItems} items`)
  return undefined
}

/** A string's length in characters, as JSON Schema counts: a pair of surrogates is one. Only counted where it matters. */
const charsOf = (value: string): number => {
  let count = 0
  for (const _ of value) count += 1
  return count
}

const misfitOfText = (schema: Schema, value: string): Misfit | undefined => {
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern } = schema
  if (value.length < minLength * 2 && charsOf(value) < minLength)
    return here(`must not have fewer than ${minLength} characters`)
  if (value.length > maxLength && (value.length > maxLength * 2 || charsOf(value) > maxLength))
    return here(`must not have more than ${maxLength} characters`)
  if (pattern !== undefined && !patternOf(pattern).test(value)) return here(`must match pattern "${pattern}"`)
  return undefined
}

const misfitOfNumber = (schema: Schema, value: number): Misfit | undefined => {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema
  if (value < minimum) return here(`must be >= ${minimum}`)
  return value > maximum ? here(`must be <= ${maximum}`) : undefined
}

const misfitOf = (schema: Schema, value: unknown, closed: boolean): Misfit | undefined => {
  if (schema.type !== undefined && !types[schema.type](value)) return here(`must be ${schema.type}`)
  let misfit: Misfit | undefined
  if (typeof value === 'string') misfit = misfitOfText(schema, value)
  else if (typeof value === 'number') misfit = misfitOfNumber(schema, value)
  else if (Array.isArray(value)) misfit = misfitOfItems(schema, value, closed)
  else if (schema.type === 'object') misfit = misfitOfMembers(schema, value as Record<string, unknown>, closed)
  if (misfit !== undefined) return misfit
  if (Object.hasOwn(schema, 'const') && value !== schema.const) return here('must be equal to constant')
  if (schema.enum?.includes(value) === false) return here('must be equal to one of the allowed values')
  const { anyOf } = schema
  if (anyOf === undefined) return undefined
  const [first, ...others] = anyOf
  if (first === undefined) return here('must match a schema in anyOf')
  const firstMisfit = misfitOf(first, value, closed)
  if (firstMisfit === undefined || others.some((part) => misfitOf(part, value, closed) === undefined)) return undefined
  return firstMisfit
}

/**
 * The first thing about a value that its schema does not allow; undefined if it fits. It reads the schemas that `type.ts` makes;
 * a test holds it to TypeBox's own validator.
 * @param options `closed`: no object may have a member that is not named, whether its schema says so or not.
 */
export const firstMisfit = (
  schema: TSchema,
  value: unknown,
  { closed = false }: { readonly closed?: boolean } = {},
): Misfit | undefined => misfitOf(schema as Schema, value, closed)

/** Whether a value is of the schema's type. */
export const fits = <T extends TSchema>(schema: T, value: unknown): value is Static<T> =>
  misfitOf(schema as Schema, value, false) === undefined
