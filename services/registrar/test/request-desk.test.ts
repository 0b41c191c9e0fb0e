import { createLogger, InfrastructureError, type Logger } from '@lenserfight/runtime'
import { askSubject, CodedError, inSubject } from '@lenserfight/schemas'
import test from 'ava'
import type { Answered, Request } from '../src/ask/answer-request.ts'
import { refused } from '../src/ask/outcome.ts'
import { createDesk, type Reply } from '../src/ask/request-desk.ts'

const logger = createLogger({ service: 'test', level: 'silent' })
const lenser = '11111111-1111-4111-8111-111111111111'
const kidOf = (n: number): string => `22222222-2222-4222-8222-${n.toString().padStart(12, '0')}`
const subjectOf = (n: number): string => askSubject({ lenser, kid: kidOf(n), kind: 'list' })
const bytes = new Uint8Array([1])
const fine: Answered = { outcome: { ok: true, result: {} }, proven: true }

/** A budget that is never filled again. */
const takes = (left: number) => ({ take: () => left-- > 0 })

interface Over {
  isOpen?: boolean
  budget?: number
  answer?: () => Promise<Answered>
  provenLines?: number
  unprovenLines?: number
  logger?: Logger
}

/** A desk whose answers the test gives by hand. */
const setUp = (over: Over = {}, bounds = { at_once: 2, waiting: 3, per_kid: 2 }) => {
  const sent: { request: Request; reply: Reply }[] = []
  const pending: ((answered: Answered) => void)[] = []
  let suspected = 0
  const desk = createDesk({
    answer: over.answer ?? (() => new Promise<Answered>((resolve) => pending.push(resolve))),
    send: (request, reply) => sent.push({ request, reply }),
    unproven: takes(over.budget ?? 100),
    lines: { proven: takes(over.provenLines ?? 100), unproven: takes(over.unprovenLines ?? 100) },
    gate: { isOpen: () => over.isOpen ?? true, looked: Promise.resolve(), suspect: () => suspected++, stop: () => {} },
    logger: over.logger ?? logger,
    bounds,
  })
  const codes = () => sent.map(({ reply }) => (reply.ok ? 'ok' : reply.code))
  return { desk, sent, pending, codes, suspected: () => suspected }
}

test('requests are worked on in order, so many at once and no more', async (t) => {
  const { desk, pending, codes } = setUp()
  for (const n of [1, 2, 3, 4]) desk.offer(subjectOf(n), bytes)
  t.is(pending.length, 2)
  t.is(desk.figures().waiting, 2)
  pending.shift()?.(fine)
  await new Promise(setImmediate)
  t.is(pending.length, 2)
  while (pending.length > 0) {
    pending.shift()?.(fine)
    await new Promise(setImmediate)
  }
  await desk.idle()
  t.deepEqual(codes(), ['ok', 'ok', 'ok', 'ok'])
})

test('rate_limited: what is over a bound is turned away, and nothing grows', (t) => {
  const { desk, codes } = setUp()
  for (let n = 0; n < 5; n++) desk.offer(subjectOf(n), bytes)
  t.deepEqual(codes(), [])
  for (let n = 5; n < 25; n++) desk.offer(subjectOf(n), bytes)
  t.deepEqual(new Set(codes()), new Set(['rate_limited']))
  t.is(desk.figures().waiting, 3)
})

test('questions that may take long take an eighth of the desk, however many ask them, and the others pass by', async (t) => {
  const { desk, pending, codes } = setUp({}, { at_once: 16, waiting: 64, per_kid: 64 })
  const slow = (n: number) => askSubject({ lenser, kid: kidOf(n), kind: 'audit_verify' })
  for (let i = 0; i < 30; i++) desk.offer(slow(i % 3), bytes)
  t.is(pending.length, 2)
  t.is(desk.figures().waiting, 8)
  t.deepEqual(codes(), Array(20).fill('rate_limited'))
  for (let n = 0; n < 14; n++) desk.offer(subjectOf(n), bytes)
  t.is(pending.length, 16)
  while (pending.length > 0) {
    pending.shift()?.(fine)
    await new Promise(setImmediate)
  }
  await desk.idle()
  t.is(codes().filter((code) => code === 'ok').length, 24, 'all that was taken in is answered')
})

test('rate_limited: one asker does not take the whole desk', async (t) => {
  const { desk, pending, sent, codes } = setUp()
  for (let i = 0; i < 4; i++) desk.offer(subjectOf(1), bytes)
  t.deepEqual(codes(), ['rate_limited', 'rate_limited'])
  desk.offer(subjectOf(2), bytes)
  t.is(codes().length, 2)
  for (let i = 0; i < 3; i++) {
    pending.shift()?.(fine)
    await new Promise(setImmediate)
  }
  desk.offer(subjectOf(1), bytes)
  t.is(sent.filter(({ reply }) => !reply.ok).length, 2, 'its place is free again')
})

test('law 8: answers that nobody proved to have asked for are rate-bounded, proven ones are not', async (t) => {
  const unproven: Answered = { outcome: refused('signature_mismatch'), proven: false }
  const { desk, codes } = setUp({ budget: 2, answer: async () => unproven })
  for (let n = 0; n < 5; n++) desk.offer(subjectOf(n), bytes)
  await desk.idle()
  t.is(codes().length, 2)
  t.is(desk.figures().dropped, 3)
  const proven = setUp({ budget: 0, answer: async () => ({ ...unproven, proven: true }) })
  for (let n = 0; n < 5; n++) proven.desk.offer(subjectOf(n), bytes)
  await proven.desk.idle()
  t.is(proven.codes().length, 5)
})

test('unavailable: while the database is gone everybody is told so, and nothing is tried', async (t) => {
  const { desk, pending, sent } = setUp({ isOpen: false })
  desk.offer(subjectOf(1), bytes)
  await desk.idle()
  t.is(pending.length, 0)
  t.like(sent[0]?.reply, { ok: false, code: 'unavailable', retry_after: 2 })
})

test('unavailable: a failure of infrastructure is told, and the database is asked whether it lives', async (t) => {
  const answer = () => Promise.reject(new InfrastructureError('gone'))
  const { desk, codes, suspected } = setUp({ answer })
  desk.offer(subjectOf(1), bytes)
  await desk.idle()
  t.deepEqual(codes(), ['unavailable'])
  t.is(suspected(), 1)
})

test('internal_error: a request that we fail on gets an incident id, and its neighbours their answers', async (t) => {
  let first = true
  const answer = async (): Promise<Answered> => {
    if (!first) return fine
    first = false
    throw new CodedError('internal_error', 'on purpose')
  }
  const { desk, sent } = setUp({ answer })
  desk.offer(subjectOf(1), bytes)
  desk.offer(subjectOf(2), bytes)
  await desk.idle()
  const [failed] = sent
  t.like(failed?.reply, { ok: false, code: 'internal_error' })
  t.regex(failed?.reply.incident_id ?? '', /^[0-9a-f-]{36}$/)
  t.true(sent[1]?.reply.ok)
})

test('what comes from no ask door is dropped without a word', async (t) => {
  const { desk, sent } = setUp({ answer: async () => fine })
  for (const subject of ['ltg.v1.ask.x.y.list', inSubject({ lenser, kid: kidOf(1), kind: 'list' }), 'ltg.v1.ask', ''])
    desk.offer(subject, bytes)
  await desk.idle()
  t.deepEqual(sent, [])
  t.is(desk.figures().dropped, 4)
})

test('garbage without end is a bounded number of lines, counts the rest and hides nothing that was proven', async (t) => {
  const lines: { proven?: boolean }[] = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) }
  let proven = false
  const { desk } = setUp({
    answer: async () => ({ ...(proven ? fine : { outcome: refused('malformed_envelope') }), proven }),
    logger: createLogger({ service: 'test', level: 'info', destination }),
    ...{ provenLines: 2, unprovenLines: 5 },
  })
  for (let n = 0; n < 50; n++) {
    desk.offer(subjectOf(n), bytes)
    await desk.idle()
  }
  t.is(lines.length, 5)
  t.is(desk.figures().unlogged, 45)
  proven = true
  for (let n = 0; n < 3; n++) {
    desk.offer(subjectOf(n), bytes)
    await desk.idle()
  }
  t.is(lines.filter((line) => line.proven).length, 2)
  t.is(desk.figures().unlogged, 46)
})
