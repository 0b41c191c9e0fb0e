import { CodedError, limits } from '@lenserfight/schemas'
import { decodeJwt, errors, type JWTPayload } from 'jose'
import type { Issuer } from './issuer.ts'
import { type CheckSignature, createSignatureCheck } from './issuer-keys.ts'
import { type KeySetOptions, KeySetUnavailable } from './key-set.ts'

/** What a verified token says, and all that is used of it. */
export interface VerifiedToken {
  readonly issuer: string
  readonly subject: string
  /** Unix seconds from which it counts no more, the clocks' difference allowed for. */
  readonly expires_at: number
  /** Present where it names the session key that presents it: any other is good for the first key alone. */
  readonly bound?: true
  /** Present where the issuer is the one whose subjects `auth.uid()` says. */
  readonly backs_auth_uid?: true
}

export interface TokenVerifier {
  /**
   * Verifies an owner's token that a session key presents.
   * @param kid the session's key id, which the token's `nonce` must name where its issuer binds tokens
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

interface Known {
  readonly issuer: Issuer
  readonly check: CheckSignature
}

/** The platform's own keys are tokens too, of nobody; whoever has one is no owner. */
const nobodysRoles: readonly unknown[] = ['anon', 'service_role', 'supabase_admin']

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

const maxAgeOf = ({ max_age_seconds = limits.tokenLifeSeconds }: Issuer): number => max_age_seconds

const checkToken = async (token: string, { issuer, check }: Known, now: number): Promise<JWTPayload> => {
  try {
    const { payload } = await check(token, {
      issuer: issuer.issuer,
      audience: issuer.audience,
      clockTolerance: limits.tokenSkewSeconds,
      maxTokenAge: maxAgeOf(issuer),
      requiredClaims: ['sub', 'exp', 'iat'],
      currentDate: new Date(now),
    })
    return payload
  } catch (error) {
    if (issuerFailures.some((failure) => error instanceof failure))
      throw new CodedError('unavailable', "the issuer's keys cannot be had", { cause: error })
    throw new CodedError('token_invalid', detailOf(error))
  }
}

const checkIssuers = (issuers: readonly Issuer[]): void => {
  if (issuers.filter(({ backs_auth_uid }) => backs_auth_uid).length > 1) {
    throw new CodedError('config_invalid', 'backs_auth_uid is for one issuer at most')
  }
  if (new Set(issuers.map(({ issuer }) => issuer)).size < issuers.length) {
    throw new CodedError('config_invalid', 'an issuer has one entry: a key set, or a secret')
  }
}

/**
 * A verifier of owners' tokens (OpenID Connect ID tokens, or JWTs like them) by the configured issuers alone.
 * @throws CodedError `config_invalid` where two entries are one issuer's or would say who `auth.uid()` is, or a secret is short
 */
export const createTokenVerifier = ({ issuers, keySet, now = Date.now }: TokenVerifierOptions): TokenVerifier => {
  checkIssuers(issuers)
  const known = new Map<string, Known>(
    issuers.map((issuer) => [issuer.issuer, { issuer, check: createSignatureCheck(issuer, keySet) }]),
  )
  const verify = async (token: string, kid: string): Promise<VerifiedToken> => {
    const record = known.get(issuerOf(token) ?? '')
    if (record === undefined) throw new CodedError('token_invalid', 'not from an issuer known here')
    const { sub, exp, iat, nonce, role } = await checkToken(token, record, now())
    if (nobodysRoles.includes(role)) throw new CodedError('token_invalid', 'not a person’s token')
    // A nonce that names another key is another session's token, whether or not this issuer always gives one.
    if (nonce === undefined ? record.issuer.binding === 'nonce' : nonce !== kid) throw new CodedError('token_not_bound')
    if (!isSubject(sub) || typeof exp !== 'number' || typeof iat !== 'number') {
      throw new CodedError('token_invalid', 'no usable subject')
    }
    const { issuer, backs_auth_uid } = record.issuer
    const end = Math.floor(Math.min(exp, iat + maxAgeOf(record.issuer))) + limits.tokenSkewSeconds
    return {
      ...{ issuer, subject: sub, expires_at: end },
      ...(nonce === undefined ? {} : { bound: true }),
      ...(backs_auth_uid ? { backs_auth_uid } : {}),
    }
  }
  return { verify }
}
