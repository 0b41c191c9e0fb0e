/**
 * The curve of Ed25519 in plain BigInt arithmetic (RFC 8032 §5.1), so that the edge-case vectors come from the
 * definition and not from the library that they test. Slow and not constant-time: for vectors alone.
 */
import { hash } from 'node:crypto'

const P = 2n ** 255n - 19n
/** The order of the base point. */
export const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n
const D = mod(-121665n * inverse(121666n))
const SQRT_MINUS_ONE = power(2n, (P - 1n) / 4n)

export type Point = { readonly x: bigint; readonly y: bigint }

export const IDENTITY: Point = { x: 0n, y: 1n }
export const BASE: Point = must(decodePoint(encodeNumber(mod(4n * inverse(5n)))))

function mod(a: bigint, m: bigint = P): bigint {
  const r = a % m
  return r < 0n ? r + m : r
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (let b = mod(base), e = exponent; e > 0n; e >>= 1n, b = mod(b * b)) if (e & 1n) result = mod(result * b)
  return result
}

function inverse(a: bigint): bigint {
  return power(a, P - 2n)
}

/** RFC 8032 §5.1.4, in affine form. */
export function add(p: Point, q: Point): Point {
  return toAffine(addExtended(toExtended(p), toExtended(q)))
}

export function multiply(point: Point, times: bigint): Point {
  let result = toExtended(IDENTITY)
  for (let p = toExtended(point), n = times; n > 0n; n >>= 1n, p = addExtended(p, p)) {
    if (n & 1n) result = addExtended(result, p)
  }
  return toAffine(result)
}

/** x = X/Z, y = Y/Z, xy = T/Z: no inversion for each addition. */
type Extended = { readonly X: bigint; readonly Y: bigint; readonly Z: bigint; readonly T: bigint }

function toExtended({ x, y }: Point): Extended {
  return { X: x, Y: y, Z: 1n, T: mod(x * y) }
}

function toAffine({ X, Y, Z }: Extended): Point {
  const z = inverse(Z)
  return { x: mod(X * z), y: mod(Y * z) }
}

/** The complete addition law of RFC 8032 §5.1.4: right for doubling and for points of small order too. */
function addExtended(p: Extended, q: Extended): Extended {
  const a = mod((p.Y - p.X) * (q.Y - q.X))
  const b = mod((p.Y + p.X) * (q.Y + q.X))
  const c = mod(2n * p.T * D * q.T)
  const d = mod(2n * p.Z * q.Z)
  const [e, f, g, h] = [b - a, d - c, d + c, b + a]
  return { X: mod(e * f), Y: mod(g * h), Z: mod(f * g), T: mod(e * h) }
}

export function equal(p: Point, q: Point): boolean {
  return p.x === q.x && p.y === q.y
}

/** 32 bytes, little-endian. */
export function encodeNumber(n: bigint): Uint8Array {
  return Buffer.from(n.toString(16).padStart(64, '0'), 'hex').reverse()
}

export function decodeNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
}

/** RFC 8032 §5.1.2. */
export function encodePoint({ x, y }: Point): Uint8Array {
  return encodeNumber(y | ((x & 1n) << 255n))
}

/** RFC 8032 §5.1.3, save that y of p or more and a negative zero x are taken, as lax implementations do. */
export function decodePoint(bytes: Uint8Array): Point | null {
  const n = decodeNumber(bytes)
  const y = mod(n & (2n ** 255n - 1n))
  const square = mod((y * y - 1n) * inverse(D * y * y + 1n))
  let x = power(square, (P + 3n) / 8n)
  if (mod(x * x) !== square) x = mod(x * SQRT_MINUS_ONE)
  if (mod(x * x) !== square) return null
  return { x: (x & 1n) === n >> 255n ? x : mod(-x), y }
}

/** The eight points of small order: multiples of one of order eight. */
export function torsion(): Point[] {
  for (let y = 2n; ; y++) {
    const point = decodePoint(encodeNumber(y))
    const candidate = point === null ? IDENTITY : multiply(point, ORDER)
    if (!equal(multiply(candidate, 4n), IDENTITY)) {
      return Array.from({ length: 8 }, (_, i) => multiply(candidate, BigInt(i)))
    }
  }
}

/** Every encoding of a point: the canonical one, y + p where that fits 255 bits, a set sign where x is zero. */
export function encodings({ x, y }: Point): Uint8Array[] {
  const ys = y + P < 2n ** 255n ? [y, y + P] : [y]
  const signs = x === 0n ? [0n, 1n] : [x & 1n]
  return ys.flatMap((value) => signs.map((sign) => encodeNumber(value | (sign << 255n))))
}

/** The secret scalar of a seed, RFC 8032 §5.1.5. */
export function scalarOf(seed: Uint8Array): bigint {
  const bytes = hash('sha512', seed, 'buffer').subarray(0, 32)
  return (decodeNumber(bytes) & (2n ** 254n - 8n)) | (2n ** 254n)
}

/** k of RFC 8032 §5.1.7: what binds R, the public key and the message together. */
export function challengeOf(r: Uint8Array, publicKey: Uint8Array, message: Uint8Array): bigint {
  return mod(decodeNumber(hash('sha512', Buffer.concat([r, publicKey, message]), 'buffer')), ORDER)
}

/** a modulo the order of the base point. */
export function modOrder(a: bigint): bigint {
  return mod(a, ORDER)
}

function must<T>(value: T | null): T {
  if (value === null) throw new Error('not on the curve')
  return value
}
