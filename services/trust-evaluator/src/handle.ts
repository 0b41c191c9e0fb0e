import {
  type AddressedReceipt,
  type Burial,
  createRecheck,
  type Disposition,
  done,
  refusalOf,
  type SendReceipts,
} from '@lenserfight/bus'
import type { SignerRecord } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import type { ReceiptItem } from '@lenserfight/schemas'
import { type EvaluatorStore, perCall } from './commit.ts'
import { decide } from './decide.ts'
import { type AppliedKind, appliedKinds, type Item } from './decode.ts'

export interface HandlerOptions {
  readonly gatewayId: string
  readonly store: EvaluatorStore
  readonly sendReceipts: SendReceipts
  readonly logger: Logger
}

export interface Handler {
  readonly handle: (items: readonly Item[]) => Promise<readonly Disposition[]>
  readonly deadLetter: (item: Item | undefined, burial: Burial) => void
  /** Envelopes applied, and those that a verifier let through and the evaluator refused: anything but 0 is an alarm. */
  readonly figures: () => { readonly applied: number; readonly disagreements: number }
}

type Signers = ReadonlyMap<string, SignerRecord>

/** What may be applied of one part, and what is refused. */
interface Checked {
  readonly good: readonly Item[]
  readonly refused: readonly AddressedReceipt[]
}

/** Items of one kind that are checked, then applied, together; in the order in which kinds are applied. */
const partsOf = (items: readonly Item[]): { kind: AppliedKind; part: Item[] }[] =>
  appliedKinds.flatMap((kind) => {
    const ofKind = items.filter((item) => item.kind === kind)
    const most = perCall(kind)
    return Array.from({ length: Math.ceil(ofKind.length / most) }, (_, n) => ({
      kind,
      part: ofKind.slice(n * most, (n + 1) * most),
    }))
  })

/** Applies verified envelopes batch by batch: decide, commit, tell. */
export const createHandler = ({ gatewayId, store, sendReceipts, logger }: HandlerOptions): Handler => {
  let applied = 0
  const recheck = createRecheck({ formerKeys: store.formerKeys, logger })
  const addressed = (item: Item, receipt: ReceiptItem): AddressedReceipt => ({
    lenser: item.lenser,
    kid: item.kid,
    item: receipt,
  })
  /** Splits items into those that may be applied and refusals of the others. */
  const check = async (items: readonly Item[], signers: Signers): Promise<Checked> => {
    const facts = { gatewayId, signerOf: (kid: string) => signers.get(kid) }
    const { good, refused } = await recheck.check(items, (item) => decide(item, facts))
    return { good, refused: refused.map(({ item, code }) => addressed(item, refusalOf(item, code))) }
  }
  const apply = async (kind: AppliedKind, good: readonly Item[]): Promise<AddressedReceipt[]> => {
    if (good.length === 0) return []
    const outcomes = await store.apply(kind, good)
    applied += good.length
    return good.map((item, index) => addressed(item, outcomes[index] as ReceiptItem))
  }

  const handle = async (items: readonly Item[]): Promise<readonly Disposition[]> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const told: { refused: AddressedReceipt[]; applied: AddressedReceipt[] } = { refused: [], applied: [] }
    let applying: Promise<AddressedReceipt[]> = Promise.resolve([])
    for (const { kind, part } of partsOf(items)) {
      // The database is at the part before while this one's signatures are checked.
      const [{ good, refused }, before] = await Promise.all([check(part, signers), applying])
      told.refused.push(...refused)
      told.applied.push(...before)
      applying = apply(kind, good)
    }
    told.applied.push(...(await applying))
    sendReceipts([...told.refused, ...told.applied])
    return items.map(() => done)
  }
  const deadLetter = (item: Item | undefined, { incidentId }: Burial): void => {
    if (item === undefined) return
    sendReceipts([addressed(item, { ...refusalOf(item, 'internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter, figures: () => ({ applied, disagreements: recheck.disagreements() }) }
}
