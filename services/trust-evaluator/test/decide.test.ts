import { encodeBase64Url, envelopeDigest, generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { encodeVerifiedLine, kinds, kindsOf, okSubject, type ReasonCode } from '@lenserfight/schemas'
import test from 'ava'
import { decide } from '../src/decide.ts'
import { appliedKinds, decode, type Item, isApplied } from '../src/decode.ts'

const gatewayId = '3f1f9d0e-6a44-4d6f-9f0c-52a1d0a6c001'
const keys = generateKeyPair()
const [kid, lenser, stranger] = [newUuidV7(), newUuidV7(), newUuidV7()]
const signerOf = (id: string) => (id === kid ? { kid, lenserId: lenser, publicKey: keys.publicKey } : undefined)
const judge = (item: Item) => decide(item, { gatewayId, signerOf })

const beat = { kind: 'heartbeat', aud: gatewayId, counter: 1, daemon_version: '1', gateway_status: 'connected' }
const seal = (body: object = beat, by = { kid, key: keys.privateKey }): Item => {
  const { bytes, digest } = signEnvelope({ ...by, body })
  const text = Buffer.from(bytes).toString()
  return { kind: 'heartbeat', lenser, kid, digest: encodeBase64Url(digest), stored: '1790000000000000000', text }
}
/** Another text under the digest of its own bytes, as a lying verifier would pass it on. */
const withText = (item: Item, text: string): Item => ({
  ...item,
  text,
  digest: encodeBase64Url(envelopeDigest(Buffer.from(text))),
})

test('EA-2 DH-1: what a device signed for this gateway and kind passes', (t) => {
  t.is(judge(seal()), null)
})

test('EA-2 DH-1: a forged, altered or unsigned envelope fails, whatever a verifier let through', (t) => {
  const other = generateKeyPair()
  const good = seal()
  const zeroes = good.text.replace(/"sig":"[^"]+"/, `"sig":"${'A'.repeat(86)}"`)
  const cases: [string, Item, ReasonCode][] = [
    ['another key', seal(beat, { kid, key: other.privateKey }), 'signature_mismatch'],
    ['an altered body', withText(good, good.text.replace('connected', 'degraded!')), 'signature_mismatch'],
    ['no signature', withText(good, zeroes), 'signature_mismatch'],
    ['another message’s digest', { ...good, digest: seal().digest }, 'signature_mismatch'],
    ['no envelope', withText(good, '{}'), 'malformed_envelope'],
    ['another form', withText(good, good.text.replace('{"alg"', '{ "alg"')), 'not_canonical'],
    ['another device’s envelope', { ...seal(), kid: stranger }, 'kid_mismatch'],
    [
      'a kid that nobody has',
      { ...seal(beat, { kid: stranger, key: keys.privateKey }), kid: stranger },
      'unknown_device',
    ],
    ['another account’s subject', { ...seal(), lenser: stranger }, 'kid_mismatch'],
    ['another kind’s batch', { ...seal(), kind: 'run_start' }, 'kind_mismatch'],
    ['another gateway’s', seal({ ...beat, aud: stranger }), 'audience_mismatch'],
    ['another body', seal({ ...beat, more: 1 }), 'malformed_body'],
  ]
  for (const [title, item, code] of cases) t.is(judge(item), code, title)
})

test('what is applied here is what the contract gives this service', (t) => {
  t.deepEqual(
    kindsOf('in').filter(isApplied),
    kindsOf('in').filter((kind) => kinds[kind].applier === 'trust-evaluator'),
  )
  t.deepEqual(new Set<string>(appliedKinds), new Set(kindsOf('in').filter(isApplied)))
  for (const kind of ['challenge', 'connect', 'login', '__proto__']) t.false(isApplied(kind))
})

test('a message of the verified stream is read line by line, or not at all', (t) => {
  const { kind, ...line } = seal()
  const data = Buffer.from(encodeVerifiedLine(line) + encodeVerifiedLine(line))
  t.deepEqual(decode({ subject: okSubject('heartbeat'), data }), [
    { kind, ...line },
    { kind, ...line },
  ])
  t.throws(() => decode({ subject: okSubject('challenge'), data }), { instanceOf: SyntaxError })
  t.throws(() => decode({ subject: okSubject('heartbeat'), data: data.subarray(0, -1) }), { instanceOf: SyntaxError })
  t.throws(() => decode({ subject: okSubject('heartbeat'), data: Buffer.from([0xff, 0x0a]) }), {
    instanceOf: TypeError,
  })
})
