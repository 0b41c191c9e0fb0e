import { encodeVerifiedLine, type KindName, limits, okSubject } from '@lenserfight/schemas'
import type { ProvenCandidate } from './commit.ts'

/** One message of the verified stream. */
export interface VerifiedBatch {
  readonly subject: string
  readonly text: string
}

const lineOf = ({ subject, digest, received, message }: ProvenCandidate): string =>
  encodeVerifiedLine({
    lenser: subject.lenser,
    kid: subject.kid,
    digest: Buffer.from(digest, 'hex').toString('base64url'),
    stored: received.stored,
    text: message.text,
  })

const byLenser = (a: ProvenCandidate, b: ProvenCandidate): number =>
  a.subject.lenser < b.subject.lenser ? -1 : a.subject.lenser > b.subject.lenser ? 1 : a.index - b.index

/** Bytes that framing adds to an envelope: two UUIDs, a digest, a time, the spaces and the line break. */
const framingBytes = 36 + 36 + 43 + 20 + 5

/** Cuts the envelopes of one kind, sorted by Lenser, into messages of at most 512 KiB; a larger one travels alone. */
const cut = (kind: KindName, sorted: readonly ProvenCandidate[]): VerifiedBatch[] => {
  const batches: VerifiedBatch[] = []
  let text = ''
  let room: number = limits.verifiedBatchBytes
  for (const candidate of sorted) {
    const size = candidate.message.bytes.length + framingBytes
    if (size > room && text !== '') {
      batches.push({ subject: okSubject(kind), text })
      text = ''
      room = limits.verifiedBatchBytes
    }
    text += lineOf(candidate)
    room -= size
  }
  if (text !== '') batches.push({ subject: okSubject(kind), text })
  return batches
}

/** What is published of a batch: one kind a message, sorted by Lenser, the envelopes of one in the order they came. */
export const assemble = (verified: readonly ProvenCandidate[]): VerifiedBatch[] => {
  const kinds = new Map<KindName, ProvenCandidate[]>()
  for (const candidate of verified) {
    const kind = candidate.subject.kind as KindName
    const group = kinds.get(kind)
    if (group === undefined) kinds.set(kind, [candidate])
    else group.push(candidate)
  }
  return [...kinds].flatMap(([kind, group]) => cut(kind, group.sort(byLenser)))
}
