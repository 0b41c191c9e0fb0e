import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLogger } from '@lenserfight/runtime'
import type { CodedError, ReasonCode } from '@lenserfight/schemas'
import test from 'ava'
import { createOutbox } from '../outbox/outbox.ts'
import { createPresence } from '../presence.ts'
import { openStore } from '../store.ts'
import { createRunBook } from './book.ts'
import { createRunMethods } from './methods.ts'
import { createRuns } from './runs.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const timing = { resendFloorMs: 50, resendCeilingMs: 100, resignFloorMs: 50 }

/** A daemon that is connected and never answered. */
const create = () => {
  const store = openStore(join(mkdtempSync(join(tmpdir(), 'lf-methods-')), 'state.db'))
  const outbox = createOutbox({ store, logger, timing })
  const sent: string[] = []
  outbox.attach({
    kinds: ['run_start'],
    sign: (body) => ({ digest: `${sent.length}`, bytes: Buffer.from(JSON.stringify(body)) }),
    publish: (_kind, bytes) => sent.push(String(bytes)),
  })
  const presence = createPresence()
  presence.onLink('connected')
  const methods = createRunMethods({
    ...{ outbox, presence, heartbeat: { beatFor: () => {} }, book: createRunBook(store) },
    runs: createRuns({ renewMs: 20_000, logger, onRefused: () => {} }),
    enqueue: (kind, body) => outbox.enqueue({ kid: 'device', kind, body }),
    refusal: (): ReasonCode | undefined => undefined,
    checkState: async () => {},
  })
  return { outbox, sent, permit: methods['run.permit'] }
}

test('a run is asked for as long as somebody waits for it: a permit that comes when all have left takes a place and runs nothing', async (t) => {
  const { outbox, sent, permit } = create()
  const late = (await t.throwsAsync(permit({ run: {}, timeout_ms: 300 }, new AbortController().signal))) as CodedError
  t.is(late.code, 'answer_timeout')
  const leaving = new AbortController()
  const left = permit({ run: {}, timeout_ms: 60_000 }, leaving.signal)
  await sleep(200)
  leaving.abort()
  await t.throwsAsync(left, { code: 'answer_timeout' })
  const before = sent.length
  t.true(before >= 2)
  await sleep(500)
  t.is(sent.length, before)
  t.is(outbox.status().open, 0)
})
