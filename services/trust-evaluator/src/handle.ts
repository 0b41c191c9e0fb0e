import { setImmediate as turn } from 'node:timers/promises'
import { type AddressedReceipt, type Burial, type Disposition, done, type SendReceipts } from '@lenserfight/bus'
import {
  encodeBase64Url,
  envelopeDigest,
  isUuidV7,
  judgeFormerKeys,
  readEnvelope,
  type SignerRecord,
} from '@lenserfight/envelope'
import { type Logger, short } from '@lenserfight/runtime'
import type { ReasonCode, ReceiptItem } from '@lenserfight/schemas'
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

/** Checked in one go: between, what is on its way to the database goes on. */
const perTurn = 32

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

const digestOf = (text: string): string => encodeBase64Url(envelopeDigest(Buffer.from(text)))

/**
 * A refusal of what came to no outcome in the database. It names the digest of these very bytes, whatever the batch
 * says: whoever can write one would else have us end, for good, an envelope of the device's that we never saw.
 */
const refusal = (item: Item, code: ReasonCode): ReceiptItem => {
  const read = readEnvelope(item.text)
  const op_id = read.ok ? read.envelope.body.op_id : undefined
  return { digest: digestOf(item.text), ok: false, code, ...(isUuidV7(op_id) ? { op_id: op_id as string } : {}) }
}

/** Applies verified envelopes batch by batch: decide, commit, tell. */
export const createHandler = ({ gatewayId, store, sendReceipts, logger }: HandlerOptions): Handler => {
  const counts = { applied: 0, disagreements: 0 }
  const addressed = (item: Item, receipt: ReceiptItem): AddressedReceipt => ({
    lenser: item.lenser,
    kid: item.kid,
    item: receipt,
  })
  const disagree = ({ kind, kid, digest }: Item, code: ReasonCode): void => {
    counts.disagreements += 1
    // One of the two is wrong or lying, so nothing may rest on it (trust.md, rule 12).
    logger.error({ event: 'verifier_disagrees', code, kind, kid, digest: short(digest) }, 'a verified envelope failed')
  }

  /** Splits items into those that may be applied and refusals of the others. */
  const check = async (items: readonly Item[], signers: Signers): Promise<Checked> => {
    const good: Item[] = []
    const refused: AddressedReceipt[] = []
    const doubted: Item[] = []
    for (const [index, item] of items.entries()) {
      if (index % perTurn === 0) await turn()
      const code = decide(item, { gatewayId, signerOf: (kid) => signers.get(kid) })
      if (code === null) good.push(item)
      else if (code === 'signature_mismatch') doubted.push(item)
      else {
        disagree(item, code)
        refused.push(addressed(item, refusal(item, code)))
      }
    }
    if (doubted.length === 0) return { good, refused }
    // The key may have been replaced since: what a former one signed counts by the time at which the broker stored it.
    const former = await store.formerKeys([...new Set(doubted.map(({ kid }) => kid))])
    for (const item of doubted) {
      const verdict = judgeFormerKeys(item, former.get(item.kid) ?? [])
      if (verdict === 'good') good.push(item)
      else {
        if (verdict === 'none') disagree(item, 'signature_mismatch')
        refused.push(addressed(item, refusal(item, 'signature_mismatch')))
      }
    }
    return { good, refused }
  }
  const apply = async (kind: AppliedKind, good: readonly Item[]): Promise<AddressedReceipt[]> => {
    if (good.length === 0) return []
    const outcomes = await store.apply(kind, good)
    counts.applied += good.length
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
    sendReceipts([addressed(item, { ...refusal(item, 'internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter, figures: () => ({ ...counts }) }
}
