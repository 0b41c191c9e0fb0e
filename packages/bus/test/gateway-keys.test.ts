import { encodeKey, generateKeyPair, type KeyPair, kidOfKey, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { CodedError, type KeyUse } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { createAnswers, createReceipts, type KeyList, verifyGatewayMessage, verifyKeyList } from '../src/index.ts'

const gatewayId = newUuidV7()
const root = generateKeyPair()
const service = generateKeyPair()
const seconds = Math.floor(Date.now() / 1000)
const descriptor = { gateway_id: gatewayId, root_key: encodeKey(root.publicKey) }
const device = { lenser: newUuidV7(), kid: newUuidV7() }
const digest = 'A'.repeat(43)

const keyOf = (pair: KeyPair, uses: KeyUse[], validity = { not_before: seconds - 10, not_after: seconds + 100 }) => ({
  kid: kidOfKey(pair.publicKey),
  public_key: encodeKey(pair.publicKey),
  service: 'verifier',
  uses,
  ...validity,
})
const signList = (keys: object[], by: KeyPair = root, aud = gatewayId): Uint8Array =>
  signEnvelope({
    kid: kidOfKey(by.publicKey),
    key: by.privateKey,
    body: { kind: 'keys', aud, number: 3, issued_at: seconds, keys },
  }).bytes

const listFor = (uses: KeyUse[], validity?: { not_before: number; not_after: number }): KeyList =>
  verifyKeyList(signList([keyOf(service, uses, validity)]), descriptor)

const untrusted = (t: ExecutionContext, work: () => unknown, title: string): void => {
  t.is(t.throws(work, { instanceOf: CodedError }, title)?.code, 'signer_untrusted', title)
}

/** What a service sends, caught before the bus. */
const voice = (pair: KeyPair = service) => {
  const sent: { subject: string; bytes: Uint8Array }[] = []
  const options = {
    bus: { tell: (subject: string, bytes: Uint8Array | string) => sent.push({ subject, bytes: Buffer.from(bytes) }) },
    gatewayId,
    signer: { kid: kidOfKey(pair.publicKey), key: pair.privateKey },
    now: Date.now,
  }
  return { sent, receipts: createReceipts(options), answers: createAnswers(options) }
}

test('the root’s list is read, with its keys and number', (t) => {
  const list = listFor(['receipt'])
  t.is(list.number, 3)
  t.deepEqual(list.keys.get(kidOfKey(service.publicKey))?.uses, ['receipt'])
})

test('signer_untrusted: a list of another root, gateway or form, or with a kid that is not its key’s', (t) => {
  const good = keyOf(service, ['receipt'])
  const other = generateKeyPair()
  untrusted(t, () => verifyKeyList(signList([good], other), descriptor), 'another root')
  untrusted(t, () => verifyKeyList(signList([good], root, newUuidV7()), descriptor), 'another gateway')
  untrusted(t, () => verifyKeyList(signList([{ ...good, kid: newUuidV7() }]), descriptor), 'another kid')
  untrusted(t, () => verifyKeyList(signList([{ ...good, uses: ['everything'] }]), descriptor), 'an unknown use')
  untrusted(t, () => verifyKeyList('{}', descriptor), 'no envelope')
  const forged = Buffer.from(signList([good]))
    .toString()
    .replace('verifier', 'verifiex')
  untrusted(t, () => verifyKeyList(forged, descriptor), 'altered')
})

test('receipts of one device are one signed message, in order; of several, one each', (t) => {
  const { sent, receipts } = voice()
  const second = { lenser: newUuidV7(), kid: newUuidV7() }
  receipts([
    { ...device, item: { digest, ok: true } },
    { ...second, item: { digest, ok: true } },
    { ...device, item: { digest, ok: false, code: 'nonce_replay' } },
  ])
  t.deepEqual(
    sent.map(({ subject }) => subject),
    [device, second].map(({ lenser, kid }) => `ltg.v1.out.${lenser}.${kid}.receipt`),
  )
  const expected = { kind: 'receipt', use: 'receipt', to: device.kid, now: Date.now() } as const
  const body = verifyGatewayMessage(sent[0]?.bytes as Uint8Array, listFor(['receipt']), expected)
  t.deepEqual(
    body.items.map(({ ok }) => ok),
    [true, false],
  )
})

test('receipts too large for one message are split, and every item arrives', (t) => {
  const { sent, receipts } = voice()
  const result = { text: 'x'.repeat(50_000) }
  receipts(Array.from({ length: 9 }, () => ({ ...device, item: { digest, ok: true, result } })))
  const expected = { kind: 'receipt', use: 'receipt', to: device.kid, now: Date.now() } as const
  const counts = sent.map(({ bytes }) => verifyGatewayMessage(bytes, listFor(['receipt']), expected).items.length)
  t.is(
    counts.reduce((sum, count) => sum + count, 0),
    9,
  )
  t.is(sent.length, 3)
  for (const { bytes } of sent) t.true(bytes.length < 256 * 1024)
})

test('signer_untrusted: a key without the use, out of its time, unknown, or a message to another', (t) => {
  const { sent, answers } = voice()
  answers(device, { digest, ok: true, result: {} })
  const bytes = sent[0]?.bytes as Uint8Array
  t.is(sent[0]?.subject, `ltg.v1.out.${device.lenser}.${device.kid}.answer`)
  const expected = { kind: 'answer', use: 'answer', to: device.kid, now: Date.now() } as const
  t.is(verifyGatewayMessage(bytes, listFor(['answer']), expected).digest, digest)
  untrusted(t, () => verifyGatewayMessage(bytes, listFor(['receipt']), expected), 'not its use')
  untrusted(t, () => verifyGatewayMessage(bytes, listFor(['answer']), { ...expected, to: newUuidV7() }), 'to another')
  const over = listFor(['answer'], { not_before: seconds - 100, not_after: seconds - 50 })
  untrusted(t, () => verifyGatewayMessage(bytes, over, expected), 'over')
  const early = listFor(['answer'], { not_before: seconds + 50, not_after: seconds + 100 })
  untrusted(t, () => verifyGatewayMessage(bytes, early, expected), 'not yet')
  untrusted(t, () => verifyGatewayMessage(bytes, { ...over, keys: new Map() }, expected), 'unknown')
  untrusted(
    t,
    () => verifyGatewayMessage(bytes, listFor(['answer']), { ...expected, kind: 'receipt' } as never),
    'kind',
  )
  const forged = Buffer.from(Buffer.from(bytes).toString().replace('"ok":true', '"ok":false'))
  untrusted(t, () => verifyGatewayMessage(forged, listFor(['answer']), expected), 'altered')
})
