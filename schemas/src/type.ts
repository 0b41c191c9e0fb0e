import type * as TypeBox from 'typebox'
import type { TSchema } from 'typebox'

export type { Static, TProperties, TSchema } from 'typebox'

// TypeBox's types, and of its builders those that are used: all of it is 680 modules, which every process would load first.
type Name =
  | 'Array'
  | 'Boolean'
  | 'Enum'
  | 'Integer'
  | 'Literal'
  | 'Null'
  | 'Number'
  | 'Object'
  | 'Optional'
  | 'Record'
  | 'String'
  | 'Union'
  | 'Unknown'
type Builders = Pick<typeof TypeBox, Name>

const optional = '~optional'
const range = ['minimum', 'maximum'] as const

/** A schema of fixed members and the bounds that `fits` knows. @throws TypeError on any other, which it would not hold. */
const make = (fixed: object, options: object = {}, known: readonly string[] = []): object => {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`${name} is not checked`)
  }
  return { ...fixed, ...options }
}

const isOptional = (schema: object): boolean => optional in schema

const object = (properties: Record<string, TSchema>, options?: object): object => {
  const required = Object.keys(properties).filter((name) => !isOptional(properties[name] as TSchema))
  const fixed = { type: 'object', ...(required.length > 0 ? { required } : {}), properties }
  if (
    Object.hasOwn(options ?? {}, 'additionalProperties') &&
    (options as TSchema & Bounds).additionalProperties !== false
  )
    throw new TypeError('an object names its other members by a record, or has none')
  return make(fixed, options, ['additionalProperties'])
}
interface Bounds {
  readonly additionalProperties?: unknown
}

const builders = {
  Array: (items: object, options?: object) => make({ type: 'array', items }, options, ['minItems', 'maxItems']),
  Boolean: () => ({ type: 'boolean' }),
  Enum: (values: readonly string[]) => ({ enum: values }),
  Integer: (options?: object) => make({ type: 'integer' }, options, range),
  Literal: (value: string | number | boolean) => ({ type: typeof value, const: value }),
  Null: () => ({ type: 'null' }),
  Number: (options?: object) => make({ type: 'number' }, options, range),
  Object: object,
  // Hidden, so that it is no member of what is published.
  Optional: (schema: object) => Object.defineProperty({ ...schema }, optional, { value: true }),
  Record: (_key: object, value: object) => ({ type: 'object', patternProperties: { '^.*$': value } }),
  String: (options?: object) => make({ type: 'string' }, options, ['minLength', 'maxLength', 'pattern']),
  Union: (anyOf: readonly object[]) => ({ anyOf }),
  Unknown: () => ({}),
}

/** Builds JSON Schemas, and by their types what fits them (`Static`). */
const Type = builders as unknown as Builders
export default Type
