import {
  type AddressedReceipt,
  type Burial,
  createRecheck,
  type Disposition,
  done,
  refusalOf,
  type SendReceipts,
} from '@lenserfight/bus'
import type { Logger } from '@lenserfight/runtime'
import { CodedError, type ReceiptItem } from '@lenserfight/schemas'
import { decideEnvelope } from './decide/envelope.ts'
import { type AppliedKind, appliedKinds, type Item } from './decode.ts'
import type { ApplierStore } from './store.ts'

export interface HandlerOptions {
  readonly gatewayId: string
  readonly store: ApplierStore
  readonly sendReceipts: SendReceipts
  readonly logger: Logger
}

export interface Handler {
  readonly handle: (items: readonly Item[]) => Promise<readonly Disposition[]>
  readonly deadLetter: (item: Item | undefined, burial: Burial) => void
  /** Pulls answered, and envelopes that a verifier let through and this service refused: anything but 0 is an alarm. */
  readonly figures: () => { readonly pulls: number; readonly disagreements: number }
}

/** Answers verified pulls batch by batch: decide, commit, tell. */
export const createHandler = ({ gatewayId, store, sendReceipts, logger }: HandlerOptions): Handler => {
  const counts = { pulls: 0 }
  const recheck = createRecheck({ formerKeys: store.formerKeys, logger })
  const addressed = ({ lenser, kid }: Item, item: ReceiptItem): AddressedReceipt => ({ lenser, kid, item })

  const pull = async (items: readonly Item[]): Promise<ReceiptItem[]> => {
    const outcomes = await store.pull(items)
    counts.pulls += items.length
    return outcomes
  }
  const appliers: Record<AppliedKind, (items: readonly Item[]) => Promise<ReceiptItem[]>> = {
    sync_push: async () => {
      throw new CodedError('internal_error', 'pushes are not applied yet')
    },
    sync_pull: pull,
  }
  const handle = async (items: readonly Item[]): Promise<readonly Disposition[]> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const facts = { gatewayId, signerOf: (kid: string) => signers.get(kid) }
    const { good, refused } = await recheck.check(items, (item) => decideEnvelope(item, facts))
    const told = refused.map(({ item, code }) => addressed(item, refusalOf(item, code)))
    for (const kind of appliedKinds) {
      const ofKind = good.filter((item) => item.kind === kind)
      if (ofKind.length === 0) continue
      const outcomes = await appliers[kind](ofKind)
      told.push(...ofKind.map((item, index) => addressed(item, outcomes[index] as ReceiptItem)))
    }
    sendReceipts(told)
    return items.map(() => done)
  }
  const deadLetter = (item: Item | undefined, { incidentId }: Burial): void => {
    if (item === undefined) return
    sendReceipts([addressed(item, { ...refusalOf(item, 'internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter, figures: () => ({ ...counts, disagreements: recheck.disagreements() }) }
}
