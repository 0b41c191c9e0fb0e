import { sodium, verifySignature } from '@lenserfight/envelope'
import { decodePublicNkey, encodePublicNkey } from './nkey.ts'

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const header = encode({ typ: 'JWT', alg: 'ed25519-nkey' })

/** Signs the broker's kind of JWT: claims in, compact form out. */
export interface JwtSigner {
  /** The account NKey that is named as issuer. */
  readonly issuer: string
  readonly sign: (claims: object) => string
}

/** A signer of `ed25519-nkey` JWTs over libsodium. */
export const createJwtSigner = (seed: Uint8Array): JwtSigner => {
  const { publicKey, secretKey } = sodium.expand(seed)
  const issuer = encodePublicNkey(publicKey, 'account')
  return {
    issuer,
    sign: (claims) => {
      const signed = `${header}.${encode({ ...claims, iss: issuer })}`
      const signature = Buffer.from(sodium.sign(Buffer.from(signed), secretKey))
      return `${signed}.${signature.toString('base64url')}`
    },
  }
}

const parse = (part: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** The claims of a JWT that a server signed with the key that it names, or undefined. */
export const readServerJwt = (token: string): Record<string, unknown> | undefined => {
  const [head = '', claims = '', signature = '', ...rest] = token.split('.')
  if (rest.length > 0 || parse(head)?.alg !== 'ed25519-nkey') return undefined
  const read = parse(claims)
  const publicKey = typeof read?.iss === 'string' ? decodePublicNkey(read.iss, 'server') : undefined
  if (read === undefined || publicKey === undefined) return undefined
  const proven = verifySignature(publicKey, Buffer.from(`${head}.${claims}`), Buffer.from(signature, 'base64url'))
  return proven ? read : undefined
}
