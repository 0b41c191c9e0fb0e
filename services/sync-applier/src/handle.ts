import {
  type AddressedReceipt,
  type Burial,
  createRecheck,
  type Disposition,
  done,
  refusalOf,
  type SendNotice,
  type SendReceipts,
} from '@lenserfight/bus'
import type { Logger } from '@lenserfight/runtime'
import type { ReceiptItem } from '@lenserfight/schemas'
import { decideEnvelope } from './decide/envelope.ts'
import { type AppliedKind, appliedKinds, type Item } from './decode.ts'
import { answerPulls } from './pull.ts'
import { applyPushes, countEntries } from './push.ts'
import type { ApplierStore } from './store.ts'

export interface HandlerOptions {
  readonly gatewayId: string
  readonly store: ApplierStore
  readonly sendReceipts: SendReceipts
  readonly sendNotice: SendNotice
  readonly logger: Logger
}

export interface Handler {
  readonly handle: (items: readonly Item[]) => Promise<readonly Disposition[]>
  readonly deadLetter: (item: Item | undefined, burial: Burial) => void
  readonly figures: () => Figures
}

export interface Figures {
  /** Entries of pushes: applied now or before, refused one by one; and the conflicts that they opened. */
  readonly entries: { readonly applied: number; readonly refused: number }
  readonly conflicts: number
  /** Pulls answered. */
  readonly pulls: number
  /** Envelopes that a verifier let through and this service refused: anything but 0 is an alarm. */
  readonly disagreements: number
}

/** Applies verified pushes and answers verified pulls batch by batch: decide, commit, tell. */
export const createHandler = (options: HandlerOptions): Handler => {
  const { gatewayId, store, sendReceipts, sendNotice, logger } = options
  const counts = { applied: 0, refused: 0, conflicts: 0, pulls: 0 }
  const recheck = createRecheck({ formerKeys: store.formerKeys, logger })
  const addressed = ({ lenser, kid }: Item, item: ReceiptItem): AddressedReceipt => ({ lenser, kid, item })

  const push = async (items: readonly Item[]): Promise<readonly ReceiptItem[]> => {
    const { outcomes, notices, conflicts } = await applyPushes(store, items)
    const { applied, refused } = countEntries(outcomes)
    counts.applied += applied
    counts.refused += refused
    counts.conflicts += conflicts
    for (const notice of notices) sendNotice(notice)
    return outcomes
  }
  const pull = async (items: readonly Item[]): Promise<readonly ReceiptItem[]> => {
    const outcomes = await answerPulls(store, items)
    counts.pulls += items.length
    return outcomes
  }
  const appliers: Record<AppliedKind, (items: readonly Item[]) => Promise<readonly ReceiptItem[]>> = {
    sync_push: push,
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
  const figures = (): Figures => {
    const { applied, refused, conflicts, pulls } = counts
    return { entries: { applied, refused }, conflicts, pulls, disagreements: recheck.disagreements() }
  }
  return { handle, deadLetter, figures }
}
