import { hash } from 'node:crypto'
import { encodeKey } from '../../src/index.ts'
import { decodeNumber, encodeNumber, encodePoint, IDENTITY, ORDER } from './edwards.ts'
import {
  DEVICE_KEY,
  type Door,
  type EnvelopeVector,
  GATEWAY,
  IAT,
  KID,
  LENSER,
  NONCE,
  OTHER_KEY,
  OTHER_KID,
  OTHER_LENSER,
  OTHER_SEED,
  SIG,
  signature,
  signText,
  template,
  vector,
} from './envelope.ts'

/** Envelopes, but not in their one form. The signature is good for the canonical form of what they say. */
export function notCanonicalVectors(): EnvelopeVector[] {
  const body = '{"a":"A/\\u000f","b":[1,0.5,1e-7],"c":"é😀","d":{"10":1,"9":2},"e":0}'
  const good = signText(template({ body }))
  const altered = (name: string, description: string, from: string, to: string): EnvelopeVector => {
    if (!good.includes(from)) throw new Error(`${name}: nothing to alter`)
    return vector(name, description, good.replace(from, to), { code: 'not_canonical' })
  }
  return [
    altered('space-before', 'A space before the envelope.', '{"alg"', ' {"alg"'),
    altered('line-break-after', 'A line break after the envelope.', ',"v":1}', ',"v":1}\n'),
    altered('space-within', 'A space after a colon.', '"v":1', '"v": 1'),
    altered(
      'members-unsorted',
      'Two members out of order.',
      `"iat":${IAT},"kid":"${KID}"`,
      `"kid":"${KID}","iat":${IAT}`,
    ),
    altered(
      'body-unsorted',
      'Two members of the body out of order.',
      '"c":"é😀","d":{"10":1,"9":2}',
      '"d":{"10":1,"9":2},"c":"é😀"',
    ),
    altered(
      'integer-names-by-value',
      'Names that look like integers, sorted by value.',
      '{"10":1,"9":2}',
      '{"9":2,"10":1}',
    ),
    altered('duplicate', 'A member twice with one value.', '"v":1', '"v":1,"v":1'),
    altered(
      'duplicate-first-wins',
      'A member twice: parsers that keep the last see a good envelope.',
      '"alg":',
      '"alg":"none","alg":',
    ),
    altered(
      'duplicate-in-body',
      'A member of the body twice: parsers that keep the first see another body.',
      '"e":0',
      '"e":1,"e":0',
    ),
    altered('duplicate-proto', '__proto__ twice.', '"e":0', '"__proto__":1,"__proto__":1,"e":0'),
    altered('escaped-letter', 'A letter escaped.', '"a":"A', '"a":"\\u0041'),
    altered('escaped-name', 'A letter of a name escaped.', '"a":', '"\\u0061":'),
    altered('escaped-slash', 'A slash escaped.', 'A/', 'A\\/'),
    altered('escape-upper-case', 'An escape in upper case.', '\\u000f', '\\u000F'),
    altered('escape-long', 'A line feed in the long form.', '\\u000f', '\\u000a'),
    altered('escaped-unicode', 'A character beyond ASCII escaped.', 'é', '\\u00e9'),
    altered('escaped-pair', 'A surrogate pair escaped.', '😀', '\\ud83d\\ude00'),
    altered('number-point', 'An integer with a point.', '[1,', '[1.0,'),
    altered('number-exponent', 'An integer in exponent form.', '[1,', '[1e0,'),
    altered('number-trailing-zero', 'A fraction with a zero behind.', '0.5', '0.50'),
    altered('number-upper-exponent', 'An exponent in upper case.', '1e-7', '1E-7'),
    altered('number-plain', 'A small fraction without exponent.', '1e-7', '0.0000001'),
    altered('number-too-precise', 'More digits than a double holds.', '0.5', '0.50000000000000000001'),
    altered('number-underflow', 'A number that reads as zero.', '"e":0', '"e":1e-400'),
    altered('minus-zero', 'Minus zero.', '"e":0', '"e":-0'),
    altered('v-point', 'v is 1.0.', '"v":1}', '"v":1.0}'),
  ]
}

/** Envelopes whose version or algorithm nobody here knows; the signature is good. */
export function unsupportedVectors(): EnvelopeVector[] {
  const version = (v: string): EnvelopeVector =>
    vector(`version-${v}`, `Version ${v}.`, signText(template({ v })), { code: 'unsupported_version' })
  const algorithm = (name: string, alg: string): EnvelopeVector =>
    vector(`algorithm-${name}`, `Algorithm "${alg}".`, signText(template({ alg: JSON.stringify(alg) })), {
      code: 'unsupported_algorithm',
    })
  return [
    ...['0', '2', '-1'].map(version),
    algorithm('none', 'none'),
    algorithm('empty', ''),
    algorithm('case', 'Ed25519'),
    algorithm('ph', 'ed25519ph'),
    algorithm('hmac', 'HS256'),
  ]
}

/** Good envelopes that came to the wrong door. */
export function doorVectors(): EnvelopeVector[] {
  const door: Door = {
    kid: KID,
    kind: 'heartbeat',
    gatewayId: GATEWAY,
    lenserId: LENSER,
    signer: { lenserId: LENSER, publicKey: DEVICE_KEY },
    supportedKinds: ['heartbeat'],
  }
  const wire = (body: object): string => signText(template({ body: JSON.stringify(body) }))
  const heartbeat = wire({ aud: GATEWAY, kind: 'heartbeat' })
  const at = (
    name: string,
    description: string,
    code: string,
    other: Partial<Door>,
    text = heartbeat,
  ): EnvelopeVector => vector(name, description, text, { code, door: { ...door, ...other } })
  return [
    at('kid-of-another', 'The subject names another device.', 'kid_mismatch', { kid: OTHER_KID }),
    at('kind-of-another', 'The subject names another kind.', 'kind_mismatch', { kind: 'attestation' }),
    at('kind-missing', 'The body names no kind.', 'kind_mismatch', {}, wire({ aud: GATEWAY })),
    at('kind-number', 'The kind is a number.', 'kind_mismatch', {}, wire({ aud: GATEWAY, kind: 1 })),
    at('audience-of-another', 'It was signed for another gateway.', 'audience_mismatch', {
      gatewayId: OTHER_KID,
    }),
    at('audience-missing', 'The body names no gateway.', 'audience_mismatch', {}, wire({ kind: 'heartbeat' })),
    at('kind-unsupported', 'Nobody applies that kind.', 'unsupported_kind', { supportedKinds: [] }),
    at('signer-unknown', 'No key is on record for the kid.', 'unknown_device', { signer: null }),
    at('account-of-another', "The subject's account is not the device's.", 'kid_mismatch', { lenserId: OTHER_LENSER }),
    at('key-of-another', 'The key on record is another.', 'signature_mismatch', {
      signer: { lenserId: LENSER, publicKey: OTHER_KEY },
    }),
  ]
}

/** Envelopes of good form whose signature does not verify under the key given. */
export function mismatchVectors(): EnvelopeVector[] {
  const text = template({ body: '{"amount":1}' })
  const good = signText(text)
  const sig = JSON.parse(good).sig as string
  const unsigned = text.replace(`,"sig":"${SIG}"`, '')
  const digest = hash('sha256', unsigned, 'buffer')
  const bytes = Buffer.from(sig, 'base64url')
  const beyond = Buffer.concat([bytes.subarray(0, 32), encodeNumber(decodeNumber(bytes.subarray(32)) + ORDER)])
  const identity = encodePoint(IDENTITY)
  const other = (name: string, description: string, wire: string, publicKey = DEVICE_KEY): EnvelopeVector =>
    vector(name, description, wire, { code: 'signature_mismatch', publicKey })
  const signed = (message: Uint8Array, seed?: Uint8Array): string => text.replace(SIG, signature(message, seed))
  return [
    other('another-key', 'Signed with another key.', signText(text, OTHER_SEED)),
    other('body-altered', 'The body was altered after signing.', good.replace('"amount":1', '"amount":2')),
    other('iat-altered', 'The time was altered after signing.', good.replace(String(IAT), String(IAT + 1))),
    other('kid-altered', 'The key id was altered after signing.', good.replace(KID, OTHER_KID)),
    other('nonce-altered', 'The nonce was altered after signing.', good.replace(NONCE, 'A'.repeat(22))),
    other('zero', 'A signature of zero bytes.', text.replace(SIG, 'A'.repeat(86))),
    other('unhashed', 'The canonical form was signed itself, not its SHA-256.', signed(Buffer.from(unsigned))),
    other('hashed-twice', 'The SHA-256 of the SHA-256 was signed.', signed(hash('sha256', digest, 'buffer'))),
    other('hash-as-hex', 'The hash was signed in hex.', signed(Buffer.from(digest.toString('hex')))),
    other(
      'sig-included',
      'An empty sig was part of what was signed.',
      signed(hash('sha256', text.replace(SIG, ''), 'buffer')),
    ),
    other('body-alone', 'The body alone was signed.', signed(hash('sha256', '{"amount":1}', 'buffer'))),
    other(
      's-beyond-order',
      'S of a good signature plus the group order.',
      text.replace(SIG, beyond.toString('base64url')),
    ),
    other(
      'identity-key',
      'The public key is the identity: lax verifiers take R = identity and S = 0 for any message.',
      text.replace(SIG, Buffer.concat([identity, Buffer.alloc(32)]).toString('base64url')),
      encodeKey(identity),
    ),
  ]
}
