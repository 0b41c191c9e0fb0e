import { type AddressedReceipt, type Burial, type Disposition, done, type SendReceipts } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest, readEnvelope, uuidV7Time } from '@lenserfight/envelope'
import { type Logger, short } from '@lenserfight/runtime'
import type { ReceiptItem, VerifiedItem } from '@lenserfight/schemas'
import { type Outcome, refused } from '../ask/outcome.ts'
import type { RegistrarStore } from '../store.ts'
import { decide } from './decide.ts'

export interface ChallengeOptions {
  readonly gatewayId: string
  readonly store: RegistrarStore
  readonly sendReceipts: SendReceipts
  readonly logger: Logger
}

/** The op_id of a text that a verifier let through; undefined where it is none. */
const opIdOf = (text: string): string | undefined => {
  const read = readEnvelope(text)
  const { op_id } = read.ok ? read.envelope.body : {}
  return typeof op_id === 'string' && uuidV7Time(op_id) !== null ? op_id : undefined
}

/**
 * It names the digest of these very bytes, whatever the batch says: whoever can write one would else have us end, for
 * good, an envelope of the device's that we never saw.
 */
const receipt = (item: VerifiedItem, outcome: Outcome & Partial<ReceiptItem>): AddressedReceipt => {
  const op_id = opIdOf(item.text)
  return {
    lenser: item.lenser,
    kid: item.kid,
    item: {
      digest: encodeBase64Url(envelopeDigest(Buffer.from(item.text))),
      ...outcome,
      ...(op_id === undefined ? {} : { op_id }),
    },
  }
}

/** Applies batches of answered challenges: decide, commit, tell. */
export const createChallengeHandler = ({ gatewayId, store, sendReceipts, logger }: ChallengeOptions) => {
  const handle = async (items: readonly VerifiedItem[]): Promise<readonly Disposition[]> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const decisions = items.map((item) => decide(item, { gatewayId, signerOf: (kid) => signers.get(kid) }))
    for (const [index, code] of decisions.entries()) {
      if (code === null) continue
      // A verifier let through what we refuse: one of us is wrong, and nothing may rest on it.
      const { kid, digest } = items[index] as VerifiedItem
      logger.error({ event: 'verifier_disagrees', code, kid, digest: short(digest) }, 'a verified envelope was refused')
    }
    const good = items.filter((_, index) => decisions[index] === null)
    const applied = good.length === 0 ? [] : await store.postChallenges(good.map(({ text }) => text))
    const outcomes = applied.values()
    sendReceipts(
      items.map((item, index) => {
        const code = decisions[index] ?? null
        return receipt(item, code === null ? (outcomes.next().value as Outcome) : refused(code))
      }),
    )
    return items.map(() => done)
  }
  const deadLetter = (item: VerifiedItem | undefined, { incidentId }: Burial): void => {
    if (item !== undefined) sendReceipts([receipt(item, { ...refused('internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter }
}
