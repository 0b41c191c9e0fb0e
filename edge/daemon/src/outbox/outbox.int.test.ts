import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { limits, type ReceiptItem } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import {
  asOwner,
  type EnterOptions,
  enter,
  halt,
  keyOf,
  newDevice,
  openLiar,
  readBody,
  until,
} from '../gateway/_gateway.ts'
import { openStore } from '../store.ts'
import { add, createWire, newFile, plainRun, type Sent } from './_sending.ts'
import type { Timing } from './decide.ts'
import { createOutbox } from './outbox.ts'
import type { Outbox, OutboxOptions } from './types.ts'

// The outbox over the daemon's own connection, against the gateway's processes: what they answer, and what they do not.
let stack: Stack
let liar: Awaited<ReturnType<typeof openLiar>>
test.before(async () => {
  stack = await testStack({ replicas: { 'audit-chain': 0 } })
  await stack.whenReady()
  liar = await openLiar(stack, [])
})
test.after.always(async () => {
  await liar?.close()
  await stack?.stop()
})

const logger = createLogger({ service: 'test', level: 'silent' as never })
/** Short, so that what is sent again is so while a test looks on. */
const timing: Timing = { resendFloorMs: 300, resendCeilingMs: 1_500, resignFloorMs: 50 }

/** A device whose outbox gets what the gateway says, and is not connected yet. */
const create = async (t: ExecutionContext, more: Partial<OutboxOptions> = {}, options: EnterOptions = {}) => {
  const device = await newDevice(stack)
  const { client, receivers, items } = await enter(t, stack, device, options)
  const outbox = createOutbox({ store: openStore(newFile()), logger, timing, ...more })
  receivers.push(outbox.receive)
  t.teardown(outbox.close)
  /** A receipt of one of the gateway's services that says this, and that it has come. */
  const say = async (item: ReceiptItem, by: Parameters<typeof keyOf>[1] = 'trust-evaluator'): Promise<void> => {
    const { length } = items
    liar.say(device, 'receipt', { items: [item] }, { by: keyOf(stack, by) })
    await until(() => items.length > length, 'the receipt')
  }
  return { outbox, device, client, items, say, add: () => add(outbox, device.kid), ...createWire(client) }
}
const sentOf = (sent: readonly Sent[], opId: string): Sent[] => sent.filter((each) => each.opId === opId)
/** What the gateway has of the device's runs. */
const runsOf = (kid: string): Promise<{ op_id: string; id: string }[]> =>
  asOwner(stack, async (db) => {
    const { rows } = await db.query('SELECT op_id, id FROM execution.runs WHERE device_id = $1', [kid])
    return rows as { op_id: string; id: string }[]
  })

test.serial(
  'what is enqueued before the device may send its kind is sent when it may, oldest first, each to its result',
  async (t) => {
    const { outbox, sender, sent, ...device } = await create(t)
    const ids = [device.add(), device.add(), device.add()]
    outbox.attach({ ...sender, kinds: ['challenge'] })
    t.is(sent.length, 0)
    outbox.attach(sender)
    t.deepEqual(
      sent.map(({ opId }) => opId),
      ids,
    )
    const ended = await Promise.all(ids.map((id) => outbox.wait(id, 90_000)))
    t.is(new Set(ended.map((operation) => operation?.outcome?.result?.run_id)).size, 3)
  },
)

test.serial('only a receipt ends an operation; without one it is signed anew and sent again', async (t) => {
  const { outbox, sender, sent, say, items, ...device } = await create(t)
  const goOn = halt(t, stack, 'trust-evaluator')
  outbox.attach(sender)
  const opId = device.add()
  await until(() => sent.length === 2, 'another try')
  const [first, second] = sent as [Sent, Sent]
  t.not(first.digest, second.digest)
  const { counter: one, ...body } = readBody(first.bytes)
  const { counter: another, ...same } = readBody(second.bytes)
  t.deepEqual([body, Number(one) < Number(another)], [same, true])
  t.false(outbox.withdraw(opId), 'it was sent')
  await say({ digest: 'A'.repeat(43), ok: true })
  t.is(outbox.find(opId)?.state, 'sent', 'of what was never sent')
  const waiting = outbox.wait(opId, 600_000)
  await say({ digest: first.digest, ok: true, result: { n: 1 } })
  t.deepEqual((await waiting)?.outcome, { ok: true, result: { n: 1 } })
  goOn()
  await until(() => items.some(({ digest, result }) => digest === second.digest && result?.run_id), 'the real result')
  t.deepEqual(outbox.find(opId)?.outcome, { ok: true, result: { n: 1 } }, 'one is all')
})

test.serial('law 5: no other worker’s key reports as done what its applier never committed', async (t) => {
  const { outbox, sender, sent, say, ...device } = await create(t)
  const goOn = halt(t, stack, 'trust-evaluator')
  outbox.attach(sender)
  const opId = device.add()
  await until(() => sent.length > 0, 'the request')
  const digest = sent[0]?.digest as string
  for (const service of ['verifier', 'registrar'] as const) {
    await say({ digest, ok: true, result: { verdict: 'allow' } }, service)
    t.is(outbox.find(opId)?.state, 'sent', service)
  }
  await say({ digest, ok: false, code: 'policy_denied' }, 'registrar')
  t.is(outbox.find(opId)?.state, 'sent')
  await say({ digest, ok: false, code: 'malformed_body' }, 'verifier')
  t.is(outbox.find(opId)?.outcome?.code, 'malformed_body', 'who verifies refuses')
  goOn()
  await until(() => outbox.find(opId)?.state === 'done', 'the result, which outranks that')
  t.is(outbox.find(opId)?.outcome?.result?.verdict, 'allow')
})

test.serial('law 2: a clock that is set back by a day holds nothing up for a day', async (t) => {
  let late = 0
  const { outbox, sender, sent, ...device } = await create(t, { now: () => Date.now() - late })
  const goOn = halt(t, stack, 'trust-evaluator')
  outbox.attach(sender)
  const opId = device.add()
  await until(() => sent.length > 0, 'the request')
  const { length } = sent
  late = 24 * 3600_000
  await until(() => sent.length > length, 'another try')
  goOn()
  await until(() => outbox.find(opId)?.state === 'done', 'its result')
  t.is(outbox.status().open, 0)
})

test.serial(
  'law 2: the window bounds what is in flight, a silence halves it, and nothing of more than fits is lost or done twice',
  async (t) => {
    const { outbox, sender, sent, device, ...more } = await create(t)
    outbox.attach(sender)
    const run_id = (await outbox.wait(more.add(), 90_000))?.outcome?.result?.run_id
    outbox.detach()
    sent.splice(0)
    const entry = { run_id, tool: 'fs/read', arguments_hash: plainRun.command_hash }
    for (let seq = 1; seq <= 600; seq += 1)
      outbox.enqueue({ kid: device.kid, kind: 'tool_invocation', body: { ...entry, seq } })
    const goOn = halt(t, stack, 'verifier')
    outbox.attach(sender)
    t.is(sent.length, limits.inFlight)
    await until(() => outbox.status().window <= limits.inFlight / 2, 'half a window')
    t.true(outbox.status().in_flight <= limits.inFlight)
    goOn()
    await until(() => outbox.status().open === 0, 'all the results')
    t.deepEqual(
      await asOwner(stack, async (db) => {
        const counts = 'count(*)::int AS entries, count(DISTINCT seq)::int AS seqs'
        return (await db.query(`SELECT ${counts} FROM agents.tool_invocations WHERE run_id = $1`, [run_id])).rows[0]
      }),
      { entries: 600, seqs: 600 },
    )
  },
)

test.serial('one that was ended here is not sent again, and a result that still comes counts', async (t) => {
  const { outbox, sender, sent, ...device } = await create(t)
  const goOn = halt(t, stack, 'trust-evaluator')
  outbox.attach(sender)
  const ended = [device.add(), device.add()]
  await until(() => sent.length >= 2, 'the requests')
  t.is(outbox.failAll('device_revoked', 'the device is gone', 'another'), 2)
  t.deepEqual(
    ended.map((id) => outbox.find(id)?.outcome?.code),
    ['device_revoked', 'device_revoked'],
  )
  const still = device.add()
  outbox.detach()
  outbox.attach(sender)
  await until(() => sentOf(sent, still).length >= 3, 'further tries of one that is wanted')
  t.deepEqual(
    ended.map((id) => sentOf(sent, id).length),
    [1, 1],
  )
  goOn()
  const results = [...ended, still].map((id) => () => outbox.find(id)?.outcome?.result?.run_id)
  for (const result of results) await until(() => result() !== undefined, 'a late result')
})

test.serial(
  'law 2: one that nobody wants any more is sent until its result is known, by the next daemon too, after those that are wanted',
  async (t) => {
    const device = await newDevice(stack)
    const { client, receivers, items } = await enter(t, stack, device)
    const { sender, sent } = createWire(client)
    const file = newFile()
    const told: string[] = []
    const start = () => {
      const store = openStore(file)
      const onEnded = ({ opId }: { opId: string }) => void told.push(opId)
      // What is attached to is all due at once.
      const outbox = createOutbox({ store, logger, timing, random: () => 0, onEnded })
      const end = (): void => {
        outbox.close()
        store.close()
      }
      return { outbox, end }
    }
    const first = start()
    const goOn = halt(t, stack, 'trust-evaluator')
    first.outbox.attach(sender)
    const [unwanted, left] = [add(first.outbox, device.kid), add(first.outbox, device.kid)]
    await until(() => sentOf(sent, unwanted).length > 0 && sentOf(sent, left).length > 0, 'the requests')
    first.outbox.abandon(unwanted)
    t.like(first.outbox.find(unwanted), { isUnwanted: true, outcome: null })
    first.end()
    goOn()
    const isAnswered = (id: string) => items.some(({ digest }) => sentOf(sent, id).some((one) => one.digest === digest))
    await until(() => isAnswered(unwanted) && isAnswered(left), 'the receipts, which nobody takes')

    const { outbox, end } = start()
    t.teardown(end)
    receivers.push(outbox.receive)
    const unsent = add(outbox, device.kid)
    outbox.abandonAll('run_start')
    const wanted = add(outbox, device.kid)
    t.deepEqual([outbox.find(unsent), outbox.status().unwanted], [undefined, 2])
    sent.splice(0)
    outbox.attach({ ...sender, kinds: ['run_start'] })
    const order = [wanted, unwanted, left]
    await until(() => order.every((id) => outbox.find(id)?.state === 'done'), 'each result')
    t.deepEqual(
      sent.slice(0, 3).map(({ opId }) => opId),
      order,
    )
    t.deepEqual([...told].sort(), [...order].sort())
    const kept = new Map((await runsOf(device.kid)).map(({ op_id, id }) => [op_id, id]))
    t.is(kept.size, 3, 'one run each')
    for (const id of order) t.is(outbox.find(id)?.outcome?.result?.run_id, kept.get(id))
    outbox.abandon(wanted)
    t.false(outbox.find(wanted)?.isUnwanted, 'its result is known')
    t.like(outbox.status(), { open: 0, unwanted: 0 })
  },
)

test.serial(
  'a run’s attestation goes out once each entry of its tool log has a result, and holds up no other run',
  async (t) => {
    const { outbox, sender, sent, device, ...more } = await create(t)
    outbox.attach(sender)
    const started = await Promise.all([more.add(), more.add()].map((id) => outbox.wait(id, 90_000)))
    const [run, other] = started.map((operation) => String(operation?.outcome?.result?.run_id))
    outbox.detach()
    sent.splice(0)
    const enqueue = (kind: 'tool_invocation' | 'attestation', body: object) =>
      outbox.enqueue({ kid: device.kid, kind, body: { ...body } }).opId
    const at = Date.now()
    const attestation = {
      ...{ ...plainRun, stdin_hash: null, stdout_hash: null, outputs: [], lens_hash: null, workflow_hash: null },
      ...{ started_at: at, ended_at: at, exit_code: 0, signal: null },
    }
    const entry = enqueue('tool_invocation', { run_id: run, seq: 1, tool: 'fs/read', arguments_hash: 'A'.repeat(43) })
    const held = enqueue('attestation', { ...attestation, run_id: run, tool_invocations: 1 })
    const free = enqueue('attestation', { ...attestation, run_id: other, tool_invocations: 0 })
    outbox.attach(sender)
    const order = () => sent.map(({ opId }) => opId)
    t.deepEqual(order(), [entry, free])
    t.true((await outbox.wait(held, 90_000))?.outcome?.ok)
    t.true(order().indexOf(held) > order().lastIndexOf(entry))
    t.true(outbox.find(entry)?.outcome?.ok)
  },
)

interface Step {
  act: 'enqueue' | 'hear' | 'crash' | 'offline' | 'online' | 'pause'
  /** What goes wrong from here on: what is sent is lost, or signed by a wrong clock. */
  wrong: 'none' | 'lost' | 'late'
  pick: number
}
const steps = fc.array(
  fc.record<Step>({
    act: fc.constantFrom('enqueue', 'enqueue', 'hear', 'hear', 'crash', 'offline', 'online', 'pause'),
    wrong: fc.constantFrom('none', 'none', 'lost', 'late'),
    pick: fc.nat({ max: 1_000 }),
  }),
  { minLength: 10, maxLength: 40 },
)

test.serial(
  'law 2: whatever is lost, doubled, reordered or refused, and whenever the daemon dies, each operation ends in one result',
  async (t) => {
    t.timeout(240_000)
    const checked = fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        let wrong: Step['wrong'] = 'none'
        const device = await newDevice(stack)
        const late = 2 * limits.iatWindowSeconds * 1000
        const now = (): number => Date.now() - (wrong === 'late' ? late : 0)
        const { client, receivers } = await enter(t, stack, device, { now })
        const { sender } = createWire(client, () => wrong === 'lost')
        // What was heard is handed over in the plan's order, as often as it says.
        const heard: [ReceiptItem, string][] = []
        receivers.push(
          (more, service) => void heard.push(...more.map((item) => [item, service] as [ReceiptItem, string])),
        )
        const file = newFile()
        const ids = new Map<string, 'run' | 'unknown'>()
        const ends = new Map<string, string>()
        const start = () => {
          const store = openStore(file)
          const outbox = createOutbox({ store, logger, timing })
          outbox.attach(sender)
          return { store, outbox }
        }
        const enqueue = (by: Outbox, pick: number): void => {
          if (pick % 4 > 0) return void ids.set(add(by, device.kid), 'run')
          const body = { run_id: randomUUID(), seq: 1, tool: 'fs/read', arguments_hash: 'A'.repeat(43) }
          const { opId } = by.enqueue({ kid: device.kid, kind: 'tool_invocation', body })
          ids.set(opId, 'unknown')
        }
        const observe = (by: Outbox): void => {
          for (const id of ids.keys()) {
            const operation = by.find(id)
            if (operation === undefined) throw new Error('an operation was lost')
            if (operation.state !== 'done') continue
            const end = JSON.stringify(operation.outcome)
            if ((ends.get(id) ?? end) !== end) throw new Error('a result changed')
            ends.set(id, end)
          }
        }
        let { store, outbox } = start()
        for (const { act, pick, wrong: next } of plan) {
          wrong = next
          const said = heard[pick % Math.max(1, heard.length)]
          if (act === 'enqueue') enqueue(outbox, pick)
          if (act === 'hear' && said) outbox.receive([said[0]], said[1])
          if (act === 'offline') outbox.detach()
          if (act === 'online') outbox.attach(sender)
          if (act === 'pause') await new Promise((resolve) => setTimeout(resolve, pick / 10))
          if (act === 'crash') {
            outbox.detach()
            store.close()
            ;({ store, outbox } = start())
          }
          await new Promise((resolve) => setImmediate(resolve))
          observe(outbox)
        }
        wrong = 'none'
        outbox.attach(sender)
        receivers.push(outbox.receive)
        await until(() => outbox.status().open === 0, 'the end of each')
        for (const [item, service] of heard) outbox.receive([item], service)
        observe(outbox)
        const runs = await runsOf(device.kid)
        const kept = new Map(runs.map(({ op_id, id }) => [op_id, id]))
        for (const [id, kind] of ids) {
          const outcome = outbox.find(id)?.outcome
          if (kind === 'unknown') assert.equal(outcome?.code, 'unknown_run')
          else assert.equal(outcome?.result?.run_id, kept.get(id) ?? 'none')
        }
        assert.equal(runs.length, [...ids.values()].filter((kind) => kind === 'run').length)
        outbox.close()
        store.close()
      }),
      { numRuns: 12 },
    )
    // Its message has the seed.
    await t.notThrowsAsync(checked)
  },
)
