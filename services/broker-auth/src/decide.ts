import { checkForm, type FormRefusal, kidOfKey, type Message, type SignerRecord } from '@lenserfight/envelope'
import {
  askSubject,
  type ConnectBody,
  checkBody,
  type DeviceLevel,
  devicePermissions,
  limits,
  loginPermissions,
  type Permissions,
  type ReasonCode,
  type SessionScope,
  sessionPermissions,
} from '@lenserfight/schemas'
import type { CalloutRequest } from './request.ts'

/** What is on record of a kid. */
export interface KnownSigner extends SignerRecord {
  /** Unix seconds: the end of a session. */
  readonly expiresAt?: number
}

/** What the database said to the claim of a connect. */
export interface ConnectClaim {
  readonly verdict: 'ok' | 'key_changed' | ReasonCode
  readonly signer: 'device' | 'session' | 'unknown'
  readonly lenser_id: string | null
  readonly trust_level: DeviceLevel | null
  /** Whether a device's key is past its end: it may then do what an unhealthy one may. */
  readonly key_expired: boolean
  /** What is left of a device's key, whole seconds and 1 at least; null where it is over or has no end. */
  readonly key_seconds_left: number | null
  /** Of a session. */
  readonly scope: SessionScope | null
}

/** The `connect` envelope that the client signed for this very connection, or why there is none. */
export const readConnect = (
  request: CalloutRequest,
  gatewayId: string,
): { message: Message } | { code: ReasonCode } => {
  if (request.token.length > limits.connectBytes) return { code: 'malformed_envelope' }
  const form: { ok: true; message: Message } | FormRefusal = checkForm(Buffer.from(request.token), {
    kid: null,
    kind: 'connect',
    gatewayId,
    isSupported: (kind) => kind === 'connect',
    checkBody,
  })
  if (!form.ok) return { code: form.code }
  const { server_nonce } = form.message.envelope.body as unknown as ConnectBody
  // Signed for another connection: somebody else's, or an earlier one.
  if (server_nonce !== request.serverNonce) return { code: 'nonce_replay' }
  return { message: form.message }
}

/** A session that nobody vouched for yet brings its key, whose hash is its kid; it belongs to no account. */
export const selfNamed = ({ envelope }: Message): KnownSigner | undefined => {
  const { public_key } = envelope.body as unknown as ConnectBody
  if (public_key === undefined) return undefined
  const publicKey = Buffer.from(public_key, 'base64url')
  return kidOfKey(publicKey) === envelope.kid ? { kid: envelope.kid, lenserId: null, publicKey } : undefined
}

const out = (lenser: string, kid: string): string => `ltg.v1.out.${lenser}.${kid}.*`

/** A session refused for its time or its end: it may ask why, and hear the answer. */
const statusOnly = (lenser: string, kid: string): Permissions => ({
  publish: [askSubject({ lenser, kid, kind: 'status' })],
  subscribe: [out(lenser, kid)],
})

/** The states from which the end of its key takes something (protocol.md, Device states). */
const isWorking = (state: DeviceLevel | null): boolean =>
  state === 'approved' || state === 'trusted' || state === 'offline'

/**
 * How long a grant may last at most, seconds; undefined where nothing but the JWT's own life bounds it. Seconds from now and
 * no time: the clock that judged the claim is the database's. A session past its end gets in to ask why, for as long as any.
 */
export const secondsLeft = (claim: ConnectClaim, signer: KnownSigner, now: number): number | undefined => {
  if (claim.signer === 'unknown') return limits.loginConnectionSeconds
  if (claim.signer === 'device') return (isWorking(claim.trust_level) ? claim.key_seconds_left : null) ?? undefined
  const left = (signer.expiresAt ?? Infinity) - now
  if (left > 0) return left
  return claim.verdict === 'ok' ? 1 : undefined
}

/**
 * What a proven key may do. A refusing clock or state still gets in, to ask for its status alone: nobody whose signature
 * verified is refused without a word (protocol.md, Accounts).
 */
export const permissionsFor = (
  kid: string,
  claim: ConnectClaim,
): { permissions: Permissions } | { code: ReasonCode } => {
  const { verdict, signer, lenser_id: lenser, trust_level: state, scope } = claim
  if (verdict === 'nonce_replay' || verdict === 'unknown_session') return { code: verdict }
  if (verdict === 'key_changed') return { code: 'signature_mismatch' }
  if (signer === 'unknown') return { permissions: loginPermissions(kid) }
  if (lenser === null) return { code: 'internal_error' }
  if (signer === 'session') {
    if (scope === null) return { code: 'internal_error' }
    return { permissions: verdict === 'ok' ? sessionPermissions(lenser, kid, scope) : statusOnly(lenser, kid) }
  }
  if (state === null) return { code: 'internal_error' }
  const acts = claim.key_expired && isWorking(state) ? 'unhealthy' : state
  return { permissions: devicePermissions({ lenser, kid, state: acts, clockOff: verdict !== 'ok' }) }
}
