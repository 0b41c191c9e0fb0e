import type { Refusal } from './errors.ts'
import { checkAlgorithm } from './steps/algorithm.ts'
import { checkAudience } from './steps/audience.ts'
import { type BodyCheck, checkBodyForm } from './steps/body.ts'
import { checkKid } from './steps/kid.ts'
import { checkKind } from './steps/kind.ts'
import { parseReceived } from './steps/parse.ts'
import { checkSignature } from './steps/signature.ts'
import { checkSignerRecord, type SignerRecord } from './steps/signer.ts'
import { checkSupportedKind } from './steps/supported-kind.ts'
import { checkVersion } from './steps/version.ts'
import type { Envelope, ReceivedEnvelope } from './types.ts'

/** What a door demands of an envelope, from its subject and its own configuration; never from the envelope. */
export type FormExpectations = {
  /** The subject's device or key id; null at a door whose subject names nobody. */
  readonly kid: string | null
  /** The subject's kind. */
  readonly kind: string
  /** This deployment's id. */
  readonly gatewayId: string
  readonly isSupported: (kind: string) => boolean
  readonly checkBody: BodyCheck
}

/** An envelope that passed every question that needs no key. Still nobody's word. */
export type Message = ReceivedEnvelope & { readonly kind: string }

/** A refusal, with what could be read: a failure counts against a device only where the subject and `kid` name it. */
export type FormRefusal = Refusal & {
  /** The envelope's own `kid`, where the envelope parsed. */
  readonly kid?: string
  /** The envelope, where it parsed. Unverified: good for naming an `op_id` in a receipt, and nothing else. */
  readonly envelope?: Envelope
}

/** Where the message comes from, and who may have sent it. */
export type Expectations = FormExpectations & {
  /** The subject's account; null at a door whose subject names none. */
  readonly lenserId: string | null
  /** What is on record for a kid. */
  readonly signerOf: (kid: string) => SignerRecord | undefined
}

/**
 * All of protocol.md's questions in their one order, up to the signature; freshness, state and replay are the
 * database's to judge. The same code answers for devices, owners' sessions and services. Never throws, unless an
 * injected function does.
 */
export function checkEnvelope(
  received: Uint8Array,
  expected: Expectations,
): { ok: true; message: Message } | FormRefusal {
  const form = checkForm(received, expected)
  if (!form.ok) return form
  const { message } = form
  const refusal = checkSigner(message, expected.signerOf(message.envelope.kid), expected.lenserId)
  return refusal === null ? form : withEnvelope(refusal, message)
}

/**
 * The questions that need no key, in order: `malformed_envelope`, `not_canonical`, `unsupported_version`,
 * `unsupported_algorithm`, `kid_mismatch`, `kind_mismatch`, `audience_mismatch`, `unsupported_kind`, `malformed_body`.
 * The first that fails is the code.
 */
export function checkForm(
  received: Uint8Array,
  expected: FormExpectations,
): { ok: true; message: Message } | FormRefusal {
  const read = parseReceived(received)
  if (!read.ok) return read
  const { kid, kind, gatewayId, isSupported, checkBody } = expected
  const refusal =
    checkVersion(read) ??
    checkAlgorithm(read) ??
    checkKid(read, kid) ??
    checkKind(read, kind) ??
    checkAudience(read, gatewayId) ??
    checkSupportedKind(kind, isSupported) ??
    checkBodyForm(read, kind, checkBody)
  if (refusal !== null) return withEnvelope(refusal, read)
  return { ok: true, message: { envelope: read.envelope, bytes: read.bytes, text: read.text, kind } }
}

/**
 * The questions that need the signer's record, in order: `unknown_device`, `kid_mismatch`, `signature_mismatch`.
 * For the last one elsewhere (in a thread), call `checkSignerRecord` here and verify `signingDigest` there.
 *
 * @returns the refusal, or null where the signature is good
 */
export function checkSigner(
  message: ReceivedEnvelope,
  signer: SignerRecord | undefined,
  lenserId: string | null,
): Refusal | null {
  const refusal = checkSignerRecord(message, signer, lenserId)
  if (refusal !== null || signer === undefined) return refusal
  return checkSignature(message, signer.publicKey)
}

function withEnvelope(refusal: Refusal, { envelope }: ReceivedEnvelope): FormRefusal {
  return { ...refusal, kid: envelope.kid, envelope }
}
