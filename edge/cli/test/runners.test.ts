import test from 'ava'
import { wordOf } from '../src/output.ts'
import { meantBy } from '../src/owner/find.ts'
import { type Runner, runnersOf } from '../src/owner/runners.ts'
import { boundLine, rowOf, unboundLines } from '../src/runners/describe.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const id = (digit: string): string => `019d3c5e-77a1-7000-8000-${digit.repeat(12)}`
const bound = {
  ...{ runner_id: id('a'), name: 'nightly', created_at: 1, last_heartbeat_at: now / 1000 - 30, open_runs: 2 },
  ...{ binding_id: id('b'), bound_at: 2, device_id: id('c'), device_name: 'build', device_trust_level: 'trusted' },
}
const unbound = {
  ...bound,
  ...{ runner_id: id('d'), name: 'idle', last_heartbeat_at: null, open_runs: 0, binding_id: null, bound_at: null },
  ...{ device_id: null, device_name: null, device_trust_level: null },
}
const only = (runner: object): Runner => runnersOf({ runners: [runner] }).runners[0] as Runner

test('a runner is told with its device, that one’s level, its last heartbeat and its open runs', (t) => {
  t.deepEqual(rowOf(only(bound), now), ['nightly', id('a'), 'build', 'trusted', '30 s ago', '2'])
  t.deepEqual(rowOf(only(unbound), now), ['idle', id('d'), 'not bound', '', 'never', '0'])
})

test('what is not bound says how to bind, and what is bound to a device that may run nothing says so', (t) => {
  t.deepEqual(unboundLines([only(bound)]), [])
  t.regex(unboundLines([only(unbound)])[0] ?? '', /^idle runs nowhere: `lf gateway runners bind idle`/)
  for (const level of ['revoked', 'blocked', 'unhealthy']) {
    const [line] = unboundLines([only({ ...bound, device_trust_level: level })])
    t.regex(line ?? '', new RegExp(`^nightly starts nothing: build is ${level}\\. .*--device`))
  }
})

test('binding says what it changed: new, as before, or moved, and from where', (t) => {
  const told = (result: object): string =>
    boundLine({ name: 'nightly', runner_id: id('a'), where: 'build (b)' }, { ...result })
  const none = { former_device_id: null, former_device_name: null }
  t.is(told({ change: 'bound', ...none }), `Runner nightly (${id('a')}) runs on build (b) from now on.`)
  t.is(told({ change: 'unchanged', ...none }), `Runner nightly (${id('a')}) runs on build (b), as before.`)
  const moved = told({ change: 'moved', former_device_id: id('c'), former_device_name: 'old\u001b[2J' })
  t.true(moved.includes(`runs on build (b) from now on, and no longer on old\ufffd[2J (${id('c')}).`), moved)
})

test('a name is one word of the command that people copy, whatever is in it', (t) => {
  t.is(wordOf('nightly-2'), 'nightly-2')
  t.is(wordOf('a b; rm -rf $HOME'), `'a b; rm -rf $HOME'`)
  t.is(wordOf("it's"), `'it'\\''s'`)
  t.is(wordOf('\u001b[2J'), `'\ufffd[2J'`)
  t.is(wordOf('--all'), `'--all'`)
})

test('what is no list of runners is not shown as one', (t) => {
  for (const wrong of [{}, { runners: {} }, { runners: [{ ...bound, runner_id: 'x' }] }, { runners: [{}] }]) {
    t.throws(() => runnersOf(wrong), { code: 'internal_error' })
  }
  t.deepEqual(runnersOf({ runners: [], more: true }), { runners: [], more: true })
})

test('an id is meant before a name, and a short beginning means nothing', (t) => {
  const all = [
    { id: id('a'), name: id('b') },
    { id: id('b'), name: 'x' },
    { id: id('c'), name: '019d3c5e' },
  ]
  const meant = (given: string) =>
    meantBy(all, given, { idOf: (each) => each.id, nameOf: ({ name }) => name }).map((each) => each.id)
  t.deepEqual(meant(id('b')), [id('b')])
  t.deepEqual(meant('x'), [id('b')])
  t.deepEqual(meant('019d3c5'), [])
  t.deepEqual(meant('019d3c5e'), [id('c'), id('a'), id('b')], 'its name, and what three ids begin with')
  t.deepEqual(meant(id('c').slice(0, 30)), [id('c')])
})
