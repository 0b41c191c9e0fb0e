import {
  canonicalize,
  encodeBase64Url,
  generateKeyPair,
  signatureBytes,
  signingDigest,
  sodium,
  verifySignature,
} from '@lenserfight/envelope'
import { inSubject } from '@lenserfight/schemas'
import test from 'ava'
import { decideClaims, decideForm, decideSignatures, decideSigners, type Received } from '../src/decide.ts'
import { gatewayId, heartbeat, heartbeatBody, makeDevice, received } from './_envelopes.ts'

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
  'iat_window',
] as const
type Fault = (typeof faults)[number]
const codeOf = (fault: Fault): string => (fault === 'kid_mismatch of accounts' ? 'kid_mismatch' : fault)

const device = makeDevice()
const stranger = makeDevice()
const { secretKey } = sodium.expand(device.privateKey)
const { secretKey: otherKey } = sodium.expand(generateKeyPair().privateKey)

interface Case {
  message: Received
  isKnown: boolean
  verdict: string
}

/** A message with exactly these faults. */
const build = (has: (fault: Fault) => boolean): Case => {
  const kind = has('unsupported_kind') ? 'login' : 'heartbeat'
  const body = {
    ...heartbeatBody({
      kind: has('kind_mismatch') ? 'attestation' : kind,
      ...(has('audience_mismatch') ? { aud: stranger.kid } : {}),
    }),
    ...(has('malformed_body') ? { more: 1 } : {}),
  }
  const envelope = {
    alg: has('unsupported_algorithm') ? 'none' : 'ed25519',
    body,
    iat: 1_790_000_000,
    kid: has('kid_mismatch') ? stranger.kid : device.kid,
    nonce: 'AAAAAAAAAAAAAAAAAAAAAA',
    v: has('unsupported_version') ? 2 : 1,
  }
  const unsigned = Buffer.from(canonicalize({ ...envelope, sig: 'A'.repeat(86) }))
  const supported = !has('unsupported_version') && !has('unsupported_algorithm')
  const digest = supported ? signingDigest(unsigned) : Buffer.alloc(32)
  const sig = encodeBase64Url(sodium.sign(digest, has('signature_mismatch') ? otherKey : secretKey))
  let text = canonicalize({ ...envelope, sig })
  if (has('not_canonical')) text = ` ${text}`
  if (has('malformed_envelope')) text = text.replace('"body"', '"Body"')
  const lenser = has('kid_mismatch of accounts') ? stranger.lenser : device.lenser
  return {
    message: received(inSubject({ lenser, kid: device.kid, kind }), Buffer.from(text)),
    isKnown: !has('unknown_device'),
    verdict: has('iat_window') ? 'iat_window' : 'ok',
  }
}

/** The whole decision, with facts in place of services. */
const decide = ({ message, isKnown, verdict }: Case): string => {
  const form = decideForm([message], gatewayId)
  if (form.refused[0]) return form.refused[0].code
  const signers = decideSigners(form.candidates, (kid) => (isKnown && kid === device.kid ? device.record : undefined))
  if (signers.refused[0]) return signers.refused[0].code
  const flags = signers.signed.map(({ message: { bytes, envelope }, signer }) =>
    verifySignature(signer.publicKey, signingDigest(bytes), signatureBytes(envelope)) ? 1 : 0,
  )
  const signatures = decideSignatures(signers.signed, Uint8Array.from(flags))
  if (signatures.refused[0]) return signatures.refused[0].code
  const claims = decideClaims(signatures.proven, [verdict])
  return claims.refused[0]?.code ?? (claims.verified.length === 1 ? 'ok' : 'nothing')
}

test('a message without a fault is verified', (t) => {
  t.is(decide(build(() => false)), 'ok')
})

for (const fault of faults) {
  test(`${fault} alone is refused as ${codeOf(fault)}`, (t) => {
    t.is(decide(build((asked) => asked === fault)), codeOf(fault))
  })
}

test('of two faults the one asked for first is the code, for every pair', (t) => {
  for (const [place, first] of faults.entries()) {
    for (const second of faults.slice(place + 1)) {
      const code = decide(build((asked) => asked === first || asked === second))
      t.is(code, codeOf(first), `${first} and ${second}`)
    }
  }
})

test('every device state and nonce_replay come from the claim as they are, and count as proven', (t) => {
  const message = heartbeat(device)
  const { candidates } = decideForm([message], gatewayId)
  const { signed } = decideSigners(candidates, () => device.record)
  for (const verdict of ['device_pending', 'device_unhealthy', 'device_revoked', 'device_blocked', 'nonce_replay']) {
    const { refused, verified } = decideClaims(signed, [verdict])
    t.deepEqual(verified, [])
    t.like(refused[0], { code: verdict, proven: true })
  }
})

test('what is refused before a signature was seen is not proven', (t) => {
  const { refused } = decideForm([heartbeat(device, { data: Buffer.from('x') })], gatewayId)
  t.like(refused[0], { code: 'malformed_envelope', proven: false })
  const { candidates } = decideForm([heartbeat(device)], gatewayId)
  t.like(decideSigners(candidates, () => undefined).refused[0], { code: 'unknown_device', proven: false })
  const { signed } = decideSigners(candidates, () => device.record)
  t.like(decideSignatures(signed, Uint8Array.of(0)).refused[0], { code: 'signature_mismatch', proven: false })
})

test('a changed key is neither verified nor refused: it is checked again', (t) => {
  const { candidates } = decideForm([heartbeat(device)], gatewayId)
  const { signed } = decideSigners(candidates, () => device.record)
  const { verified, refused, changed } = decideClaims(signed, ['key_changed'])
  t.deepEqual([verified.length, refused.length, changed.length], [0, 0, 1])
})

test('a refusal names the place and the op_id of its own message, whatever stands beside it', (t) => {
  const opId = '01890000-0000-7000-8000-000000000000'
  const { bytes } = device.sign({ body: { kind: 'challenge', aud: stranger.kid, op_id: opId } })
  const subject = inSubject({ lenser: device.lenser, kid: device.kid, kind: 'challenge' })
  const batch = [heartbeat(device), received(subject, bytes), heartbeat(device)]
  const { candidates, refused } = decideForm(batch, gatewayId)
  t.deepEqual(
    candidates.map(({ index }) => index),
    [0, 2],
  )
  t.like(refused[0], { index: 1, code: 'audience_mismatch', opId })
})

test('an op_id that is none is not repeated in a refusal', (t) => {
  const { bytes } = device.sign({ body: heartbeatBody({ op_id: 'x'.repeat(5000) }) })
  const { refused } = decideForm([heartbeat(device, { data: bytes })], gatewayId)
  t.is(refused[0]?.code, 'malformed_body')
  t.false('opId' in (refused[0] ?? {}))
})

test('a subject that names nobody is a stray', (t) => {
  const { bytes } = device.sign({ body: heartbeatBody() })
  const strays = ['ltg.v1.in.a.b.heartbeat', `ltg.v1.in.${device.lenser}.${device.kid}`, 'ltg.v1.in.>', 'x'].map(
    (subject) => received(subject, bytes),
  )
  const decided = decideForm(strays, gatewayId)
  t.deepEqual([decided.candidates.length, decided.refused.length, decided.strays], [0, 0, 4])
})
