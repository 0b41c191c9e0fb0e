import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { admit, apply, emptyState, type Known, linkOf, stateOf } from '../src/index.ts'
import { a, after, agent, b, chain, must } from './_objects.ts'

const [first, second, third] = chain(agent, a, [{ name: 'A' }, { name: 'B' }, { name: 'C' }]) as [never, never, never]
const none: Known = { clock: {}, paths: {}, link: null }
const afterFirst: Known = { clock: { [a]: 1 }, paths: {}, link: linkOf(first) }
const afterSecond: Known = { clock: { [a]: 2 }, paths: {}, link: linkOf(second), linkAt: linkOf(first) }

test('rule 7: an edit that follows what is known of its actor is admitted', (t) => {
  t.is(admit(none, first, linkOf(first)), 'admitted')
  t.is(admit(afterFirst, second, linkOf(second)), 'admitted')
})

test('rule 7: an edit that is known comes to the same, the newest and one before it', (t) => {
  t.is(admit(afterFirst, first, linkOf(first)), 'duplicate')
  t.is(admit(afterSecond, first, linkOf(first)), 'duplicate')
})

test('rule 7: another edit under a number that is known is a past that is not its own', (t) => {
  const other = must(agent, emptyState, a, { name: 'other' })
  t.is(admit(afterFirst, other, linkOf(other)), 'clock_reused')
  t.is(admit(afterSecond, other, linkOf(other)), 'clock_reused')
  // Its link is archived: nothing tells it from another.
  t.is(admit({ clock: { [a]: 2 }, paths: {}, link: linkOf(second) }, first, linkOf(first)), 'clock_reused')
})

test('rule 7: the next number on another past is one too, which a number alone does not show', (t) => {
  const [, other] = chain(agent, a, [{ name: 'other' }, { name: 'B' }]) as [never, never]
  t.is(admit(afterFirst, other, linkOf(other)), 'clock_reused')
  t.is(admit(none, { ...(first as object), prev: linkOf(second) } as never, 'x'), 'clock_reused')
})

test('rule 7: an edit ahead of one that is missing waits', (t) => {
  t.is(admit(none, second, linkOf(second)), 'out_of_order')
  t.is(admit(afterFirst, third, linkOf(third)), 'out_of_order')
})

test('rule 7: nobody inflates a clock, their own or another’s', (t) => {
  const ahead = must(agent, after(agent, [[b, { name: 'B' }]]), a, { name: 'A' })
  t.is(admit(none, ahead, linkOf(ahead)), 'clock_ahead')
  t.is(admit({ clock: { [b]: 1 }, paths: {}, link: null }, ahead, linkOf(ahead)), 'admitted')
  const far = { ...(first as object), clock: { [a]: 1000 } } as never
  t.is(admit(none, far, linkOf(far)), 'out_of_order')
})

test('rule 7: a number that is on record of an object that is forgotten is not said again of a new one under its name', (t) => {
  t.is(admit({ ...none, linkAt: linkOf(first) }, first, linkOf(first)), 'clock_reused')
  t.is(admit({ ...afterFirst, linkAt: linkOf(third) }, second, linkOf(second)), 'clock_reused')
})

test('rule 7: an edit has seen whatever stands there of its own actor, at any path', (t) => {
  const seen = after(agent, [
    [b, { name: 'B' }],
    [b, { name: 'C' }],
  ])
  const one = { ...must(agent, seen, a, { notes: 'x' }), clock: { [a]: 1, [b]: 2 } }
  const state = apply(seen, one)
  const known: Known = { ...state, link: linkOf(one) }
  const two = { ...must(agent, state, a, { tags: [] }, linkOf(one)), clock: { [a]: 2, [b]: 1 } }
  t.is(admit(known, two, linkOf(two)), 'invalid_object')
  const honest = { ...two, clock: { [a]: 2, [b]: 2 } }
  t.is(admit(known, honest, linkOf(honest)), 'admitted')
  // What another wrote over is nobody's to have seen.
  const over = must(agent, state, b, { notes: 'y' })
  t.is(admit({ ...apply(state, over), link: linkOf(one) }, two, linkOf(two)), 'admitted')
})

test('rule 5: an edit that does not count itself, or does not say whether its object exists, is none', (t) => {
  for (const change of [{ clock: {} }, { clock: { [b]: 1 } }, { paths: { name: 'A' } }, { paths: {} }]) {
    const delta = { ...(first as object), ...change } as never
    t.is(admit({ clock: { [b]: 1 }, paths: {}, link: null }, delta, linkOf(delta)), 'invalid_object')
  }
})

test('rule 6: an edit’s link says all of it, and where it comes in its actor’s row', (t) => {
  const delta = must(agent, emptyState, a, { name: 'A' })
  const links = [
    delta,
    { ...delta, class: 'lens_draft' },
    { ...delta, object: 'other' },
    { ...delta, actor: b },
    { ...delta, clock: { [a]: 2 } },
    { ...delta, paths: { ...delta.paths, name: 'B' } },
    { ...delta, prev: linkOf(delta) },
  ].map(linkOf)
  t.is(new Set(links).size, links.length)
  for (const link of links) t.regex(link, /^[A-Za-z0-9_-]{43}$/)
  t.is(linkOf({ ...delta, paths: { $life: true, name: 'A' } }), linkOf({ ...delta, paths: { name: 'A', $life: true } }))
})

test('rule 8: what is merged again changes nothing', (t) => {
  const state = after(agent, [[a, { name: 'A' }]])
  t.deepEqual(apply(state, must(agent, emptyState, a, { name: 'A' })), state)
  t.deepEqual(apply(emptyState, first), stateOf(first))
})

test('object_too_large: no device fills an object’s clock with incarnations of its own', (t) => {
  const [device] = a.split('~')
  const own = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`${device}~${n + 100}`, 1]))
  const admitted = (actor: string, clock: Record<string, number>) => {
    const delta = must(agent, { clock, paths: {} }, actor, { name: 'x' })
    return admit({ clock, paths: {}, link: null }, delta, linkOf(delta))
  }
  t.is(admitted(a, own(limits.incarnationsPerObject - 1)), 'admitted')
  t.is(admitted(a, own(limits.incarnationsPerObject)), 'object_too_large')
  t.is(admitted(b, own(limits.incarnationsPerObject)), 'admitted', 'another device of the account')
})
