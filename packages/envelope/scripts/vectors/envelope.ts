import { hash } from 'node:crypto'
import { encodeKey, loadSodium, publicKeyOf } from '../../src/index.ts'

/** What the door demands that an envelope came to. Absent where the case is refused before it matters. */
export type Door = {
  readonly kid: string
  readonly kind: string
  readonly gatewayId: string
  readonly lenserId: string
  /** Whether the kid is on record; its account and key are then the ones given. */
  readonly signer: { readonly lenserId: string; readonly publicKey: string } | null
  readonly supportedKinds: readonly string[]
}

/** One envelope and what becomes of it. The wire form is text, or base64 where it is not UTF-8. */
export type EnvelopeVector = {
  readonly name: string
  readonly description: string
  readonly wire?: string
  readonly wireBase64?: string
  /** base64url */
  readonly publicKey: string
  readonly door?: Door
  /** Why it is refused; absent where it is not. */
  readonly code?: string
}

const seedOf = (name: string): Uint8Array => hash('sha256', `lenserfight vectors: ${name}`, 'buffer')
const sodium = await loadSodium('wasm')

/** The device that signs everything here, unless a case says otherwise. Its key is public: never trust it. */
export const DEVICE_SEED = seedOf('device')
export const DEVICE_KEY = encodeKey(publicKeyOf(DEVICE_SEED))
export const OTHER_SEED = seedOf('another device')
export const OTHER_KEY = encodeKey(publicKeyOf(OTHER_SEED))
export const KID = '019e2f6a-5c00-7b1d-9a3e-0c7d51f0a001'
export const OTHER_KID = '019e2f6a-5c00-7b1d-9a3e-0c7d51f0a002'
export const LENSER = '019e2f6a-5c00-7b1d-9a3e-0c7d51f0b001'
export const OTHER_LENSER = '019e2f6a-5c00-7b1d-9a3e-0c7d51f0b002'
export const GATEWAY = '019e2f6a-5c00-7b1d-9a3e-0c7d51f0c001'
export const IAT = 1_780_000_000
export const NONCE = Buffer.from(hash('sha256', 'lenserfight vectors: nonce', 'buffer').subarray(0, 16)).toString(
  'base64url',
)

/** Stands for the signature in a template. */
export const SIG = '$'.repeat(86)

/** The wire form of an envelope with these members, given as JSON text; the rest as usual. Signed by `signText`. */
export function template(members: { [member: string]: string } = {}): string {
  const all: { [member: string]: string } = {
    alg: '"ed25519"',
    body: '{}',
    iat: String(IAT),
    kid: `"${KID}"`,
    nonce: `"${NONCE}"`,
    sig: `"${SIG}"`,
    v: '1',
    ...members,
  }
  const texts = Object.keys(all)
    .sort()
    .filter((name) => all[name] !== '')
    .map((name) => `${JSON.stringify(name)}:${all[name]}`)
  return `{${texts.join(',')}}`
}

/**
 * Signs a template as a careless signer would: whatever its text is, without the signature's member, is what is signed.
 * So what is wrong with an invalid vector is the one thing that its name says, and never the signature beside.
 */
export function signText(text: string, seed: Uint8Array = DEVICE_SEED): string {
  const unsigned = text.replace(`,"sig":"${SIG}"`, '')
  return text.replace(SIG, signature(hash('sha256', unsigned, 'buffer'), seed))
}

/** Ed25519 over these bytes as they are, base64url. */
export function signature(message: Uint8Array, seed: Uint8Array = DEVICE_SEED): string {
  return Buffer.from(sodium.sign(message, sodium.expand(seed).secretKey)).toString('base64url')
}

/** A vector under the usual key; bytes that are not UTF-8 go as base64. */
export function vector(
  name: string,
  description: string,
  wire: string | Uint8Array,
  rest: Partial<EnvelopeVector> = {},
): EnvelopeVector {
  const form = typeof wire === 'string' ? { wire } : { wireBase64: Buffer.from(wire).toString('base64') }
  return { name, description, ...form, publicKey: DEVICE_KEY, ...rest }
}

/** Arrays within the body's one member, so that the whole envelope is that many levels deep. */
export function nested(levels: number): string {
  return `{"deep":${'['.repeat(levels - 2)}${']'.repeat(levels - 2)}}`
}
