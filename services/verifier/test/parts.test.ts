import { randomBytes } from 'node:crypto'
import { encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
import { decodeVerifiedBatch, inSubject, limits } from '@lenserfight/schemas'
import test from 'ava'
import { assemble } from '../src/assemble.ts'
import { byKey, claimArguments, withDigest } from '../src/commit.ts'
import { decideForm, decideOtherKeys, decideSigners, otherKeys, type Refused } from '../src/decide.ts'
import { createRateBound } from '../src/rate-bound.ts'
import { createSignatureFailures } from '../src/signature-failures.ts'
import { createSignerCache, type DeviceRecord } from '../src/signer-cache.ts'
import { incidentReceipt, receiptsFor } from '../src/tell.ts'
import { type Device, gatewayId, heartbeat, makeDevice, received } from './_envelopes.ts'

const attestation = (device: Device, name: string) => {
  const body = { kind: 'attestation', aud: gatewayId, name }
  const { bytes, text } = device.sign({ body })
  const subject = { lenser: device.lenser, kid: device.kid, kind: 'attestation' }
  return { subject, text, message: received(inSubject(subject), bytes) }
}

/** Candidates as if their bodies had passed. */
const proven = (device: Device, names: readonly string[]) =>
  names.map((name, index) => {
    const { subject, text, message } = attestation(device, name)
    const envelope = JSON.parse(text)
    return withDigest({
      index,
      received: message,
      subject,
      message: { envelope, bytes: message.data, text, kind: 'attestation' },
      signer: device.record,
    })
  })

test('a verified batch is of one kind, sorted by Lenser, in order within one, its envelopes as they came', (t) => {
  const [a, b] = [makeDevice(), makeDevice()].sort((x, y) => (x.lenser < y.lenser ? -1 : 1)) as [Device, Device]
  const { candidates } = decideForm([heartbeat(b), heartbeat(a), heartbeat(b), heartbeat(a)], gatewayId)
  const heartbeats = decideSigners(candidates, (kid) => (kid === a.kid ? a.record : b.record)).signed.map(withDigest)
  const batches = assemble([...heartbeats, ...proven(a, ['é', '日本'])])
  t.deepEqual(
    batches.map(({ subject }) => subject),
    ['ltg.v1.ok.heartbeat', 'ltg.v1.ok.attestation'],
  )
  const items = decodeVerifiedBatch(batches[0]?.text ?? '')
  t.deepEqual(
    items.map(({ text }) => text),
    [1, 3, 0, 2].map((index) => candidates[index]?.message.text),
  )
  t.is(items[0]?.digest, encodeBase64Url(envelopeDigest(candidates[1]?.received.data ?? Buffer.alloc(0))))
  t.is(items[0]?.stored, candidates[1]?.received.stored)
})

test('a verified batch stays under its size, and an envelope larger than that travels alone', (t) => {
  const device = makeDevice()
  const big = 'x'.repeat(200_000)
  const batches = assemble(proven(device, [big, 'small', big, big, 'last']))
  t.deepEqual(
    batches.map(({ text }) => decodeVerifiedBatch(text).length),
    [3, 2],
  )
  for (const { text } of batches) t.true(Buffer.byteLength(text) <= limits.verifiedBatchBytes)
})

test('claim arguments run in step and name each signer once', (t) => {
  const device = makeDevice()
  const batch = proven(device, ['a', 'b'])
  const [signers, keys, stream, kids, nonces, iats, kinds, digests, seqs, stored] = claimArguments(batch)
  t.is(signers, `{${device.kid}}`)
  t.is(keys, `{${Buffer.from(device.publicKey).toString('hex')}}`)
  t.is(stream, 'LTG_INGRESS')
  t.is(kids, `{${device.kid},${device.kid}}`)
  t.is(nonces, `{${batch.map(({ message }) => message.envelope.nonce).join(',')}}`)
  t.is(iats, `{${batch.map(({ message }) => message.envelope.iat).join(',')}}`)
  t.is(kinds, '{attestation,attestation}')
  t.is(
    digests,
    `{${batch.map(({ received: { data } }) => Buffer.from(envelopeDigest(data)).toString('hex')).join(',')}}`,
  )
  t.is(seqs, `{${batch.map(({ received: { seq } }) => seq).join(',')}}`)
  t.is(stored, `{${batch.map((candidate) => candidate.received.stored).join(',')}}`)
})

test('a claim names one key a signer: what a device signs with two keys makes two', (t) => {
  const [device, other] = [makeDevice(), makeDevice()]
  const next = makeDevice(device.kid, device.lenser)
  const batch = [...proven(device, ['a']), ...proven(next, ['b']), ...proven(other, ['c']), ...proven(device, ['d'])]
  const names = (part: typeof batch) => part.map(({ message }) => (message.envelope.body as { name?: string }).name)
  t.deepEqual(byKey(batch).map(names), [['a', 'c', 'd'], ['b']])
  t.deepEqual(byKey(proven(device, ['a', 'b'])).map(names), [['a', 'b']])
  t.deepEqual(byKey([]), [])
})

test('what the key known of a device did not sign is tried with its other keys, and with no key twice', (t) => {
  const device = makeDevice()
  const [next, former] = [makeDevice(device.kid, device.lenser), makeDevice(device.kid, device.lenser)]
  const failed = proven(device, ['a', 'b'])
  const keysOf = (record: DeviceRecord | undefined) =>
    otherKeys(failed.slice(0, 1), () => record).map(({ signer }) => signer.publicKey)
  t.deepEqual(keysOf({ ...device.record, formerKey: former.publicKey }), [former.publicKey])
  t.deepEqual(keysOf({ ...next.record, formerKey: device.publicKey }), [next.publicKey])
  t.deepEqual(keysOf({ ...next.record, formerKey: former.publicKey }), [next.publicKey, former.publicKey])
  t.deepEqual(keysOf(device.record), [])
  t.deepEqual(keysOf(undefined), [])
  const tries = otherKeys(failed, () => ({ ...next.record, formerKey: former.publicKey }))
  const decided = decideOtherKeys(failed, tries, Uint8Array.from([0, 1, 0, 0]))
  t.deepEqual(
    decided.proven.map(({ index, signer }) => [index, signer.publicKey]),
    [[0, former.publicKey]],
  )
  t.deepEqual(
    decided.refused.map(({ index, code, proven: isProven }) => [index, code, isProven]),
    [[1, 'signature_mismatch', false]],
  )
})

test('receipts before a signature was seen are bounded, after it they are not', (t) => {
  const device = makeDevice()
  const refusedAs = (code: Refused['code'], isProven: boolean): Refused => ({
    index: 0,
    received: heartbeat(device),
    subject: { lenser: device.lenser, kid: device.kid, kind: 'heartbeat' },
    code,
    detail: `d${'🧀'.repeat(1000)}`,
    proven: isProven,
  })
  const allow = createRateBound(2, () => 0)
  const receipts = receiptsFor(
    [...Array(5).fill(refusedAs('malformed_envelope', false)), ...Array(5).fill(refusedAs('nonce_replay', true))],
    allow,
  )
  t.deepEqual(
    receipts.map(({ item }) => item.code),
    ['malformed_envelope', 'malformed_envelope', ...Array(5).fill('nonce_replay')],
  )
  t.true(receipts.every(({ item, kid }) => kid === device.kid && (item.detail?.length ?? 0) <= 300))
  t.true(
    receipts.every(({ item }) => item.detail?.isWellFormed()),
    'a character cut in half cannot be signed',
  )
})

test('the rate bound refills with time and holds no more than a second of it', (t) => {
  let now = 0
  const allow = createRateBound(10, () => now)
  const passed = () => Array.from({ length: 50 }, allow).filter(Boolean).length
  t.is(passed(), 10)
  now += 300
  t.is(passed(), 3)
  now += 60_000
  t.is(passed(), 10)
})

test('an incident receipt goes to the names in the subject, and nowhere for a subject without', (t) => {
  const device = makeDevice()
  const incident = '33333333-3333-4333-8333-333333333333'
  const [receipt] = incidentReceipt(heartbeat(device), incident)
  t.like(receipt, { lenser: device.lenser, kid: device.kid, item: { code: 'internal_error', incident_id: incident } })
  t.deepEqual(incidentReceipt(received('ltg.v1.in.x', randomBytes(9)), incident), [])
})

test('the signer cache asks once for what it knows, each time for what nobody has, and holds no more than it may', async (t) => {
  const devices = [makeDevice(), makeDevice(), makeDevice()] as [Device, Device, Device]
  const asked: string[][] = []
  const cache = createSignerCache(async (kids) => {
    asked.push([...kids])
    return devices.map(({ record }) => record).filter(({ kid }) => kids.includes(kid))
  }, 2)
  const [a, b, c] = devices
  const unknown = crypto.randomUUID()
  const first = await cache.find(new Set([a.kid, unknown]))
  t.is(first.get(a.kid)?.publicKey, a.publicKey)
  t.false(first.has(unknown))
  await cache.find(new Set([a.kid, unknown]))
  t.deepEqual(asked, [[a.kid, unknown], [unknown]])

  await cache.find(new Set([b.kid]))
  await cache.find(new Set([a.kid]))
  await cache.find(new Set([c.kid]))
  t.is(cache.size(), 2)
  asked.length = 0
  await cache.find(new Set([a.kid, b.kid]))
  t.deepEqual(asked, [[b.kid]], 'the longest unused went')

  cache.forget([a.kid])
  asked.length = 0
  await cache.find(new Set([a.kid]))
  t.deepEqual(asked, [[a.kid]])
})

test('a batch with more signers than the cache holds still finds them all', async (t) => {
  const devices = Array.from({ length: 5 }, () => makeDevice())
  const cache = createSignerCache(async () => devices.map(({ record }) => record), 2)
  const found = await cache.find(new Set(devices.map(({ kid }) => kid)))
  t.is(found.size, 5)
})

test('signature failures are counted by device, the worst first, for so many devices at most', (t) => {
  const failures = createSignatureFailures()
  for (let i = 0; i < 3; i++) failures.count('worst')
  for (let i = 0; i < 5000; i++) {
    failures.count(`device ${i}`)
    if (i % 100 === 0) failures.count('worst')
  }
  const { total, devices } = failures.summary()
  t.is(total, 5053)
  t.deepEqual(devices[0], { kid: 'worst', failures: 53 })
  t.is(devices.length, 20)
})
