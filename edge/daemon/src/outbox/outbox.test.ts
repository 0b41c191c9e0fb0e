import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLogger } from '@lenserfight/runtime'
import { limits, type ReceiptItem } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { openStore, type Store } from '../store.ts'
import { createOutbox } from './outbox.ts'
import type { Outbox, OutboxOptions, Sender } from './types.ts'

const kid = '00000000-0000-4000-8000-00000000000a'
/** Who applies the kinds that are sent here. */
const applier = 'trust-evaluator'
const logger = createLogger({ service: 'test', level: 'silent' as never })
const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-outbox-')), 'state.db')
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Time that stands still until it is moved; timers fire as it passes them. */
const createClock = () => {
  let time = 1_700_000_000_000
  let timers: { at: number; call: () => void }[] = []
  return {
    now: () => time,
    setTimer: (call: () => void, ms: number) => {
      const timer = { at: time + ms, call }
      timers.push(timer)
      return () => {
        timers = timers.filter((other) => other !== timer)
      }
    },
    /** Sets it back; what waits goes on waiting for as long as it would have. */
    setBack: (ms: number) => {
      time -= ms
      timers = timers.map(({ at, call }) => ({ at: at - ms, call }))
    },
    advance: (ms: number) => {
      const end = time + ms
      for (;;) {
        const [next] = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (next === undefined) break
        timers = timers.filter((other) => other !== next)
        time = Math.max(time, next.at)
        next.call()
      }
      time = end
    },
  }
}

/** A connection whose messages are looked at: signing is numbering, so each attempt has its own digest. */
const createWire = () => {
  const sent: { digest: string; opId: string }[] = []
  const bodies = new Map<Uint8Array, { digest: string; opId: string }>()
  let count = 0
  const sender: Sender = {
    kinds: ['run_start', 'attestation'],
    sign: (body) => {
      count += 1
      const bytes = new Uint8Array([0])
      const digest = `digest-${count}`
      bodies.set(bytes, { digest, opId: (body as { op_id: string }).op_id })
      return { digest, bytes }
    },
    publish: (_kind, bytes) => {
      sent.push(bodies.get(bytes) as { digest: string; opId: string })
    },
  }
  return { sent, sender }
}

const create = (more: Partial<OutboxOptions> & { store?: Store } = {}) => {
  const clock = createClock()
  const store = more.store ?? openStore(newFile())
  const outbox = createOutbox({ store, logger, now: clock.now, setTimer: clock.setTimer, random: () => 0.5, ...more })
  return { clock, store, outbox, ...createWire() }
}
const add = (outbox: Outbox, body = {}) => outbox.enqueue({ kid, kind: 'run_start', body }).opId

test('what is enqueued before there is a connection is sent when there is one, oldest first', async (t) => {
  const { outbox, sender, sent } = create()
  const ids = [add(outbox), add(outbox), add(outbox)]
  await settle()
  t.is(sent.length, 0)
  outbox.attach(sender)
  t.deepEqual(
    sent.map(({ opId }) => opId),
    ids,
  )
})

test('kinds that the device’s state may not send wait', async (t) => {
  const { outbox, sender, sent } = create()
  add(outbox)
  outbox.attach({ ...sender, kinds: ['challenge'] })
  await settle()
  t.is(sent.length, 0)
  outbox.attach(sender)
  t.is(sent.length, 1)
})

test('only a receipt ends an operation; without one it is signed anew and sent again', async (t) => {
  const { outbox, sender, sent, clock } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  clock.advance(9_999)
  t.is(sent.length, 1)
  clock.advance(1)
  t.is(sent.length, 2)
  t.not(sent[0]?.digest, sent[1]?.digest)
  outbox.receive([{ digest: sent[0]?.digest as string, ok: true, result: { n: 1 } }], applier)
  t.deepEqual(outbox.find(opId)?.outcome, { ok: true, result: { n: 1 } })
  clock.advance(3_600_000)
  t.is(sent.length, 2)
})

test('a receipt for a digest that was never sent is ignored', async (t) => {
  const { outbox, sender } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  outbox.receive([{ digest: 'digest-99', ok: true }], applier)
  t.is(outbox.find(opId)?.state, 'sent')
})

test('law 5: no other worker’s key reports as done what its applier never committed', async (t) => {
  const { outbox, sender, sent } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  const digest = sent[0]?.digest as string
  for (const service of ['verifier', 'registrar', 'provisioner', '']) {
    outbox.receive([{ digest, ok: true, result: { verdict: 'allow' } }], service)
    t.is(outbox.find(opId)?.state, 'sent', service)
  }
  outbox.receive([{ digest, ok: false, code: 'policy_denied' }], 'registrar')
  t.is(outbox.find(opId)?.state, 'sent')
  outbox.receive([{ digest, ok: false, code: 'malformed_body' }], 'verifier')
  t.is(outbox.find(opId)?.outcome?.code, 'malformed_body', 'who verifies refuses')
  outbox.receive([{ digest, ok: true, result: { n: 1 } }], applier)
  t.deepEqual(outbox.find(opId)?.outcome, { ok: true, result: { n: 1 } })
})

test('law 2: a clock that is set back by a day holds nothing up for a day', async (t) => {
  const { outbox, sender, sent, clock } = create()
  outbox.attach(sender)
  add(outbox)
  await settle()
  t.is(sent.length, 1)
  clock.setBack(24 * 3600_000)
  clock.advance(120_000)
  t.true(sent.length > 1)
})

test('the window bounds what is in flight, and a silence halves it', async (t) => {
  const { outbox, sender, sent, clock } = create()
  for (let index = 0; index < 600; index += 1) add(outbox)
  outbox.attach(sender)
  t.is(sent.length, limits.inFlight)
  clock.advance(10_000)
  t.is(outbox.status().window, limits.inFlight / 2)
  t.true(outbox.status().in_flight <= limits.inFlight)
  outbox.receive(
    sent.slice(0, 10).map(({ digest }) => ({ digest, ok: true })),
    applier,
  )
  t.is(outbox.status().open, 590)
})

test('an outbox that is full says so and keeps what it has', (t) => {
  const { outbox } = create({ capacity: 2 })
  add(outbox)
  add(outbox)
  t.throws(() => add(outbox), { code: 'outbox_full' })
  t.is(outbox.status().open, 2)
})

test('an outbox that a tool log fills still takes the attestations of what ran, and not without end', (t) => {
  const { outbox } = create({ capacity: 2 })
  for (const seq of [1, 2]) outbox.enqueue({ kid, kind: 'tool_invocation', body: { run_id: 'run', seq } })
  t.throws(() => outbox.enqueue({ kid, kind: 'tool_invocation', body: { run_id: 'run', seq: 3 } }), {
    code: 'outbox_full',
  })
  const attest = () => outbox.enqueue({ kid, kind: 'attestation', body: { run_id: 'run' } })
  for (let kept = 0; kept < limits.openRuns; kept += 1) t.notThrows(attest)
  t.throws(attest, { code: 'outbox_full' })
})

test('a daemon that runs for months forgets what ended long ago', async (t) => {
  const { outbox, sender, sent, clock } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  outbox.receive([{ digest: sent[0]?.digest as string, ok: true, result: {} }], applier)
  clock.advance(6 * 24 * 3600 * 1000)
  add(outbox)
  t.is(outbox.find(opId)?.state, 'done')
  clock.advance(2 * 24 * 3600 * 1000)
  add(outbox)
  t.is(outbox.find(opId), undefined)
})

test('a body that its kind refuses is not kept', (t) => {
  const { outbox } = create({
    check: () => {
      throw new RangeError('refused')
    },
  })
  t.throws(() => add(outbox), { instanceOf: RangeError })
  t.is(outbox.status().open, 0)
})

test('the same operation is kept once', (t) => {
  const { outbox } = create()
  const opId = add(outbox)
  t.is(outbox.enqueue({ kid, kind: 'run_start', opId, body: {} }).opId, opId)
  t.is(outbox.status().open, 1)
})

test('who waits is told the end, or how it stands when time is up or nobody listens', async (t) => {
  const { outbox, sender, sent } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  t.is((await outbox.wait(opId, 20))?.outcome, null)
  const gone = AbortSignal.timeout(20)
  t.is((await outbox.wait(opId, 60_000, gone))?.outcome, null)
  const waiting = outbox.wait(opId, 60_000)
  outbox.receive([{ digest: sent[0]?.digest as string, ok: false, code: 'unknown_run' }], applier)
  t.is((await waiting)?.outcome?.code, 'unknown_run')
  t.is((await outbox.wait(opId, 60_000))?.state, 'failed')
  t.is(await outbox.wait('00000000-0000-7000-8000-000000000000', 1), undefined)
})

test('one that was never sent can be taken back, one that was sent cannot', async (t) => {
  const { outbox, sender } = create()
  const unsent = add(outbox)
  t.true(outbox.withdraw(unsent))
  t.is(outbox.find(unsent), undefined)
  outbox.attach(sender)
  const sent = add(outbox)
  await settle()
  t.false(outbox.withdraw(sent))
})

test('one that nobody wants any more is not sent again, and a result that still comes counts', async (t) => {
  const { outbox, sender, sent, clock } = create()
  const unsent = add(outbox)
  outbox.abandon(unsent, 'answer_timeout')
  t.is(outbox.find(unsent), undefined)
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  t.is(sent.length, 1)
  outbox.abandon(opId, 'answer_timeout')
  t.is(outbox.find(opId)?.outcome?.code, 'answer_timeout')
  clock.advance(3600 * 1000)
  outbox.detach()
  outbox.attach(sender)
  clock.advance(3600 * 1000)
  t.is(sent.length, 1)
  outbox.receive([{ digest: sent[0]?.digest as string, ok: true, result: { run_id: 'late' } }], applier)
  t.is(outbox.find(opId)?.outcome?.result?.run_id, 'late')
  outbox.abandon(opId, 'answer_timeout')
  t.is(outbox.find(opId)?.state, 'done')
})

test('what is owed in the name of a device that is gone fails, and a result that still comes outranks that', async (t) => {
  const { outbox, sender, sent } = create()
  outbox.attach(sender)
  const opId = add(outbox)
  await settle()
  t.is(outbox.failAll('device_revoked', 'x', kid), 0)
  t.is(outbox.failAll('device_revoked', 'x'), 1)
  t.is(outbox.find(opId)?.outcome?.code, 'device_revoked')
  outbox.receive([{ digest: sent[0]?.digest as string, ok: true }], applier)
  t.is(outbox.find(opId)?.state, 'done')
})

interface Step {
  act: 'enqueue' | 'advance' | 'apply' | 'receive' | 'crash' | 'drop' | 'offline'
  pick: number
  refuse: 'none' | 'unavailable' | 'signature_mismatch' | 'unknown_run'
}

/** What a gateway does: commits an operation once, and gives its result again to whoever sends it again. */
const createGateway = () => {
  const committed = new Map<string, number>()
  let count = 0
  return {
    committed,
    apply: ({ digest, opId }: { digest: string; opId: string }, refuse: Step['refuse']): ReceiptItem => {
      const known = committed.get(opId)
      if (known !== undefined) return { digest, ok: true, result: { number: known } }
      if (refuse !== 'none') return { digest, ok: false, code: refuse }
      count += 1
      committed.set(opId, count)
      return { digest, ok: true, result: { number: count } }
    },
  }
}

const steps = fc.array(
  fc.record<Step>({
    act: fc.constantFrom(
      'enqueue',
      'enqueue',
      'advance',
      'apply',
      'apply',
      'receive',
      'receive',
      'crash',
      'drop',
      'offline',
    ),
    pick: fc.nat({ max: 1_000 }),
    refuse: fc.constantFrom('none', 'none', 'unavailable', 'signature_mismatch', 'unknown_run'),
  }),
  { minLength: 10, maxLength: 80 },
)

test('law 2: whatever is lost, doubled, reordered or refused, and whenever the daemon dies, each operation ends in one result', async (t) => {
  const checked = fc.assert(
    fc.asyncProperty(steps, async (plan) => {
      const file = newFile()
      const clock = createClock()
      const { sent, sender } = createWire()
      const gateway = createGateway()
      const receipts: ReceiptItem[] = []
      const ends = new Map<string, string>()
      const ids: string[] = []
      const start = (): { store: Store; outbox: Outbox } => {
        const store = openStore(file)
        const outbox = createOutbox({ store, logger, now: clock.now, setTimer: clock.setTimer, random: () => 0.5 })
        outbox.attach(sender)
        return { store, outbox }
      }
      const observe = (by: Outbox): void => {
        for (const id of ids) {
          const operation = by.find(id)
          if (operation === undefined) throw new Error('an operation was lost')
          if (operation.state !== 'done') continue
          const end = JSON.stringify(operation.outcome)
          if ((ends.get(id) ?? end) !== end) throw new Error('a result changed')
          ends.set(id, end)
        }
      }
      let { store, outbox } = start()
      for (const { act, pick, refuse } of plan) {
        const message = sent[pick % Math.max(1, sent.length)]
        const receipt = receipts[pick % Math.max(1, receipts.length)]
        if (act === 'enqueue') ids.push(add(outbox))
        if (act === 'advance') clock.advance(pick * 40)
        if (act === 'apply' && message) receipts.push(gateway.apply(message, refuse))
        if (act === 'receive' && receipt) outbox.receive([receipt], applier)
        if (act === 'drop') sent.splice(pick % Math.max(1, sent.length), 1)
        if (act === 'offline') outbox.detach()
        if (act === 'crash') {
          outbox.detach()
          store.close()
          ;({ store, outbox } = start())
        }
        await settle()
        observe(outbox)
      }
      outbox.attach(sender)
      for (let round = 0; round < 40 && outbox.status().open > 0; round += 1) {
        clock.advance(300_000)
        outbox.receive(
          sent.splice(0).map((message) => gateway.apply(message, 'none')),
          applier,
        )
        observe(outbox)
      }
      outbox.receive(receipts, applier)
      for (const id of ids) {
        const operation = outbox.find(id)
        const number = gateway.committed.get(id)
        if (number === undefined) assert.equal(operation?.outcome?.code, 'unknown_run')
        else assert.deepEqual(operation?.outcome, { ok: true, result: { number } })
      }
      outbox.close()
      store.close()
    }),
    { numRuns: 60 },
  )
  // Its message has the seed.
  await t.notThrowsAsync(checked)
})

test('a run’s attestation goes out once each entry of its tool log has a result, and holds up no other run', async (t) => {
  const { outbox, sender, sent } = create()
  const [run, other] = ['run-1', 'run-2']
  const entry = outbox.enqueue({ kid, kind: 'tool_invocation', body: { run_id: run, seq: 1 } }).opId
  const held = outbox.enqueue({ kid, kind: 'attestation', body: { run_id: run } }).opId
  const free = outbox.enqueue({ kid, kind: 'attestation', body: { run_id: other } }).opId
  outbox.attach({ ...sender, kinds: [...sender.kinds, 'tool_invocation'] })
  const sentIds = () => sent.map(({ opId }) => opId)
  t.deepEqual(sentIds(), [entry, free])
  const { digest } = sent[0] as { digest: string }
  outbox.receive([{ digest, ok: true, result: {} }], applier)
  t.deepEqual(sentIds(), [entry, free, held])
})
