import { type AddressedReceipt, type Disposition, done } from '@lenserfight/bus'
import { signatureBytes, signingDigest } from '@lenserfight/envelope'
import { InfrastructureError } from '@lenserfight/runtime'
import { assemble, type VerifiedBatch } from './assemble.ts'
import { byKey, type ProvenCandidate, withDigest } from './commit.ts'
import {
  type Candidate,
  decideClaims,
  decideForm,
  decideOtherKeys,
  decideSignatures,
  decideSigners,
  otherKeys,
  type Received,
  type Refused,
  type SignedCandidate,
} from './decide.ts'
import type { SignatureFailures } from './signature-failures.ts'
import type { SignaturePool } from './signatures/pool.ts'
import type { SignerCache } from './signer-cache.ts'
import type { Stopwatch } from './stopwatch.ts'
import { receiptsFor } from './tell.ts'

/** What a verifier is given. */
export interface VerifierParts {
  readonly gatewayId: string
  readonly signers: SignerCache
  readonly signatures: Pick<SignaturePool, 'verify'>
  /** Commits the claims of a batch with one key a signer; a verdict for each (`devices.fn_claim_ingress`). */
  readonly claim: (batch: readonly ProvenCandidate[]) => Promise<readonly string[]>
  /** Publishes a verified batch; resolves when the stream has it. */
  readonly publish: (batch: VerifiedBatch) => Promise<unknown>
  readonly tell: (receipts: readonly AddressedReceipt[]) => void
  /** Whether one more receipt for an unproven message may go out. */
  readonly allowUnproven: () => boolean
  readonly failures: Pick<SignatureFailures, 'count'>
  readonly counts: VerifierCounts
  readonly stopwatch: Stopwatch
}

/** What a verifier did since it started. Only ever added to. */
export interface VerifierCounts {
  received: number
  verified: number
  strays: number
  refused: Record<string, number>
}
export const noCounts = (): VerifierCounts => ({ received: 0, verified: 0, strays: 0, refused: {} })

interface Judged {
  readonly verified: ProvenCandidate[]
  readonly refused: Refused[]
}

/** How often a batch is checked again because keys changed between the check and the claim. */
const mostRounds = 3

/**
 * The verifier's handler: a batch of the ingress stream in; its verified envelopes published and its refusals told when it
 * resolves. It may be called with the same messages again, whatever was done with them before: the claims remember.
 */
export const createBatchVerifier = (parts: VerifierParts) => {
  const { gatewayId, counts, failures, stopwatch } = parts
  const { timed } = stopwatch

  const judge = async (candidates: readonly Candidate[], round: number): Promise<Judged> => {
    const found = await timed('signer', () => parts.signers.find(new Set(candidates.map(({ subject }) => subject.kid))))
    const { signed, refused } = decideSigners(candidates, (kid) => found.get(kid))
    const flags = await checkSignatures(signed)
    const { proven, refused: failed } = decideSignatures(signed, flags)
    const digested = timed('arrange', () => proven.map(withDigest))
    const claimed = failed.length === 0 ? await claim([digested]) : await claimAfterAll(digested, signed, flags)
    refused.push(...claimed.refused)
    if (claimed.changed.length === 0) return { verified: claimed.verified, refused }
    if (round === mostRounds) throw new InfrastructureError('signers change their keys faster than they can be read')
    parts.signers.forget(claimed.changed.map(({ subject }) => subject.kid))
    const again = await judge(claimed.changed, round + 1)
    return { verified: [...claimed.verified, ...again.verified], refused: [...refused, ...again.refused] }
  }
  /** Those that their known keys signed, and those that other keys of theirs did. */
  const claimAfterAll = async (
    digested: readonly ProvenCandidate[],
    signed: readonly SignedCandidate[],
    flags: Uint8Array,
  ) => {
    const failed = signed.filter((_, place) => flags[place] !== 1)
    const kids = new Set(failed.map(({ signer }) => signer.kid))
    const fresh = await timed('signer', () => parts.signers.refresh(kids))
    const tries = otherKeys(failed, (kid) => fresh.get(kid))
    const decided = decideOtherKeys(failed, tries, await checkSignatures(tries))
    const claimed = await claim(byKey([...digested, ...decided.proven.map(withDigest)]))
    return { ...claimed, refused: [...decided.refused, ...claimed.refused] }
  }
  const claim = async (batches: readonly ProvenCandidate[][]) => {
    const verdicts: string[] = []
    for (const batch of batches) {
      if (batch.length > 0) verdicts.push(...(await timed('claim', () => parts.claim(batch))))
    }
    return decideClaims(batches.flat(), verdicts)
  }
  const checkSignatures = async (signed: readonly SignedCandidate[]): Promise<Uint8Array> => {
    if (signed.length === 0) return new Uint8Array()
    const checks = timed('pack', () =>
      signed.map(({ message, signer }) => ({
        publicKey: signer.publicKey,
        signature: signatureBytes(message.envelope),
        digest: signingDigest(message.bytes),
      })),
    )
    return timed('signature', () => parts.signatures.verify(checks))
  }
  const count = (batch: readonly Received[], { verified, refused }: Judged, strays: number): void => {
    counts.received += batch.length
    counts.verified += verified.length
    counts.strays += strays
    for (const { code, subject } of refused) {
      counts.refused[code] = (counts.refused[code] ?? 0) + 1
      // Asked after the envelope was found well-formed and its kid the subject's: both names agree (law 8).
      if (code === 'signature_mismatch') failures.count(subject.kid)
    }
  }

  return async (batch: readonly Received[]): Promise<readonly Disposition[]> => {
    const form = timed('form', () => decideForm(batch, gatewayId))
    const judged = form.candidates.length === 0 ? { verified: [], refused: [] } : await judge(form.candidates, 1)
    const refused = [...form.refused, ...judged.refused]
    const batches = timed('arrange', () => assemble(judged.verified))
    // In the verified stream first, then done: a crash between the two publishes again, and appliers apply once.
    await timed('publish', () => Promise.all(batches.map(parts.publish)))
    timed('tell', () => {
      if (refused.length > 0) parts.tell(receiptsFor(refused, parts.allowUnproven))
    })
    count(batch, { verified: judged.verified, refused }, form.strays)
    return batch.map(() => done)
  }
}
