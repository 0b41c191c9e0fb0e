import type { Delivery } from '@lenserfight/bus'
import { decodeVerifiedBatch, okSubject, type VerifiedItem } from '@lenserfight/schemas'

/** What the registrar applies of the verified stream. */
export const appliedKinds = ['challenge', 'rotate'] as const
export type AppliedKind = (typeof appliedKinds)[number]

/** One verified envelope and the kind of its batch. */
export interface Item extends VerifiedItem {
  readonly kind: AppliedKind
}

const kindOfSubject = new Map(appliedKinds.map((kind) => [okSubject(kind), kind]))
const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Reads one message of the verified stream.
 * @throws SyntaxError or TypeError on what no verifier writes: the message is put aside
 */
export const decode = ({ subject, data }: Pick<Delivery, 'subject' | 'data'>): Item[] => {
  const kind = kindOfSubject.get(subject)
  if (kind === undefined) throw new SyntaxError(`nothing here applies ${subject}`)
  return decodeVerifiedBatch(utf8.decode(data)).map((item) => ({ ...item, kind }))
}
