import test from 'ava'
import fc from 'fast-check'
import {
  DEVICE_SEED,
  GATEWAY,
  KID,
  LENSER,
  OTHER_KID,
  OTHER_LENSER,
  OTHER_SEED,
  signText,
  template,
} from '../scripts/vectors/envelope.ts'
import {
  checkEnvelope,
  checkForm,
  checkSigner,
  type Expectations,
  envelopeCodes,
  publicKeyOf,
  signatureBytes,
  signingDigest,
  verifyEnvelope,
  verifySignature,
} from '../src/index.ts'
import { always } from './_property.ts'

/** Each fault with the code that it ends in, in the protocol's order. */
const faults = [
  'malformed_envelope',
  'not_canonical',
  'unsupported_version',
  'unsupported_algorithm',
  'kid_mismatch',
  'kind_mismatch',
  'audience_mismatch',
  'unsupported_kind',
  'malformed_body',
  'unknown_device',
  'kid_mismatch of accounts',
  'signature_mismatch',
] as const
type Fault = (typeof faults)[number]

const publicKey = publicKeyOf(DEVICE_SEED)
const codeOf = (fault: Fault): string => (fault === 'kid_mismatch of accounts' ? 'kid_mismatch' : fault)

/** An envelope and a door, with exactly these faults. */
function build(has: (fault: Fault) => boolean): { wire: Uint8Array; expected: Expectations } {
  const body = {
    aud: has('audience_mismatch') ? OTHER_KID : GATEWAY,
    kind: has('kind_mismatch') ? 'attestation' : 'heartbeat',
  }
  const text = template({
    body: JSON.stringify(body),
    kid: JSON.stringify(has('kid_mismatch') ? OTHER_KID : KID),
    v: has('unsupported_version') ? '2' : '1',
    alg: has('unsupported_algorithm') ? '"none"' : '"ed25519"',
  })
  const signed = signText(text, has('signature_mismatch') ? OTHER_SEED : DEVICE_SEED)
  const spaced = has('not_canonical') ? ` ${signed}` : signed
  const record = { lenserId: has('kid_mismatch of accounts') ? OTHER_LENSER : LENSER, publicKey }
  return {
    wire: Buffer.from(has('malformed_envelope') ? spaced.slice(0, -1) : spaced),
    expected: {
      kid: KID,
      kind: 'heartbeat',
      gatewayId: GATEWAY,
      lenserId: LENSER,
      isSupported: () => !has('unsupported_kind'),
      checkBody: () => (has('malformed_body') ? '/kind is not to our liking' : null),
      signerOf: (kid) => (has('unknown_device') ? undefined : { kid, ...record }),
    },
  }
}

test('an envelope without a fault passes, and the message is what was received', (t) => {
  const { wire, expected } = build(() => false)
  const result = checkEnvelope(wire, expected)
  t.true(result.ok)
  if (!result.ok) return
  t.is(result.message.bytes, wire)
  t.is(result.message.text, Buffer.from(wire).toString())
  t.is(result.message.kind, 'heartbeat')
  t.is(result.message.envelope.kid, KID)
})

test('each fault alone ends in its own code', (t) => {
  for (const fault of faults) {
    const { wire, expected } = build((other) => other === fault)
    const result = checkEnvelope(wire, expected)
    t.is(result.ok ? null : result.code, codeOf(fault) as never, fault)
  }
  t.deepEqual([...new Set(faults.map(codeOf))], [...envelopeCodes])
})

test('of several faults, the first in the protocol’s order is the code', (t) => {
  always(
    t,
    fc.property(fc.subarray([...faults], { minLength: 1 }), (present) => {
      const { wire, expected } = build((fault) => present.includes(fault))
      const result = checkEnvelope(wire, expected)
      t.is(result.ok ? null : result.code, codeOf(present[0] as Fault) as never)
    }),
    { numRuns: 500 },
  )
})

test('verifyEnvelope asks its five questions in the same order', (t) => {
  const asked = [
    'malformed_envelope',
    'not_canonical',
    'unsupported_version',
    'unsupported_algorithm',
    'signature_mismatch',
  ]
  for (let first = 0; first < asked.length; first++) {
    const { wire } = build((fault) => asked.indexOf(fault) >= first)
    t.throws(() => verifyEnvelope(wire, publicKey), { code: asked[first] })
  }
})

test('no question after the first failure is asked: the body of a foreign envelope is not looked at', (t) => {
  const { wire, expected } = build((fault) => fault === 'audience_mismatch')
  const never = (): never => t.fail('asked') as never
  const result = checkEnvelope(wire, { ...expected, isSupported: never, checkBody: never, signerOf: never })
  t.false(result.ok)
})

test('a refusal names who it was from once that can be read, and not before', (t) => {
  for (const fault of faults) {
    const { wire, expected } = build((other) => other === fault)
    const result = checkEnvelope(wire, expected)
    if (result.ok) return t.fail(fault)
    const readable = fault !== 'malformed_envelope' && fault !== 'not_canonical'
    t.is(result.kid, readable ? (fault === 'kid_mismatch' ? OTHER_KID : KID) : undefined, fault)
    t.is(result.envelope?.kid, result.kid, fault)
  }
})

test('a door whose subject names nobody does not ask whom the envelope names', (t) => {
  const { wire, expected } = build((fault) => fault === 'kid_mismatch' || fault === 'kid_mismatch of accounts')
  t.true(checkEnvelope(wire, { ...expected, kid: null, lenserId: null }).ok)
  t.false(checkEnvelope(wire, { ...expected, kid: null }).ok)
  t.false(checkEnvelope(wire, { ...expected, lenserId: null }).ok)
})

test('a record of another kid is never used, and a signer without an account has none', (t) => {
  const { wire, expected } = build(() => false)
  const form = checkForm(wire, expected)
  if (!form.ok) return t.fail()
  const { message } = form
  t.is(checkSigner(message, { kid: KID, lenserId: LENSER, publicKey }, LENSER), null)
  t.is(checkSigner(message, { kid: OTHER_KID, lenserId: LENSER, publicKey }, LENSER)?.code, 'kid_mismatch')
  t.is(checkSigner(message, { kid: KID, lenserId: null, publicKey }, LENSER)?.code, 'kid_mismatch')
  t.is(checkSigner(message, { kid: KID, lenserId: null, publicKey }, null), null)
})

test('EA-2: the signature can be verified elsewhere, from the digest and the signature’s bytes', (t) => {
  const form = (seed: Uint8Array) => checkForm(Buffer.from(signText(textOf(), seed)), build(() => false).expected)
  const textOf = (): string => template({ body: `{"aud":"${GATEWAY}","kind":"heartbeat"}` })
  for (const [seed, good] of [
    [DEVICE_SEED, true],
    [OTHER_SEED, false],
  ] as const) {
    const result = form(seed)
    if (!result.ok) return t.fail()
    const { bytes, envelope } = result.message
    t.is(verifySignature(publicKey, signingDigest(bytes), signatureBytes(envelope)), good)
  }
})
