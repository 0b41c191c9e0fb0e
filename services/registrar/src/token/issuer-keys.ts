import { readSecret } from '@lenserfight/runtime'
import { CodedError, limits } from '@lenserfight/schemas'
import { type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose'
import { type Issuer, keySetAlgorithms, secretAlgorithms } from './issuer.ts'
import { createKeySet, type KeySetOptions } from './key-set.ts'

/** Checks a token's signature by what its issuer has, and its claims by the options; throws jose's errors. */
export type CheckSignature = (
  token: string,
  options: Omit<JWTVerifyOptions, 'algorithms'>,
) => Promise<{ readonly payload: JWTPayload }>

/**
 * Binds an issuer's algorithms to its keys: what is a secret is never asked of a public key, nor the other way round.
 * @throws CodedError `config_invalid` where its secret cannot be read or is short
 */
export const createSignatureCheck = (issuer: Issuer, keySet?: KeySetOptions): CheckSignature => {
  if ('secret_file' in issuer) {
    const secret = new TextEncoder().encode(readSecret(issuer.secret_file))
    if (secret.byteLength < limits.tokenSecretBytes) {
      throw new CodedError('config_invalid', `${issuer.secret_file} is under ${limits.tokenSecretBytes} bytes`)
    }
    return (token, options) => jwtVerify(token, secret, { ...options, algorithms: [...secretAlgorithms] })
  }
  const keys = createKeySet(new URL(issuer.jwks_url), keySet)
  return (token, options) => jwtVerify(token, keys, { ...options, algorithms: [...keySetAlgorithms] })
}
