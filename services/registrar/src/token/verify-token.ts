import { CodedError } from '@lenserfight/schemas'
import { decodeJwt, errors, type JWTPayload, jwtVerify, type RemoteJWKSet } from 'jose'
import { type Issuer, tokenAlgorithms } from './issuer.ts'
import { createKeySet, type KeySetOptions, KeySetUnavailable } from './key-set.ts'

/** What a verified token says, and all that is used of it: `expires_at` in Unix seconds. */
export interface VerifiedToken {
  readonly issuer: string
  readonly subject: string
  readonly expires_at: number
  /** Present where the issuer is the one whose subjects `auth.uid()` says. */
  readonly backs_auth_uid?: true
}

export interface TokenVerifier {
  /**
   * Verifies an owner's token that a session key presents.
   * @param kid the session's key id, which the token's `nonce` must name
   * @throws CodedError `token_invalid`, `token_not_bound`, or `unavailable` where the issuer's keys cannot be had
   */
  readonly verify: (token: string, kid: string) => Promise<VerifiedToken>
}

export interface TokenVerifierOptions {
  readonly issuers: readonly Issuer[]
  readonly keySet?: KeySetOptions
  /** The clock, milliseconds since 1970. */
  readonly now?: () => number
}

/** Seconds by which the issuer's clock and ours may differ. */
const clockToleranceSeconds = 10

interface Known {
  readonly issuer: Issuer
  readonly keys: RemoteJWKSet
}

/** Failures that say nothing of the token. */
const issuerFailures = [KeySetUnavailable, errors.JWKSTimeout, errors.JWKSInvalid] as const

/** A subject that the database can hold: JSON allows U+0000 and lone surrogates, PostgreSQL does not. */
const isSubject = (sub: unknown): sub is string =>
  typeof sub === 'string' && sub !== '' && sub.length <= 512 && sub.isWellFormed() && !sub.includes('\u0000')

/** What of an error may be told: its code. Its message and payload may quote the token. */
const detailOf = (error: unknown): string => (error instanceof errors.JOSEError ? error.code : 'not a token')

const issuerOf = (token: string): string | undefined => {
  try {
    return decodeJwt(token).iss
  } catch {
    // The token is quoted by that error; it goes no further.
    return undefined
  }
}

const checkToken = async (token: string, { issuer, keys }: Known, now: number): Promise<JWTPayload> => {
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: issuer.issuer,
      audience: issuer.audience,
      algorithms: [...tokenAlgorithms],
      clockTolerance: clockToleranceSeconds,
      requiredClaims: ['sub', 'exp'],
      currentDate: new Date(now),
    })
    return payload
  } catch (error) {
    if (issuerFailures.some((failure) => error instanceof failure))
      throw new CodedError('unavailable', "the issuer's keys cannot be had", { cause: error })
    throw new CodedError('token_invalid', detailOf(error))
  }
}

/**
 * A verifier of owners' tokens (OpenID Connect ID tokens, or JWTs like them) by the configured issuers alone.
 * @throws CodedError `config_invalid` where two issuers would say who `auth.uid()` is
 */
export const createTokenVerifier = ({ issuers, keySet, now = Date.now }: TokenVerifierOptions): TokenVerifier => {
  if (issuers.filter(({ backs_auth_uid }) => backs_auth_uid).length > 1) {
    throw new CodedError('config_invalid', 'backs_auth_uid is for one issuer at most')
  }
  const known = new Map<string, Known>(
    issuers.map((issuer) => [issuer.issuer, { issuer, keys: createKeySet(new URL(issuer.jwks_url), keySet) }]),
  )
  const verify = async (token: string, kid: string): Promise<VerifiedToken> => {
    const record = known.get(issuerOf(token) ?? '')
    if (record === undefined) throw new CodedError('token_invalid', 'not from an issuer known here')
    const { sub, exp, nonce } = await checkToken(token, record, now())
    // A nonce that names another key is another session's token, whether or not this issuer always gives one.
    if (nonce === undefined ? record.issuer.require_nonce : nonce !== kid) throw new CodedError('token_not_bound')
    if (!isSubject(sub) || typeof exp !== 'number') throw new CodedError('token_invalid', 'no usable subject')
    const { issuer, backs_auth_uid } = record.issuer
    return { issuer, subject: sub, expires_at: Math.floor(exp), ...(backs_auth_uid ? { backs_auth_uid } : {}) }
  }
  return { verify }
}
