import type { Delivery } from '@lenserfight/bus'
import { decodeVerifiedBatch, kinds, kindsOf, okSubject, type VerifiedItem } from '@lenserfight/schemas'

/** What the trust-evaluator applies, in the order in which one batch's are: what later ones rest on comes first. */
export const appliedKinds = [
  'heartbeat',
  'run_start',
  'run_renew',
  'run_withdraw',
  'tool_invocation',
  'attestation',
  'lifecycle',
  'canary',
] as const
export type AppliedKind = (typeof appliedKinds)[number]

/** One verified envelope and the kind of its batch. */
export interface Item extends VerifiedItem {
  readonly kind: AppliedKind
}

/** Whether a kind comes in at the ingress door and is this service's to apply. */
export const isApplied = (name: string): name is AppliedKind =>
  kindsOf('in').some((kind) => kind === name && kinds[kind].applier === 'trust-evaluator')

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
