import {
  checkForm,
  checkSignerRecord,
  isUuidV7,
  type Message,
  type SignerRecord,
  signatureRefusal,
} from '@lenserfight/envelope'
import { checkBody, type DoorSubject, kindOf, parseDoorSubject, type ReasonCode } from '@lenserfight/schemas'
import type { DeviceRecord } from './signer-cache.ts'

/** What a message of the ingress stream says of itself that is decided by (a `Delivery` of the bus is one). */
export interface Received {
  readonly subject: string
  readonly data: Uint8Array
  readonly stream: string
  readonly seq: number
  /** The broker's store time, nanoseconds since 1970, as decimal digits. */
  readonly stored: string
}

/** An envelope that passed every question that needs no key. */
export interface Candidate {
  /** Its place in the batch. */
  readonly index: number
  readonly received: Received
  readonly subject: DoorSubject
  readonly message: Message
}

/** A candidate whose signer is on record, and the key to check it with. */
export interface SignedCandidate extends Candidate {
  readonly signer: SignerRecord
}

/** A message refused for good, or until its sender signs again. */
export interface Refused {
  readonly index: number
  readonly received: Received
  /** Whom to tell: the subject's names, which the broker authenticated. */
  readonly subject: DoorSubject
  readonly code: ReasonCode
  readonly detail?: string
  /** Read from an envelope that parsed; proven only where `proven`. */
  readonly opId?: string
  /** Whether a signature by the subject's key was seen: before that, answering is bounded. */
  readonly proven: boolean
}

/** Marks a claim that was checked with a key that is no longer the signer's. */
export const keyChanged = 'key_changed'

const isIngressKind = (kind: string): boolean => kindOf(kind)?.door === 'in'

const opIdOf = (body: { readonly [member: string]: unknown } | undefined): { opId?: string } => {
  const id = body?.op_id
  return isUuidV7(id) ? { opId: id } : {}
}

const refuse = (candidate: Candidate, code: ReasonCode, detail: string | undefined, proven: boolean): Refused => ({
  index: candidate.index,
  received: candidate.received,
  subject: candidate.subject,
  code,
  ...(detail === undefined ? {} : { detail }),
  ...opIdOf(candidate.message.envelope.body),
  proven,
})

/** Reads a batch's subjects, each once: a device that sends a batch full sends them all on a few. */
const createSubjectReader = () => {
  const known = new Map<string, DoorSubject | undefined>()
  return (text: string): DoorSubject | undefined => {
    const subject = known.get(text)
    if (subject !== undefined || known.has(text)) return subject
    const read = parseDoorSubject(text)
    known.set(text, read)
    return read
  }
}

/**
 * First: what needs no key (protocol.md, Verifier): `malformed_envelope`, `not_canonical`, `unsupported_version`,
 * `unsupported_algorithm`, `kid_mismatch`, `kind_mismatch`, `audience_mismatch`, `unsupported_kind`, `malformed_body`.
 * `strays` came on a subject that names nobody, so nobody can be told; no broker of ours lets one in.
 */
export const decideForm = (
  batch: readonly Received[],
  gatewayId: string,
): { candidates: Candidate[]; refused: Refused[]; strays: number } => {
  const candidates: Candidate[] = []
  const refused: Refused[] = []
  let strays = 0
  const subjectOf = createSubjectReader()
  for (const [index, received] of batch.entries()) {
    const subject = subjectOf(received.subject)
    if (subject === undefined) {
      strays += 1
      continue
    }
    const { kid, kind } = subject
    const form = checkForm(received.data, { kid, kind, gatewayId, isSupported: isIngressKind, checkBody })
    if (form.ok) candidates.push({ index, received, subject, message: form.message })
    else {
      const { code, detail, envelope } = form
      refused.push({ index, received, subject, code, detail, ...opIdOf(envelope?.body), proven: false })
    }
  }
  return { candidates, refused, strays }
}

// Written out: spreading thousands of these a second is a cost that shows.
const withSigner = ({ index, received, subject, message }: Candidate, signer: SignerRecord): SignedCandidate => ({
  index,
  received,
  subject,
  message,
  signer,
})

/** Second: `unknown_device`, `kid_mismatch` (the signer's Lenser is not the subject's). */
export const decideSigners = (
  candidates: readonly Candidate[],
  signerOf: (kid: string) => SignerRecord | undefined,
): { signed: SignedCandidate[]; refused: Refused[] } => {
  const signed: SignedCandidate[] = []
  const refused: Refused[] = []
  for (const candidate of candidates) {
    const signer = signerOf(candidate.subject.kid)
    const refusal = checkSignerRecord(candidate.message, signer, candidate.subject.lenser)
    if (refusal !== null) refused.push(refuse(candidate, refusal.code, refusal.detail, false))
    else signed.push(withSigner(candidate, signer as SignerRecord))
  }
  return { signed, refused }
}

/** Third: `signature_mismatch`. One flag a candidate, 1 where its signature verified. */
export const decideSignatures = (
  signed: readonly SignedCandidate[],
  flags: Uint8Array,
): { proven: SignedCandidate[]; refused: Refused[] } => {
  const proven: SignedCandidate[] = []
  const refused: Refused[] = []
  const { code, detail } = signatureRefusal()
  for (const [place, candidate] of signed.entries()) {
    if (flags[place] === 1) proven.push(candidate)
    else refused.push(refuse(candidate, code, detail, false))
  }
  return { proven, refused }
}

/**
 * What the key known of a signer did not sign may be signed by one that took its place since, or by the one before it: the
 * same candidates once more, each with every other key that its signer has on record.
 */
export const otherKeys = (
  failed: readonly SignedCandidate[],
  recordOf: (kid: string) => DeviceRecord | undefined,
): SignedCandidate[] =>
  failed.flatMap((candidate) => {
    const record = recordOf(candidate.signer.kid)
    if (record === undefined) return []
    const { kid, lenserId, publicKey, formerKey } = record
    return [publicKey, formerKey]
      .filter((key) => key !== undefined)
      .filter((key) => Buffer.compare(key, candidate.signer.publicKey) !== 0)
      .map((key) => withSigner(candidate, { kid, lenserId, publicKey: key }))
  })

/** Which of those that failed verified after all, and the others' `signature_mismatch`. One flag a try. */
export const decideOtherKeys = (
  failed: readonly SignedCandidate[],
  tries: readonly SignedCandidate[],
  flags: Uint8Array,
): { proven: SignedCandidate[]; refused: Refused[] } => {
  const verified = tries.filter((_, place) => flags[place] === 1)
  const proven = [...new Map(verified.map((candidate) => [candidate.index, candidate])).values()]
  const good = new Set(proven.map(({ index }) => index))
  const { code, detail } = signatureRefusal()
  const refused = failed
    .filter(({ index }) => !good.has(index))
    .map((candidate) => refuse(candidate, code, detail, false))
  return { proven, refused }
}

/**
 * Last: what the claims say, one verdict a candidate: `signature_mismatch` (by a key that was replaced before the broker
 * stored it, which proves nothing any more), `iat_window`, `device_<state>`, `key_expired`, `nonce_replay`, or `ok`. `changed` were checked with a key that the signer has no more; they are to be checked again.
 */
export const decideClaims = <C extends SignedCandidate>(
  proven: readonly C[],
  verdicts: readonly string[],
): { verified: C[]; changed: C[]; refused: Refused[] } => {
  const verified: C[] = []
  const changed: C[] = []
  const refused: Refused[] = []
  for (const [place, candidate] of proven.entries()) {
    const verdict = verdicts[place]
    if (verdict === 'ok') verified.push(candidate)
    else if (verdict === keyChanged) changed.push(candidate)
    else refused.push(refuse(candidate, verdict as ReasonCode, undefined, verdict !== 'signature_mismatch'))
  }
  return { verified, changed, refused }
}
