import { limits } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { createPermits } from './permits.ts'
import type { Verdict } from './verdict.ts'

const id = (number: number): string => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
const allow: Verdict = {
  ...{ verdict: 'allow', reason: 'approval_default_allow', deniedTools: [] },
  ...{ coveredUntil: null, approvalExpiresAt: null },
}
const deny: Verdict = { ...allow, verdict: 'deny', reason: 'approval_default_deny' }
const permitMs = limits.permitSeconds * 1000

/** Permits over a clock that is set by hand. */
const create = () => {
  let at = 0
  const start = () => {
    const began = at
    return () => at - began
  }
  return {
    permits: createPermits(start),
    start,
    pass: (ms: number) => {
      at += ms
    },
  }
}

test('PE-2: a verdict holds 60 s from before it was asked for, and not a millisecond longer', (t) => {
  const { permits, start, pass } = create()
  permits.hear(id(1), null)
  const since = start()
  pass(20_000)
  permits.take(id(1), allow, since)
  t.is(permits.look(id(1))?.validMs, permitMs - 20_000, 'the way there and back counts')
  pass(permitMs - 20_001)
  t.is(permits.look(id(1))?.validMs, 1)
  pass(1)
  t.is(permits.look(id(1)), undefined)
})

test('PE-2: whatever is asked, answered and lost in whatever order, nothing is given that is older than 60 s', (t) => {
  const step = fc.record({
    pass: fc.integer({ min: 0, max: 40_000 }),
    do: fc.constantFrom('ask', 'answer first', 'answer last', 'look', 'hear', 'sweep'),
    word: fc.constantFrom(allow, deny),
  })
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { permits, start, pass } = create()
        const asked: (() => number)[] = []
        let newest: (() => number) | undefined
        for (const each of steps) {
          pass(each.pass)
          if (each.do === 'hear') permits.hear(id(1), null)
          if (each.do === 'sweep' && permits.sweep() === 0) newest = undefined
          if (each.do === 'ask') asked.push(start())
          const since = each.do === 'answer first' ? asked.shift() : each.do === 'answer last' ? asked.pop() : undefined
          if (since !== undefined) {
            permits.take(id(1), each.word, since)
            newest = newest === undefined || since() <= newest() ? since : newest
          }
          const held = permits.look(id(1))
          if (held === undefined) continue
          if (newest === undefined || newest() >= permitMs) throw new Error('an old verdict was given')
          if (held.validMs > permitMs - newest()) throw new Error('it is said to hold for longer than it does')
        }
      }),
    ),
  )
})

test('a verdict that was asked for earlier than the one held is no news', (t) => {
  const { permits, start, pass } = create()
  permits.hear(id(1), null)
  const earlier = start()
  pass(1_000)
  const later = start()
  permits.take(id(1), deny, later)
  permits.take(id(1), allow, earlier)
  t.like(permits.look(id(1)), { verdict: 'deny' })
})

test('a run is renewed in time, at once where the answer was lost, and not where nobody was heard for 30 s', (t) => {
  const { permits, start, pass } = create()
  const renewMs = limits.permitRenewSeconds * 1000
  permits.hear(id(1), null)
  t.deepEqual(permits.due(renewMs), [id(1)], 'nothing is known of it')
  permits.take(id(1), allow, start())
  pass(renewMs - 1)
  t.deepEqual(permits.due(renewMs), [])
  pass(1)
  t.deepEqual(permits.due(renewMs), [id(1)])
  permits.asked([id(1)], start())
  pass(4_999)
  t.deepEqual(permits.due(renewMs), [])
  pass(1)
  t.deepEqual(permits.due(renewMs), [id(1)], 'asked, and not answered')
  permits.take(id(1), allow, start())
  permits.asked([id(1)], start())
  pass(renewMs)
  t.deepEqual(permits.due(renewMs), [], 'heard over 30 s ago')
  permits.touch(id(1))
  t.deepEqual(permits.due(renewMs), [id(1)])
})

test('runs are renewed together: with one whose time has come go those whose time comes soon', (t) => {
  const { permits, start, pass } = create()
  for (const [number, gap] of [10_000, 9_999, 0].entries()) {
    permits.hear(id(number), null)
    permits.take(id(number), allow, start())
    pass(gap)
  }
  pass(1)
  t.deepEqual(permits.due(20_000), [id(0), id(1)])
  permits.take(id(0), deny, start())
  t.deepEqual(permits.due(20_000), [], 'who was denied stays so')
})

test('the gateway’s refusal to judge a run is kept as long as a verdict, and no longer asked for', (t) => {
  const { permits, start, pass } = create()
  permits.hear(id(1), null)
  permits.take(id(1), { code: 'run_ended' }, start())
  t.like(permits.look(id(1)), { code: 'run_ended' })
  pass(25_000)
  t.deepEqual(permits.due(20_000), [])
})

test('no more runs are open than may be, those asked for included, and what lapsed unheard makes room', (t) => {
  const { permits, pass } = create()
  for (let number = 0; number < limits.openRuns - 1; number += 1) permits.hear(id(number), null)
  const release = permits.reserve()
  t.throws(() => permits.reserve(), { code: 'run_limit' })
  t.throws(() => permits.hear(id(9_999), null), { code: 'run_limit' })
  t.notThrows(() => permits.hear(id(0), null), 'known already')
  release()
  release()
  permits.hear(id(9_999), null)
  t.throws(() => permits.reserve(), { code: 'run_limit' })
  pass(30_001)
  t.notThrows(() => permits.reserve())
})

test('RH-2: heartbeats report the runners that were active within a minute, each with its open runs', (t) => {
  const { permits, start, pass } = create()
  permits.hearRunner(id(71))
  pass(30_000)
  permits.hear(id(1), id(72))
  permits.take(id(1), allow, start())
  permits.hear(id(2), null)
  t.deepEqual(permits.runners(), [
    { runner_id: id(72), open_runs: 1 },
    { runner_id: id(71), open_runs: 0 },
  ])
  pass(30_001)
  t.deepEqual(permits.runners(), [{ runner_id: id(72), open_runs: 1 }])
  pass(29_999)
  t.deepEqual(permits.runners(), [{ runner_id: id(72), open_runs: 0 }], 'a run that lapsed unheard is open no more')
  for (let number = 100; number < 100 + limits.runnersPerHeartbeat + 5; number += 1) permits.hearRunner(id(number))
  t.is(permits.runners().length, limits.runnersPerHeartbeat)
})
