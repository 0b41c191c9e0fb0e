import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createSigner,
  encodeBase64Url,
  encodeKey,
  envelopeDigest,
  generateKeyPair,
  type KeyPair,
  kidOfKey,
  readEnvelope,
  signEnvelope,
} from '@lenserfight/envelope'
import {
  type AnswerBody,
  askSubject,
  CodedError,
  type KeyUse,
  outSubject,
  type ReceiptItem,
} from '@lenserfight/schemas'
import test from 'ava'
import { createSettings } from '../settings.ts'
import { openStore } from '../store.ts'
import { createGatewayClient, resultOf } from './client.ts'
import type { Link } from './link.ts'
import { createTrust, type TrustOptions } from './trust.ts'

const gateway_id = '00000000-0000-4000-8000-00000000000a'
const lenser = '00000000-0000-4000-8000-00000000000b'
const kid = '00000000-0000-4000-8000-00000000000c'
const root = generateKeyPair()
const device = generateKeyPair()
const descriptor = { url: 'nats://127.0.0.1:9', gateway_id, root_key: encodeKey(root.publicKey) }
const seconds = (): number => Math.floor(Date.now() / 1000)

const sign = (pair: KeyPair, body: object): Uint8Array =>
  signEnvelope({ kid: kidOfKey(pair.publicKey), key: pair.privateKey, body }).bytes

const listOf = (number: number, keys: readonly (readonly [KeyPair, KeyUse[]])[], by = root): string => {
  const entries = keys.map(([{ publicKey }, uses]) => ({
    ...{ kid: kidOfKey(publicKey), public_key: encodeKey(publicKey), service: 'registrar', uses },
    ...{ not_before: seconds() - 60, not_after: seconds() + 60 },
  }))
  return Buffer.from(
    sign(by, { kind: 'keys', aud: gateway_id, number, issued_at: seconds(), keys: entries }),
  ).toString()
}

/** A link to nobody: what is said is kept, and what is heard the test says. */
const createLink = () => {
  const said: { subject: string; bytes: Uint8Array }[] = []
  let hear: (subject: string, bytes: Uint8Array) => void = () => {}
  const link: Link = {
    isConnected: () => true,
    publish: (subject, bytes) => said.push({ subject, bytes }),
    onMessage: (listener) => {
      hear = listener
    },
    onEvent: () => {},
    reconnect: async () => {},
    close: async () => {},
  }
  return { link, said, hear: (subject: string, bytes: Uint8Array) => hear(subject, bytes) }
}

const registrar = generateKeyPair()
const create = (keys: string | undefined = listOf(1, [[registrar, ['answer', 'receipt']]])) => {
  const taken: string[] = []
  const items: ReceiptItem[] = []
  let untrusted = 0
  let counted = 0
  const line = createLink()
  const onKeys: TrustOptions['onKeys'] = (choose) => {
    const text = choose(taken.at(-1) ?? keys)
    if (text !== undefined) taken.push(text)
  }
  const trust = createTrust({ descriptor, keys, onKeys })
  const client = createGatewayClient({
    ...{
      link: line.link,
      trust,
      counter: { next: () => ++counted, reserve: () => {} },
      lenser,
      signer: createSigner({ kid, key: device.privateKey }),
    },
    onReceipt: (more) => items.push(...more),
    onUntrusted: () => {
      untrusted += 1
    },
  })
  const answer = (members: Partial<AnswerBody>, { by = registrar, to = kid, index = -1 } = {}): void => {
    const digest = encodeBase64Url(envelopeDigest(line.said.at(index)?.bytes as Uint8Array))
    const body = { kind: 'answer', aud: gateway_id, to, time: seconds(), digest, ok: true, ...members }
    line.hear(outSubject(lenser, kid, 'answer'), sign(by, body))
  }
  return { ...line, client, trust, taken, items, untrusted: () => untrusted, answer }
}

const later = (act: () => void): void => void setTimeout(act, 20)
/** Acts once so much was said. */
const onceSaid = (said: readonly unknown[], count: number, act: () => void): void => {
  const timer = setInterval(() => {
    if (said.length < count) return
    clearInterval(timer)
    act()
  }, 10)
}
const soon = { deadlineMs: 400 }

test('an answer is believed only from a key of the gateway, for that use, to this key', async (t) => {
  const receiptKey = generateKeyPair()
  const keys = listOf(1, [
    [registrar, ['answer']],
    [receiptKey, ['receipt']],
  ])
  const liars: Parameters<ReturnType<typeof create>['answer']>[1][] = [
    { by: generateKeyPair() },
    { by: receiptKey },
    { by: device },
    { to: '00000000-0000-4000-8000-00000000000d' },
  ]
  for (const liar of liars) {
    const { client, answer, untrusted } = create(keys)
    later(() => answer({ result: { lie: true } }, liar))
    await t.throwsAsync(client.ask('status', {}, soon), { code: 'answer_timeout' })
    t.is(untrusted(), 1)
  }
  const { client, answer } = create(keys)
  later(() => answer({ result: { truth: true } }))
  t.deepEqual(resultOf(await client.ask('status', {}, soon)), { truth: true })
})

test('an answer to something else, or heard elsewhere, is no answer', async (t) => {
  const { client, hear, said, answer } = create()
  later(() => {
    answer({ digest: 'A'.repeat(43) } as never)
    hear(outSubject(lenser, kid, 'change'), said.at(-1)?.bytes as Uint8Array)
    hear('ltg.v1.ctl.global', new Uint8Array([1, 2, 3]))
  })
  await t.throwsAsync(client.ask('status', {}, soon), { code: 'answer_timeout' })
})

test('a receipt is believed only from a key for receipts', (t) => {
  const answerer = generateKeyPair()
  const { hear, items, untrusted } = create(
    listOf(1, [
      [registrar, ['receipt']],
      [answerer, ['answer']],
    ]),
  )
  const item = { digest: 'A'.repeat(43), ok: true }
  const receipt = (by: KeyPair): Uint8Array =>
    sign(by, { kind: 'receipt', aud: gateway_id, to: kid, time: seconds(), items: [item] })
  hear(outSubject(lenser, kid, 'receipt'), receipt(answerer))
  t.deepEqual([items.length, untrusted()], [0, 1])
  hear(outSubject(lenser, kid, 'receipt'), receipt(registrar))
  t.deepEqual(items, [item])
})

test('a request goes to its own subject, signed, for this gateway', async (t) => {
  const { client, said, answer } = create()
  later(() => answer({}))
  await client.ask('status', { keys_number: 1 }, soon)
  t.is(said[0]?.subject, askSubject({ lenser, kid, kind: 'status' }))
  const read = readEnvelope(said[0]?.bytes as Uint8Array)
  t.deepEqual(read.ok && read.envelope.body, { kind: 'status', aud: gateway_id, keys_number: 1 })
})

test('what a new signature may cure is signed anew, with the same operation', async (t) => {
  const { client, said, answer } = create()
  later(() => answer({ ok: false, code: 'nonce_replay' }))
  onceSaid(said, 2, () => answer({ result: { n: 2 } }))
  t.deepEqual(resultOf(await client.ask('approve', { op_id: 'x' }, { deadlineMs: 30_000 })), { n: 2 })
  t.is(said.length, 2)
  const [first, second] = said.map(({ bytes }) => {
    const read = readEnvelope(bytes)
    return read.ok ? read.envelope : undefined
  })
  t.not(first?.nonce, second?.nonce)
  t.deepEqual(first?.body, second?.body)
})

test('what no new signature cures is told after a few', async (t) => {
  const { client, said, answer } = create()
  const timer = setInterval(() => answer({ ok: false, code: 'iat_window' }), 50)
  t.is((await client.ask('status', {}, { deadlineMs: 10_000 })).code, 'iat_window')
  clearInterval(timer)
  t.is(said.length, 4)
})

test('an answer to an earlier try counts', async (t) => {
  const { client, said, answer } = create()
  onceSaid(said, 2, () => answer({ result: { n: 1 } }, { index: 0 }))
  t.deepEqual(resultOf(await client.ask('status', {}, { deadlineMs: 30_000 })), { n: 1 })
  t.is(said.length, 2)
})

test('a refusal that a person must end is told at once', async (t) => {
  const { client, said, answer } = create()
  later(() => answer({ ok: false, code: 'awaiting_device_challenge', detail: 'x' }))
  const refusal = await client.ask('approve', {}, { deadlineMs: 5_000 })
  t.throws(() => resultOf(refusal), { code: 'awaiting_device_challenge' })
  t.is(said.length, 1)
})

test('one that passes by itself is told when there is no time left to wait', async (t) => {
  const { client, answer } = create()
  later(() => answer({ ok: false, code: 'unavailable', retry_after: 2 }))
  t.is((await client.ask('approve', {}, { deadlineMs: 1_000 })).code, 'unavailable')
})

test('the first answer brings the keys that it is checked with, by the root’s word alone', async (t) => {
  const keys = listOf(3, [[registrar, ['answer']]])
  const honest = create('not a list')
  later(() => honest.answer({ result: { keys } }))
  t.true((await honest.client.ask('login', {}, soon)).ok)
  t.deepEqual([honest.trust.keysNumber(), honest.taken.length], [3, 1])

  const forged = create('not a list')
  const liar = generateKeyPair()
  later(() => forged.answer({ result: { keys: listOf(3, [[liar, ['answer']]], liar) } }, { by: liar }))
  await t.throwsAsync(forged.client.ask('login', {}, soon), { code: 'answer_timeout' })
  t.is(forged.trust.keysNumber(), 0)
})

test('a newer key list replaces an older one, and never the other way', (t) => {
  const other = generateKeyPair()
  const { trust, hear, taken } = create()
  const older = listOf(1, [[other, ['answer']]])
  const newer = listOf(2, [[other, ['answer']]])
  const foreign = sign(root, { kind: 'keys', aud: lenser, number: 9, issued_at: 1, keys: [] })
  for (const text of [older, Buffer.from(foreign).toString(), '', '{}']) t.false(trust.offerKeys(text))
  hear('ltg.v1.ctl.keys', Buffer.from(newer))
  t.deepEqual([trust.keysNumber(), taken], [2, [newer]])
  t.false(trust.offerKeys(older))
  const item = {
    kind: 'receipt',
    aud: gateway_id,
    to: kid,
    time: seconds(),
    items: [{ digest: 'A'.repeat(43), ok: true }],
  }
  t.throws(() => trust.open('receipt', sign(registrar, item), kid), { code: 'signer_untrusted' })
})

test('a newer key list that another process kept meanwhile is not replaced by an older one', (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'lf-keys-')), 'state.db')
  const open = () => {
    const store = openStore(file)
    t.teardown(store.close)
    const settings = createSettings(store)
    const onKeys: TrustOptions['onKeys'] = (choose) => settings.update('keys', choose)
    return { settings, trust: createTrust({ descriptor, keys: settings.get('keys'), onKeys }) }
  }
  const [daemon, commandLine] = [open(), open()]
  const [second, third] = [2, 3].map((number) => listOf(number, [[registrar, ['answer']]])) as [string, string]
  t.true(daemon.trust.offerKeys(third))
  t.false(commandLine.trust.offerKeys(second))
  t.is(commandLine.trust.keysNumber(), 3)
  t.is(daemon.settings.get('keys'), third)
})

test('a newer key list that a full disk does not take counts at once, and is kept as soon as the disk takes it', (t) => {
  let isFull = true
  let kept: string | undefined = listOf(1, [[generateKeyPair(), ['receipt']]])
  const onKeys: TrustOptions['onKeys'] = (choose) => {
    const text = choose(kept)
    if (text === undefined) return
    if (isFull) throw new CodedError('state_unwritable')
    kept = text
  }
  const trust = createTrust({ descriptor, keys: kept, onKeys })
  const newer = listOf(2, [[registrar, ['receipt']]])
  t.throws(() => trust.offerKeys(newer), { code: 'state_unwritable' })
  const receipt = sign(registrar, {
    kind: 'receipt',
    aud: gateway_id,
    to: kid,
    time: seconds(),
    items: [{ digest: 'A'.repeat(43), ok: true }],
  })
  const open = () => trust.open('receipt', receipt, kid).service
  t.is(open(), 'registrar', 'nobody is kept from what the gateway says')
  t.not(kept, newer)
  isFull = false
  t.is(open(), 'registrar')
  t.is(kept, newer)
})

test('a failure of the gateway’s is told with its incident id', (t) => {
  const incident_id = '00000000-0000-4000-8000-00000000000e'
  const answer = { kind: 'answer', aud: incident_id, to: incident_id, time: 1, digest: 'x', ok: false } as const
  const failed = t.throws(() => resultOf({ ...answer, code: 'internal_error', incident_id }), {
    code: 'internal_error',
  })
  t.true(failed?.message.endsWith(`(incident ${incident_id})`))
  const told = t.throws(() => resultOf({ ...answer, code: 'internal_error', detail: 'x', incident_id }))
  t.regex(told?.message ?? '', /x/)
})
