import { randomUUID } from 'node:crypto'
import { createLogger } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { openStore } from '../store.ts'
import { add as addAs, newFile } from './_sending.ts'
import { createOutbox } from './outbox.ts'
import type { Outbox, OutboxOptions } from './types.ts'

// An outbox that is never connected; `outbox.int.test.ts` has what is sent and what comes back.
const kid = '00000000-0000-4000-8000-00000000000a'
const logger = createLogger({ service: 'test', level: 'silent' as never })
const create = (more: Partial<OutboxOptions> = {}): Outbox =>
  createOutbox({ store: openStore(newFile()), logger, ...more })
const add = (outbox: Outbox): string => addAs(outbox, kid)

test('an outbox that is full says so and keeps what it has', (t) => {
  const outbox = create({ capacity: 2 })
  add(outbox)
  add(outbox)
  t.throws(() => add(outbox), { code: 'outbox_full' })
  t.is(outbox.status().open, 2)
})

test('an outbox that a tool log fills still takes the attestations of what ran, and not without end', (t) => {
  const outbox = create({ capacity: 2 })
  for (const seq of [1, 2]) outbox.enqueue({ kid, kind: 'tool_invocation', body: { run_id: 'run', seq } })
  t.throws(() => outbox.enqueue({ kid, kind: 'tool_invocation', body: { run_id: 'run', seq: 3 } }), {
    code: 'outbox_full',
  })
  const attest = () => outbox.enqueue({ kid, kind: 'attestation', body: { run_id: 'run' } })
  for (let kept = 0; kept < limits.openRuns; kept += 1) t.notThrows(attest)
  t.throws(attest, { code: 'outbox_full' })
})

test('a daemon that runs for months forgets what ended long ago', (t) => {
  const day = 24 * 3600 * 1000
  let later = 0
  const outbox = create({ now: () => Date.now() + later })
  const opId = add(outbox)
  outbox.failAll('device_revoked', 'x')
  later = 6 * day
  add(outbox)
  t.is(outbox.find(opId)?.state, 'failed')
  later = 8 * day
  add(outbox)
  t.is(outbox.find(opId), undefined)
})

test('a body that its kind refuses is not kept', (t) => {
  const outbox = create({
    check: () => {
      throw new RangeError('refused')
    },
  })
  t.throws(() => add(outbox), { instanceOf: RangeError })
  t.is(outbox.status().open, 0)
})

test('the same operation is kept once', (t) => {
  const outbox = create()
  const opId = add(outbox)
  t.is(outbox.enqueue({ kid, kind: 'run_start', opId, body: {} }).opId, opId)
  t.is(outbox.status().open, 1)
})

test('who waits is told the end, or how it stands when time is up or nobody listens', async (t) => {
  const outbox = create()
  const opId = add(outbox)
  t.is((await outbox.wait(opId, 20))?.outcome, null)
  t.is((await outbox.wait(opId, 60_000, AbortSignal.timeout(20)))?.outcome, null)
  const waiting = outbox.wait(opId, 600_000)
  t.is(outbox.failAll('device_revoked', 'x', kid), 0, 'but for this device’s')
  t.is(outbox.failAll('device_revoked', 'x'), 1)
  t.is((await waiting)?.outcome?.code, 'device_revoked')
  t.is((await outbox.wait(opId, 60_000))?.state, 'failed')
  t.is(await outbox.wait('00000000-0000-7000-8000-000000000000', 1), undefined)
})

test('one that was never sent can be taken back, and nothing is left of it that nobody wants any more', (t) => {
  const outbox = create()
  const [withdrawn, abandoned] = [add(outbox), add(outbox)]
  t.true(outbox.withdraw(withdrawn))
  outbox.abandon(abandoned)
  t.deepEqual([outbox.find(withdrawn), outbox.find(abandoned)], [undefined, undefined])
})

test('one that was sent and that nobody wants counts against the bound until it ends; what ended is not touched', (t) => {
  const outbox = create({ capacity: 2 })
  const sent: string[] = []
  const send = (): void =>
    outbox.attach({
      kinds: ['run_start'],
      sign: (body) => ({ digest: randomUUID(), bytes: Buffer.from((body as { op_id: string }).op_id) }),
      publish: (_kind, bytes) => void sent.push(bytes.toString()),
    })
  const ended = add(outbox)
  outbox.failAll('device_revoked', 'x')
  outbox.abandon(ended)
  t.like(outbox.find(ended), { state: 'failed', isUnwanted: false })
  const unwanted = add(outbox)
  send()
  outbox.detach()
  outbox.abandon(unwanted)
  add(outbox)
  t.throws(() => add(outbox), { code: 'outbox_full' })
  t.like(outbox.find(unwanted), { isUnwanted: true, outcome: null })
  t.like(outbox.status(), { open: 2, unwanted: 1 })
  t.deepEqual(sent, [unwanted])
})
