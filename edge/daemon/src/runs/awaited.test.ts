import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLogger } from '@lenserfight/runtime'
import type { PolicyVerdict } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import type { Operation } from '../outbox/operations.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { openStore } from '../store.ts'
import { createAwaited } from './awaited.ts'
import { createRunBook, readPermitted } from './book.ts'
import { createRuns } from './runs.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const run = '00000000-0000-4000-8000-000000000001'
const permitOf = (verdict: PolicyVerdict) => ({ run_id: run, verdict, reason: 'why', denied_tools: [] })
const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-awaited-')), 'state.db')

/** The parts of a daemon that has no connection: what it owes the gateway stays in its outbox. */
const create = (t: ExecutionContext, { file = newFile(), leftMs = 60_000 } = {}) => {
  const store = openStore(file)
  const outbox = createOutbox({ store, logger })
  const book = createRunBook(store)
  const runs = createRuns({ renewMs: 20_000, logger, onRefused: () => {} })
  const awaited = createAwaited({
    ...{ book, runs, logger, leftMs, clockOffsetMs: () => 0 },
    enqueue: (kind, body) => outbox.enqueue({ kid: 'device', kind, body }),
  })
  awaited.start()
  const end = (): void => {
    awaited.close()
    runs.close()
    outbox.close()
  }
  t.teardown(end)
  const withdrawals = (): unknown[] =>
    store
      .all<{ body: string }>(`SELECT body FROM operations WHERE kind = 'run_withdraw'`)
      .map(({ body }) => JSON.parse(body))
  /** A run that awaits a person, as when its permit has come. */
  const permitted = (): void => book.add(readPermitted(permitOf('require_approval')), 0, true)
  const untilWithdrawn = async (): Promise<void> => {
    for (const end = Date.now() + 60_000; withdrawals().length === 0 && Date.now() < end; ) await sleep(5)
    t.like(withdrawals(), [{ kind: 'run_withdraw', run_id: run }])
  }
  return { file, store, outbox, book, runs, awaited, withdrawals, permitted, untilWithdrawn, end }
}

test('the permit that nobody waits for is taken back; one that is waited for, or permits nothing, is not', (t) => {
  const endedWith = (verdict: PolicyVerdict, isExpected: boolean): number => {
    const { outbox, awaited, withdrawals } = create(t)
    const { opId } = outbox.enqueue({ kid: 'device', kind: 'run_start', body: {} })
    const leave = awaited.expect(opId)
    if (!isExpected) leave()
    awaited.ended({ ...(outbox.find(opId) as Operation), outcome: { ok: true, result: permitOf(verdict) } })
    return withdrawals().length
  }
  const verdicts = ['allow', 'require_approval', 'deny', 'pause'] as const
  t.deepEqual(
    verdicts.map((verdict) => endedWith(verdict, false)),
    [1, 1, 0, 0],
  )
  t.deepEqual(
    verdicts.map((verdict) => endedWith(verdict, true)),
    [0, 0, 0, 0],
  )
})

test('taking back is kept with the message that says it, once; whoever waits here is told', async (t) => {
  const { awaited, runs, book, permitted, withdrawals, file, end } = create(t)
  t.throws(() => awaited.withdraw(run), { code: 'unknown_run' })
  permitted()
  runs.hear(run, null)
  const leave = awaited.hold(run)
  const waits = runs.awaitApproval(run, 60_000)
  awaited.withdraw(run)
  t.like(await waits, { verdict: 'deny', reason: 'withdrawn' })
  leave()
  t.like(book.find(run), { isWithdrawn: true, isAwaiting: false })
  t.throws(() => awaited.withdraw(run), { code: 'run_withdrawn' })
  end()
  const next = create(t, { file, leftMs: 10 })
  t.true(next.book.find(run)?.isWithdrawn)
  t.is(next.withdrawals().length, withdrawals().length)
})

test('a run that nobody waits for is taken back by the next daemon too, and not while somebody waits', async (t) => {
  const before = create(t)
  before.permitted()
  before.end()
  const { awaited, withdrawals, untilWithdrawn } = create(t, { file: before.file, leftMs: 20 })
  const leave = awaited.hold(run)
  const other = awaited.hold(run)
  leave()
  await sleep(200)
  t.deepEqual(withdrawals(), [])
  other()
  await untilWithdrawn()
})

test('a run that began, or is attested, is never taken back, whoever leaves it', async (t) => {
  for (const begin of [
    ({ awaited }: ReturnType<typeof create>) => awaited.settle(run),
    ({ book }: ReturnType<typeof create>) => book.end({ run_id: run }, () => {}),
  ]) {
    const daemon = create(t, { leftMs: 20 })
    daemon.permitted()
    const leave = daemon.awaited.hold(run)
    begin(daemon)
    leave()
    t.throws(() => daemon.awaited.withdraw(run), { code: 'approval_not_pending' })
    daemon.end()
    const next = create(t, { file: daemon.file, leftMs: 20 })
    await sleep(100)
    t.deepEqual([...daemon.withdrawals(), ...next.withdrawals()], [])
  }
})

test('of a run that was taken back nothing is attested, and no tool logged', (t) => {
  const { awaited, book, permitted } = create(t)
  permitted()
  awaited.withdraw(run)
  t.throws(() => book.end({ run_id: run }, () => t.fail()), { code: 'run_withdrawn' })
  t.throws(() => book.addTool(run, () => t.fail()), { code: 'run_withdrawn' })
})

test('what the gateway said right before the daemon was killed is not forgotten: the next one takes it back', async (t) => {
  const { outbox, store, file, end } = create(t)
  const { opId } = outbox.enqueue({ kid: 'device', kind: 'run_start', body: {} })
  const outcome = JSON.stringify({ ok: true, result: permitOf('require_approval') })
  store.run(
    `UPDATE operations SET state = 'done', outcome = ?, ended_at = ? WHERE op_id = ?`,
    outcome,
    Date.now(),
    opId,
  )
  end()
  await create(t, { file, leftMs: 20 }).untilWithdrawn()
})
