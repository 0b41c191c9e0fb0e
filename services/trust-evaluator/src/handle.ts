import { type AddressedReceipt, type Burial, type Disposition, done, type SendReceipts } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest, isUuidV7, judgeFormerKeys, readEnvelope } from '@lenserfight/envelope'
import { type Logger, short } from '@lenserfight/runtime'
import type { ReasonCode, ReceiptItem } from '@lenserfight/schemas'
import type { EvaluatorStore } from './commit.ts'
import { decide } from './decide.ts'
import { appliedKinds, type Item } from './decode.ts'

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
  const check = async (items: readonly Item[]): Promise<{ good: Item[]; refused: AddressedReceipt[] }> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const good: Item[] = []
    const refused: AddressedReceipt[] = []
    const doubted: Item[] = []
    for (const item of items) {
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

  const handle = async (items: readonly Item[]): Promise<readonly Disposition[]> => {
    const { good, refused: receipts } = await check(items)
    for (const kind of appliedKinds) {
      const ofKind = good.filter((item) => item.kind === kind)
      if (ofKind.length === 0) continue
      const outcomes = await store.apply(kind, ofKind)
      receipts.push(...ofKind.map((item, index) => addressed(item, outcomes[index] as ReceiptItem)))
    }
    counts.applied += good.length
    sendReceipts(receipts)
    return items.map(() => done)
  }
  const deadLetter = (item: Item | undefined, { incidentId }: Burial): void => {
    if (item === undefined) return
    sendReceipts([addressed(item, { ...refusal(item, 'internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter, figures: () => ({ ...counts }) }
}
