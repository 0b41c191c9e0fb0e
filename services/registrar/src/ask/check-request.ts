import { checkForm, checkSignature, checkSignerRecord, decodeKey, kidOfKey, type Message } from '@lenserfight/envelope'
import { checkBody, type DoorSubject, kindOf, nilUuid, type ReasonCode } from '@lenserfight/schemas'

/** What is on record of a kid: `devices.fn_signers`. */
export interface Signer {
  readonly kid: string
  readonly signer: 'device' | 'session'
  readonly lenserId: string
  readonly publicKey: Uint8Array
}

export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: ReasonCode; readonly detail?: string }

const refuse = (code: ReasonCode, detail?: string): Checked<never> => ({
  ok: false,
  code,
  ...(detail === undefined ? {} : { detail }),
})

const service = 'registrar'
const isSupported = (kind: string): boolean => kindOf(kind)?.door === 'ask' && kindOf(kind)?.applier === service

/** The questions that need no key, in protocol.md's order. */
export const checkRequestForm = (bytes: Uint8Array, subject: DoorSubject, gatewayId: string): Checked<Message> => {
  const form = checkForm(bytes, { kid: subject.kid, kind: subject.kind, gatewayId, isSupported, checkBody })
  return form.ok ? { ok: true, value: form.message } : refuse(form.code, form.detail)
}

/** A session that is not on record names itself: its key comes in the login's body, and its kid is that key's. */
const loginKey = (message: Message, subject: DoorSubject): Checked<Uint8Array> => {
  if (subject.lenser !== nilUuid) return refuse('kid_mismatch', 'a login comes before there is an account')
  const key = decodeKey((message.envelope.body as { public_key: string }).public_key)
  return kidOfKey(key) === subject.kid
    ? { ok: true, value: key }
    : refuse('kid_mismatch', 'kid is not that of the public key')
}

/** A kid of version 8 is a key's own name, so a session's; devices get theirs from the gateway. */
const unknownSigner = (kid: string): Checked<never> => refuse(kid[14] === '8' ? 'unknown_session' : 'unknown_device')

/**
 * The questions that need the signer: on record, of the account that the subject names, of a sort that may send this
 * kind, and the signature's.
 * @param signer what is on record of the kid; of no meaning for a login
 * @returns the key that proved the request
 */
export const checkRequestSigner = (
  message: Message,
  subject: DoorSubject,
  signer: Signer | undefined,
): Checked<Uint8Array> => {
  let key: Uint8Array
  if (message.kind === 'login') {
    const named = loginKey(message, subject)
    if (!named.ok) return named
    key = named.value
  } else {
    if (signer === undefined) return unknownSigner(subject.kid)
    const refusal = checkSignerRecord(message, signer, subject.lenser)
    if (refusal !== null) return refuse(refusal.code, refusal.detail)
    key = signer.publicKey
  }
  const refusal = checkSignature(message, key)
  if (refusal !== null) return refuse(refusal.code, refusal.detail)
  if (message.kind !== 'login' && signer !== undefined && !kindOf(message.kind)?.signers.includes(signer.signer))
    return refuse('unsupported_kind', 'not for this sort of signer to ask')
  return { ok: true, value: key }
}
