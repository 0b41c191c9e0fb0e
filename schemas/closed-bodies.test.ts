import test from 'ava'
import { checkPath, kindNames, kinds, pushableClasses } from './src/index.ts'
import type { TSchema } from './typebox/index.mjs'
import { Errors } from './typebox/index.mjs'

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Where a schema takes an object with members that it does not name. */
function* openObjects(schema: unknown, path: string): Generator<string> {
  if (!isObject(schema)) return
  if (schema.type === 'object' && schema.additionalProperties !== false) yield path
  for (const [name, part] of Object.entries(schema)) yield* openObjects(part, `${path}/${name}`)
}

/** What somebody might put beside the members of a body, by mistake or on purpose. */
const provider = { byok_key: 'x', api_key: 'x', openai: 'x', secrets: { anthropic: 'x' }, env: { OPENAI_API_KEY: 'x' } }

/** Objects of the classes that edges write: their paths are judged class by class, as the next test says. */
const judgedByClass = ['sync_push/properties/entries/items/properties/paths']

const fromEdges = kindNames.filter((name) => (kinds[name].signers as readonly string[]).some((by) => by !== 'gateway'))

test('SH-2: nothing that an edge signs has a place for a provider’s key, at any depth', (t) => {
  t.true(fromEdges.length > 15)
  for (const name of fromEdges) {
    const body: TSchema = kinds[name].body
    t.deepEqual(
      [...openObjects(body, name)].filter((place) => !judgedByClass.includes(place)),
      [],
    )
    for (const [member, value] of Object.entries(provider)) {
      const unknown = Errors(body, { [member]: value }).filter(({ keyword }) => keyword === 'additionalProperties')
      t.is(unknown.length, 1, `${name}.${member}`)
    }
  }
})

test('SH-2: no class of objects that edges write has a path for a provider’s key', (t) => {
  for (const name of pushableClasses) {
    for (const [member, value] of Object.entries(provider))
      t.not(checkPath(name, member, value), null, `${name} ${member}`)
  }
})
