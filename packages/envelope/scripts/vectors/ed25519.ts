import { hash } from 'node:crypto'
import {
  add,
  BASE,
  challengeOf,
  decodeNumber,
  decodePoint,
  encodeNumber,
  encodePoint,
  encodings,
  equal,
  IDENTITY,
  modOrder,
  multiply,
  ORDER,
  type Point,
  scalarOf,
  torsion,
} from './edwards.ts'

/** One signature on one message under one public key, all in hex, and whether libsodium's rule takes it. */
export type SignatureVector = {
  readonly name: string
  readonly description: string
  readonly publicKey: string
  readonly message: string
  readonly signature: string
  readonly accept: boolean
}

const SEED = hash('sha256', 'lenserfight vectors: edge cases', 'buffer')
const SCALAR = scalarOf(SEED)
const KEY = multiply(BASE, SCALAR)
const MESSAGE = hash('sha256', 'lenserfight vectors: message', 'buffer')
const SMALL = torsion()

/**
 * Signatures on which implementations of RFC 8032 disagree. Every one but the few marked `exact` is made so that some
 * verifier in use takes it. What is expected follows from the rule: S below the group order, the public key canonical
 * and not of small order, R not of small order, and [S]B = R + [k]A exactly, without multiplying by the cofactor.
 */
export function signatureVectors(): SignatureVector[] {
  return [...forgeries(), ...smallCommitments(), ...largeResponses(), ...mixedOrder(), ...brokenKeys()]
}

/** Public keys of small order, canonical or not: nobody's, and anybody can sign for them. */
function forgeries(): SignatureVector[] {
  return SMALL.flatMap((point, index) =>
    encodings(point).map((publicKey, encoding) => {
      const { message, signature } = forge(publicKey, point)
      return vector({
        name: `small-order-key-${index}-${encoding}`,
        description: `A signature that anybody can make: the public key is ${nameOf(index, encoding)}.`,
        publicKey,
        message,
        signature,
        accept: false,
      })
    }),
  )
}

/** Looks for a message that satisfies the equation for a key of small order; one in eight does. */
function forge(publicKey: Uint8Array, point: Point): { message: Uint8Array; signature: Uint8Array } {
  const response = 5n
  const r = encodePoint(multiply(BASE, response))
  for (let attempt = 0; ; attempt++) {
    const message = hash('sha256', `lenserfight vectors: forged ${attempt}`, 'buffer')
    if (equal(multiply(point, challengeOf(r, publicKey, message)), IDENTITY)) {
      return { message, signature: Buffer.concat([r, encodeNumber(response)]) }
    }
  }
}

/** R of small order: made by the holder of the key, so that one signature fits several readings. */
function smallCommitments(): SignatureVector[] {
  return SMALL.flatMap((point, index) =>
    encodings(point).map((r, encoding) => {
      const publicKey = encodePoint(KEY)
      const response = modOrder(challengeOf(r, publicKey, MESSAGE) * SCALAR)
      const signature = Buffer.concat([r, encodeNumber(response)])
      return vector({
        name: `small-order-r-${index}-${encoding}`,
        description: `R is ${nameOf(index, encoding)}; with the identity the equation holds exactly.`,
        publicKey,
        message: MESSAGE,
        signature,
        accept: false,
      })
    }),
  )
}

/** S is only good below the group order (RFC 8032 §5.1.7); else each signature has others beside it. */
function largeResponses(): SignatureVector[] {
  const publicKey = encodePoint(KEY)
  const honest = sign(KEY, IDENTITY)
  const s = decodeNumber(honest.subarray(32))
  const withS = (value: bigint): Uint8Array => Buffer.concat([honest.subarray(0, 32), encodeNumber(value)])
  const common = { publicKey, message: MESSAGE }
  return [
    vector({ ...common, name: 'exact', description: 'An honest signature.', signature: honest, accept: true }),
    ...[1n, 2n, 7n, 15n].map((times) =>
      vector({
        ...common,
        name: `s-plus-${times}-orders`,
        description: `S of an honest signature plus ${times} times the group order.`,
        signature: withS(s + times * ORDER),
        accept: false,
      }),
    ),
    vector({
      ...common,
      name: 's-is-order',
      description: 'S is the group order.',
      signature: withS(ORDER),
      accept: false,
    }),
    vector({
      ...common,
      name: 'zero',
      description: 'R and S are zero bytes.',
      signature: Buffer.alloc(64),
      accept: false,
    }),
    vector({
      ...common,
      name: 's-negated',
      description: 'S is negated modulo the group order.',
      signature: withS(ORDER - s),
      accept: false,
    }),
  ]
}

/** Public keys and R with a part of small order: verifiers with and without the cofactor part ways here. */
function mixedOrder(): SignatureVector[] {
  return SMALL.flatMap((inR, i) =>
    SMALL.slice(0, 4).map((inKey, j) => {
      const key = add(KEY, inKey)
      const publicKey = encodePoint(key)
      const signature = sign(key, inR)
      return vector({
        name: `mixed-order-r${i}-a${j}`,
        description: `R has the part ${i} of the eight of small order, the public key the part ${j}; with the cofactor all verify.`,
        publicKey,
        message: MESSAGE,
        signature,
        accept: holds(publicKey, MESSAGE, signature),
      })
    }),
  )
}

/** Public keys that are no points, or spelt otherwise than RFC 8032 §5.1.2 does. */
function brokenKeys(): SignatureVector[] {
  const honest = sign(KEY, IDENTITY)
  const offCurve = Array.from({ length: 32 }, (_, y) => encodeNumber(BigInt(y + 2))).find(
    (k) => decodePoint(k) === null,
  )
  const beyond = Array.from({ length: 17 }, (_, i) => encodeNumber(2n ** 255n - 17n + BigInt(i)))
  const common = { message: MESSAGE, signature: honest, accept: false }
  return [
    vector({
      ...common,
      name: 'key-off-curve',
      description: 'The public key is no point of the curve.',
      publicKey: offCurve ?? Buffer.alloc(32),
    }),
    vector({
      ...common,
      name: 'key-ones',
      description: 'The public key is all ones.',
      publicKey: Buffer.alloc(32, 255),
    }),
    ...beyond.map((publicKey, i) =>
      vector({
        ...common,
        name: `key-beyond-field-${i + 2}`,
        description: `The public key's y is p + ${i + 2}: not canonical, and perhaps not on the curve.`,
        publicKey,
      }),
    ),
  ]
}

/**
 * The bare equation [S]B = R + [k]A, asked without any of the rules: what the laxest verifier takes.
 *
 * @param cofactor 8 for verifiers that multiply it out
 */
export function holds(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array, cofactor = 1n): boolean {
  const key = decodePoint(publicKey)
  const r = decodePoint(signature.subarray(0, 32))
  if (key === null || r === null) return false
  const right = add(r, multiply(key, challengeOf(signature.subarray(0, 32), publicKey, message)))
  const left = multiply(BASE, decodeNumber(signature.subarray(32)))
  return equal(multiply(left, cofactor), multiply(right, cofactor))
}

/** Signs with the secret scalar, R carrying an added point. Deterministic: the nonce is fixed. */
function sign(key: Point, inR: Point): Uint8Array {
  const nonce = modOrder(decodeNumber(hash('sha256', 'lenserfight vectors: nonce', 'buffer')))
  const r = encodePoint(add(multiply(BASE, nonce), inR))
  const k = challengeOf(r, encodePoint(key), MESSAGE)
  return Buffer.concat([r, encodeNumber(modOrder(nonce + k * SCALAR))])
}

function nameOf(index: number, encoding: number): string {
  return `multiple ${index} of a point of order eight, ${encoding === 0 ? 'canonical' : 'in another encoding'}`
}

function vector(v: {
  name: string
  description: string
  publicKey: Uint8Array
  message: Uint8Array
  signature: Uint8Array
  accept: boolean
}): SignatureVector {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  return { ...v, publicKey: hex(v.publicKey), message: hex(v.message), signature: hex(v.signature) }
}
