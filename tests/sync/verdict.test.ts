import test from 'ava'
import type { Made } from './_history.ts'
import { type Logged, misnumbered, whatComesOf, whatIsKept } from './_oracle.ts'
import { miscounted, misinformed } from './_verdict.ts'

const named = { class: 'workflow_definition', object: 'one' }
const body = 'step/s1/body'
const logged = (device: string, n: number, clock: Logged['clock'], paths: Logged['paths']): Logged => ({
  ...named,
  device,
  actor: `${device}~1`,
  n,
  clock: { ...clock, [`${device}~1`]: n },
  paths: { $life: true, ...paths },
})
const made = (device: string, n: number, more: Partial<Made> = {}): Made => ({
  ...{ n, device, round: 0, condition: 'together', end: 'kept' },
  edit: { ...named, act: 'set', paths: { [body]: n } },
  ...more,
})
const whole = [made('a', 1), made('b', 2)]
const log = [logged('a', 1, {}, { [body]: 1 }), logged('b', 1, { 'a~1': 1 }, { [body]: 2 })]
const [first, second] = log as [Logged, Logged]

test('an edit that is missing, doubled, another machine’s or invented is counted as such', (t) => {
  t.deepEqual(miscounted(whole, log), [])
  t.is(miscounted(whole, [first]).length, 1)
  t.is(miscounted(whole, [...log, { ...second, n: 2 }]).length, 1)
  t.is(miscounted(whole, [first, { ...second, device: 'a' }]).length, 1)
  const killed = [made('a', 1, { end: 'unknown' }), made('b', 2)]
  t.deepEqual(miscounted(killed, log), [])
  t.deepEqual(miscounted(killed, [second]), [])
  t.is(miscounted(killed, [first, first, second]).length, 1)
})

test('an author who leaves a number out, or uses one twice, is named', (t) => {
  t.deepEqual(misnumbered(log), [])
  t.deepEqual(misnumbered([first, { ...second, n: 2 }]), ['workflow_definition one b~1'])
  t.deepEqual(misnumbered([first, first, second]), ['workflow_definition one a~1'])
})

test('a clock that claims what nobody could know, or misses what everybody had, is named', (t) => {
  t.deepEqual(misinformed(whole, log, []), [])
  for (const condition of ['apart', 'deaf'] as const) {
    t.is(misinformed([made('a', 1), made('b', 2, { condition })], log, []).length, 1)
  }
  t.is(misinformed([made('a', 1, { condition: 'apart' }), made('b', 2)], log, []).length, 1)
  const own = [made('a', 1), made('a', 2)]
  t.deepEqual(misinformed(own, [first, logged('a', 2, {}, { [body]: 2 })], []), [])
  t.is(misinformed(own, [first, { ...second, device: 'a', actor: 'a~2', clock: { 'a~2': 1 } }], []).length, 1)
  const later = [made('a', 1), made('b', 2, { round: 1 })]
  const unaware = [first, { ...second, clock: { 'b~1': 1 } }]
  t.deepEqual(misinformed(later, log, [0]), [])
  t.deepEqual(misinformed(later, unaware, []), [])
  t.is(misinformed(later, unaware, [0]).length, 1)
})

test('what edits come to: who has seen another writes over it, and who has not stands beside it', (t) => {
  const known = whatComesOf(log).get('workflow_definition one')
  t.deepEqual(known, { alive: true, paths: { [body]: 2 }, conflicts: {} })
  const beside = [first, { ...second, clock: { 'b~1': 1 } }]
  const parted = whatComesOf(beside).get('workflow_definition one')
  t.deepEqual(parted, { alive: true, paths: { [body]: 1 }, conflicts: { [body]: ['1', '2'] } })
  t.deepEqual(whatIsKept(beside)['workflow_definition one'], {
    clock: { 'a~1': 1, 'b~1': 1 },
    paths: { $life: ['a~1 1 true', 'b~1 1 true'], [body]: ['a~1 1 1', 'b~1 1 2'] },
  })
  const deleted = [...beside, logged('a', 2, {}, { $life: null })]
  t.deepEqual(whatComesOf(deleted).get('workflow_definition one')?.conflicts, {
    $life: ['null', 'true'],
    [body]: ['1', '2'],
  })
})
