import { setImmediate as turn } from 'node:timers/promises'
import {
  encodeBase64Url,
  envelopeDigest,
  type FormerKey,
  isUuidV7,
  judgeFormerKeys,
  readEnvelope,
} from '@lenserfight/envelope'
import { type Logger, short } from '@lenserfight/runtime'
import {
  decodeVerifiedBatch,
  type KindName,
  okSubject,
  type ReasonCode,
  type ReceiptItem,
  type VerifiedItem,
} from '@lenserfight/schemas'
import type { Delivery } from './consume/types.ts'

/** One verified envelope and the kind of its batch. */
export interface VerifiedMessage<K extends KindName = KindName> extends VerifiedItem {
  readonly kind: K
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Reads messages of the verified stream that are batches of these kinds.
 * @throws SyntaxError or TypeError on what no verifier writes: the message is put aside
 */
export const decodeVerified = <K extends KindName>(applied: readonly K[]) => {
  const kindOfSubject = new Map(applied.map((kind) => [okSubject(kind), kind]))
  return ({ subject, data }: Pick<Delivery, 'subject' | 'data'>): VerifiedMessage<K>[] => {
    const kind = kindOfSubject.get(subject)
    if (kind === undefined) throw new SyntaxError(`nothing here applies ${subject}`)
    return decodeVerifiedBatch(utf8.decode(data)).map((item) => ({ ...item, kind }))
  }
}

/**
 * A refusal of what came to no outcome in the database. It names the digest of these very bytes, whatever the batch
 * says: whoever can write one would else have us end, for good, an envelope of the device's that we never saw.
 */
export const refusalOf = ({ text }: Pick<VerifiedItem, 'text'>, code: ReasonCode): ReceiptItem => {
  const digest = encodeBase64Url(envelopeDigest(Buffer.from(text)))
  const read = readEnvelope(text)
  const op_id = read.ok ? read.envelope.body.op_id : undefined
  return { digest, ok: false, code, ...(isUuidV7(op_id) ? { op_id: op_id as string } : {}) }
}

/** What may be applied, and what may not and why. */
export interface Checked<Item> {
  readonly good: readonly Item[]
  /** Those of the good that a former key signed, which was in force when the broker stored them. */
  readonly former: ReadonlySet<Item>
  readonly refused: readonly { readonly item: Item; readonly code: ReasonCode }[]
}

export interface RecheckOptions {
  /** The keys that these devices had before, as far as something that they signed may still be under way. */
  readonly formerKeys: (kids: readonly string[]) => Promise<ReadonlyMap<string, readonly FormerKey[]>>
  readonly logger: Logger
}

export interface Recheck {
  /** Judges items by an applier's own `decide`, and what the key in force did not sign by the keys before it. */
  readonly check: <Item extends VerifiedMessage>(
    items: readonly Item[],
    decide: (item: Item) => ReasonCode | null,
  ) => Promise<Checked<Item>>
  /** Envelopes that a verifier let through and that were refused: anything but 0 is an alarm. */
  readonly disagreements: () => number
}

/** Checked in one go: between, what is on its way to the database goes on. */
const perTurn = 32

/** An applier's second look at what a verifier let through (law 5), and the alarm where the two differ. */
export const createRecheck = ({ formerKeys, logger }: RecheckOptions): Recheck => {
  let disagreements = 0
  const disagree = ({ kind, kid, digest }: VerifiedMessage, code: ReasonCode): void => {
    disagreements += 1
    // One of the two is wrong or lying, so nothing may rest on it (trust.md, rule 12).
    logger.error({ event: 'verifier_disagrees', code, kind, kid, digest: short(digest) }, 'a verified envelope failed')
  }
  const check: Recheck['check'] = async (items, decide) => {
    type Item = (typeof items)[number]
    const good: Item[] = []
    const former = new Set<Item>()
    const refused: { item: Item; code: ReasonCode }[] = []
    const doubted: Item[] = []
    for (const [index, item] of items.entries()) {
      if (index % perTurn === 0) await turn()
      const code = decide(item)
      if (code === null) good.push(item)
      else if (code === 'signature_mismatch') doubted.push(item)
      else {
        disagree(item, code)
        refused.push({ item, code })
      }
    }
    if (doubted.length === 0) return { good, former, refused }
    // The key may have been replaced since: what a former one signed counts by the time at which the broker stored it.
    const keys = await formerKeys([...new Set(doubted.map(({ kid }) => kid))])
    for (const item of doubted) {
      const verdict = judgeFormerKeys(item, keys.get(item.kid) ?? [])
      if (verdict === 'good') {
        good.push(item)
        former.add(item)
      } else {
        if (verdict === 'none') disagree(item, 'signature_mismatch')
        refused.push({ item, code: 'signature_mismatch' })
      }
    }
    return { good, former, refused }
  }
  return { check, disagreements: () => disagreements }
}
