import { encodeBase64Url, encodeKey, envelopeDigest, type Message } from '@lenserfight/envelope'
import { CodedError, type DoorSubject, type ReasonCode } from '@lenserfight/schemas'
import type { ClaimVerdict, RegistrarStore } from '../store.ts'
import type { TokenVerifier } from '../token/verify-token.ts'
import { isProofGood } from './check-proof.ts'
import { checkRequestForm, checkRequestSigner } from './check-request.ts'
import { checkWinner } from './check-winner.ts'
import { type Outcome, refused } from './outcome.ts'

/** One request as it came in at the `ask` door. */
export interface Request {
  readonly subject: DoorSubject
  readonly bytes: Uint8Array
}

/** What became of a request. Until `proven`, it may be anybody's who can speak for that subject. */
export interface Answered {
  readonly outcome: Outcome
  readonly proven: boolean
}

export interface AnswererOptions {
  readonly gatewayId: string
  readonly store: RegistrarStore
  readonly tokens: TokenVerifier
  /** The gateway's root-signed key list, and its number. */
  readonly keyList: { readonly text: string; readonly number: number }
}

/** Kinds whose answer carries the key list: from then on the edge can check who speaks in the gateway's name. */
const teachesKeys = new Set<string>(['login', 'register'])

const unproven = (code: ReasonCode, detail?: string): Answered => ({ outcome: refused(code, detail), proven: false })

/** Whether the answer carries the key list: to a status, only where the edge names an older one. */
const wantsKeys = (message: Message, number: number): boolean => {
  if (message.kind !== 'status') return teachesKeys.has(message.kind)
  const { keys_number = 0 } = message.envelope.body as { keys_number?: number }
  return keys_number < number
}

/**
 * Answers requests: form, signer, signature, claim, a new key's proof, a decided value's
 * form, then the function of the kind. Each step may end it with a code.
 * The function returned throws InfrastructureError where the database is gone; everything else is an outcome.
 */
export const createAnswerer = ({ gatewayId, store, tokens, keyList }: AnswererOptions) => {
  const login = async (message: Message): Promise<Outcome> => {
    const { kid, body } = message.envelope
    const verified = await tokens.verify((body as { token: string }).token, kid).catch((error: unknown) => {
      if (error instanceof CodedError) return error
      throw error
    })
    if (!(verified instanceof CodedError)) return store.login(message.text, verified)
    // The issuer is gone, not what we stand on.
    if (verified.code === 'unavailable') return refused('unavailable', verified.detail)
    // Told to the database too: a login that was committed before keeps its result, though its token expired since.
    const outcome = await store.login(message.text, { refused: verified.code })
    return outcome.ok || verified.detail === undefined ? outcome : { detail: verified.detail, ...outcome }
  }

  const apply = async (message: Message): Promise<Outcome> => {
    const outcome = message.kind === 'login' ? await login(message) : await store.apply(message.kind, message.text)
    if (!outcome.ok || !wantsKeys(message, keyList.number)) return outcome
    return { ok: true, result: { ...outcome.result, keys: keyList.text } }
  }

  const claim = (message: Message, key: Uint8Array): Promise<ClaimVerdict> => {
    const { kid, nonce, iat } = message.envelope
    const digest = encodeBase64Url(envelopeDigest(message.bytes))
    return store.claim({ kid, kind: message.kind, nonce, iat, digest, public_key: encodeKey(key) })
  }

  return async ({ subject, bytes }: Request): Promise<Answered> => {
    const form = checkRequestForm(bytes, subject, gatewayId)
    if (!form.ok) return unproven(form.code, form.detail)
    const message = form.value
    const signer = message.kind === 'login' ? undefined : await store.signer(subject.kid)
    const signed = checkRequestSigner(message, subject, signer)
    if (!signed.ok) return unproven(signed.code, signed.detail)
    const verdict = await claim(message, signed.value)
    // The key on record is another than a moment ago: it did not sign this.
    if (verdict === 'key_changed') return unproven('signature_mismatch')
    if (verdict !== 'ok') return { outcome: refused(verdict), proven: true }
    if (!isProofGood(message, gatewayId)) return { outcome: refused('proof_mismatch'), proven: true }
    const misfit = await checkWinner(message, store)
    if (misfit !== null) return { outcome: refused('invalid_object', misfit), proven: true }
    return { outcome: await apply(message), proven: true }
  }
}

export type Answerer = ReturnType<typeof createAnswerer>
