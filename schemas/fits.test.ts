import test from 'ava'
import fc from 'fast-check'
import { Check, Errors } from 'typebox/value'
import { firstMisfit, fits } from './src/fits.ts'
import { DeviceExplanation, ExecutionExplanation, kindNames, kinds } from './src/index.ts'
import Type, { type TSchema } from './src/type.ts'

interface Schema {
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
}

/** What may stand anywhere. */
const anything = fc.oneof(
  fc.constantFrom(undefined, null, true, 0, -1, 1.5, 2 ** 53, Number.NaN, '', 'x', '🧀', '\ud800', 'a\nb', [], {}, [
    [],
  ]),
  fc.constantFrom('a'.repeat(65), '🧀'.repeat(33), '🧀'.repeat(64), Array(600).fill('a'), 1e15, 253402300800),
  fc.jsonValue({ maxDepth: 2 }),
)
const names = fc.constantFrom('kind', 'aud', 'extra', 'a/b', 'a~b', 'a\nb', '', 'constructor', 'toString', '🧀')

/** Values of the schema's form. */
const formOf = (schema: Schema): fc.Arbitrary<unknown> => {
  const { type, minimum = 0, maximum = 1000, minLength = 0, maxLength = 8, minItems = 0, maxItems = 3 } = schema
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map(formOf))
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.pattern !== undefined) {
    const isLongEnough = (text: string) => text.length >= minLength && text.length <= (schema.maxLength ?? 1000)
    return fc.stringMatching(new RegExp(schema.pattern)).filter(isLongEnough)
  }
  if (type === 'string') return fc.string({ unit: fc.constantFrom('a', '🧀'), minLength, maxLength })
  if (type === 'integer' || type === 'number') return fc.constantFrom(minimum, maximum)
  if (type === 'boolean') return fc.boolean()
  if (type === 'null') return fc.constant(null)
  const { items, patternProperties, properties = {}, required = [] } = schema
  if (type === 'array') return fc.array(formOf(items ?? {}), { minLength: minItems, maxLength: Math.min(maxItems, 3) })
  const [values] = Object.values(patternProperties ?? {})
  if (values !== undefined) return fc.dictionary(names, formOf(values), { maxKeys: 3 })
  if (type !== 'object') return anything
  const members = Object.fromEntries(Object.entries(properties).map(([name, part]) => [name, formOf(part)]))
  return fc.record(members, { requiredKeys: [...required] })
}

/** A change somewhere in a value: where, what is done there, and with what. */
const change = fc.record({
  path: fc.array(fc.nat(20), { maxLength: 4 }),
  act: fc.constantFrom('replace', 'leave out', 'add'),
  name: names,
  other: anything,
})
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

const changed = (value: unknown, { path: [step, ...path], act, name, other }: Change): unknown => {
  const members = typeof value === 'object' && value !== null ? Object.entries(value) : []
  if (act === 'add' && step === undefined && typeof value === 'object' && !Array.isArray(value))
    return { ...value, [name]: other }
  const [at] = step === undefined ? [] : (members[step % members.length] ?? [])
  if (at === undefined) return other
  const isHere = path.length === 0 && act === 'leave out'
  const next = members.flatMap(([key, part]) => {
    if (key !== at) return [[key, part] as const]
    return isHere ? [] : [[key, changed(part, { path, act, name, other })] as const]
  })
  return Array.isArray(value) ? next.map(([, part]) => part) : Object.fromEntries(next)
}

/** Values of the schema's form, and such as were changed in a place or two. */
const near = (schema: Schema): fc.Arbitrary<unknown> =>
  fc
    .tuple(formOf(schema), fc.oneof(fc.constant([]), fc.array(change, { minLength: 1, maxLength: 2 })))
    .map(([value, changes]) => changes.reduce(changed, value))

const firstOf = (schema: TSchema, value: unknown) => {
  const [first] = Errors(schema, value)
  return first && { place: first.instancePath, message: first.message }
}

const all: readonly (readonly [name: string, TSchema])[] = [
  ...kindNames.map((name) => [name, kinds[name].body] as const),
  ['an explanation of a run', ExecutionExplanation],
  ['an explanation of a device', DeviceExplanation],
  ['a record of numbers', Type.Record(Type.String(), Type.Number({ maximum: 3 }))],
  ['an open object', Type.Object({ a: Type.Optional(Type.Boolean()), b: Type.Array(Type.Null(), { minItems: 1 }) })],
]

for (const [name, schema] of all) {
  test(`law 5: what fits ${name}, and what is said of what does not, is as TypeBox has it`, (t) => {
    let fitting = 0
    let others = 0
    t.notThrows(() =>
      fc.assert(
        fc.property(near(schema as Schema), (value) => {
          const expected = firstOf(schema, value)
          if (expected === undefined) fitting += 1
          else others += 1
          if (fits(schema, value) !== Check(schema, value)) throw new TypeError('one has it fit')
          const misfit = firstMisfit(schema, value)
          if (JSON.stringify(misfit) !== JSON.stringify(expected))
            throw new TypeError(`${JSON.stringify(misfit)} is not ${JSON.stringify(expected)}`)
        }),
        { numRuns: 200 },
      ),
    )
    t.true(fitting > 40 && others > 20, `${fitting} fitted and ${others} did not`)
  })
}

test('a bound that would not be held is refused where it is written', (t) => {
  t.throws(() => Type.String({ format: 'uuid' }), { instanceOf: TypeError })
  t.throws(() => Type.Integer({ exclusiveMinimum: 1 }), { instanceOf: TypeError })
  t.throws(() => Type.Array(Type.Null(), { uniqueItems: true }), { instanceOf: TypeError })
  t.throws(() => Type.Object({}, { minProperties: 1 }), { instanceOf: TypeError })
  t.throws(() => Type.Object({}, { additionalProperties: Type.Null() }), { instanceOf: TypeError })
})

test('closed, no object has a member that its schema does not name, at any depth', (t) => {
  const schema = Type.Object({ inner: Type.Array(Type.Object({ a: Type.Number() })) })
  t.is(firstMisfit(schema, { inner: [{ a: 1, b: 2 }] }), undefined)
  t.is(firstMisfit(schema, { inner: [{ a: 1 }] }, { closed: true }), undefined)
  t.is(firstMisfit(schema, { inner: [{ a: 1, b: 2 }] }, { closed: true })?.place, '/inner/0/b')
  const either = Type.Union([Type.Object({ a: Type.Number() }), Type.Object({ b: Type.Unknown() })])
  t.is(firstMisfit(either, { b: { anything: 1 } }, { closed: true }), undefined)
  t.truthy(firstMisfit(either, { b: 1, c: 1 }, { closed: true }))
  t.truthy(firstMisfit(either, { a: 1, b: 1 }, { closed: true }))
})
