import test from 'ava'
import { actorOf, apply, digestOf, edit, emptyState, join, read } from '../src/index.ts'

const a = actorOf('00000000-0000-7000-8000-00000000000a', 1)
const b = actorOf('00000000-0000-7000-8000-00000000000b', 1)
const name = { class: 'agent_config', object: 'reviewer' }

test('mistake 6: two writes to different fields both survive, in whichever order they are merged', (t) => {
  const first = edit(name, emptyState, { actor: a, prev: null }, { paths: { name: 'Reviewer', model: 'small' } })
  t.truthy(first)
  const start = apply(emptyState, first as NonNullable<typeof first>)
  const left = edit(name, start, { actor: a, prev: 'x' }, { paths: { name: 'Reader' } })
  const right = edit(name, start, { actor: b, prev: null }, { paths: { model: 'large' } })
  const [l, r] = [left, right].map((delta) => apply(start, delta as NonNullable<typeof delta>)) as [never, never]
  const merged = join(l, r)
  t.deepEqual(read(name.class, merged).paths, { model: 'large', name: 'Reader' })
  t.is(digestOf(merged), digestOf(join(r, l)))
})
