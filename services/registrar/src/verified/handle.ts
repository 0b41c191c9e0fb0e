import { type AddressedReceipt, type Burial, type Disposition, done, type SendReceipts } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest, judgeFormerKeys, readEnvelope, uuidV7Time } from '@lenserfight/envelope'
import { InfrastructureError, type Logger, short } from '@lenserfight/runtime'
import type { ReasonCode, ReceiptItem } from '@lenserfight/schemas'
import { type Outcome, refused } from '../ask/outcome.ts'
import type { RegistrarStore } from '../store.ts'
import { decide, replacedKey } from './decide.ts'
import type { Item } from './decode.ts'

export interface VerifiedOptions {
  readonly gatewayId: string
  readonly store: RegistrarStore
  readonly sendReceipts: SendReceipts
  readonly logger: Logger
}

/** An item and what it came to; undefined where it is to be judged once more. */
interface Judged {
  readonly item: Item
  readonly outcome: Outcome | undefined
}

/** What passed the registrar's own check. */
interface Passed {
  readonly item: Item
  /** The key in force that signed it; absent where a former key did, which was good when the broker stored it. */
  readonly key?: Uint8Array
}

/** How often a rotation is judged again because the key changed between the check and the commit. */
const mostRounds = 3

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
const receipt = (item: Item, outcome: Outcome & Partial<ReceiptItem>): AddressedReceipt => {
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

/** Applies batches of answered challenges and of rotations: decide, commit, tell. */
export const createVerifiedHandler = ({ gatewayId, store, sendReceipts, logger }: VerifiedOptions) => {
  /** A verifier let through what we refuse: one of us is wrong, and nothing may rest on it. */
  const disagree = ({ kind, kid, digest }: Item, code: ReasonCode): void =>
    logger.error(
      { event: 'verifier_disagrees', code, kind, kid, digest: short(digest) },
      'a verified envelope was refused',
    )

  const check = async (items: readonly Item[]): Promise<{ passed: Passed[]; failed: Judged[] }> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const passed: Passed[] = []
    const failed: Judged[] = []
    const doubted: Item[] = []
    for (const item of items) {
      const code = decide(item, { gatewayId, signerOf: (kid) => signers.get(kid) })
      if (code === null) passed.push({ item, key: signers.get(item.kid)?.publicKey as Uint8Array })
      else if (code === 'signature_mismatch') doubted.push(item)
      else {
        disagree(item, code)
        failed.push({ item, outcome: refused(code) })
      }
    }
    if (doubted.length === 0) return { passed, failed }
    const former = await store.formerKeys([...new Set(doubted.map(({ kid }) => kid))])
    for (const item of doubted) {
      const verdict = judgeFormerKeys(item, former.get(item.kid) ?? [])
      if (verdict === 'good') passed.push({ item })
      else {
        if (verdict === 'none') disagree(item, 'signature_mismatch')
        failed.push({ item, outcome: refused('signature_mismatch') })
      }
    }
    return { passed, failed }
  }

  const postChallenges = async (passed: readonly Passed[]): Promise<Judged[]> => {
    if (passed.length === 0) return []
    const outcomes = await store.postChallenges(passed.map(({ item }) => item.text))
    return passed.map(({ item }, index) => ({ item, outcome: outcomes[index] }))
  }
  /** One device a call: its lock waits for its claims in flight, and should keep nobody else waiting meanwhile. */
  const rotate = async (passed: readonly Passed[]): Promise<Judged[]> => {
    const judged: Judged[] = []
    for (const group of Map.groupBy(passed, ({ item }) => item.kid).values()) {
      const keys = group.map(({ item, key }) => replacedKey(item, gatewayId, key))
      const outcomes = await store.rotate(
        group.map(({ item }) => item.text),
        keys,
      )
      judged.push(...group.map(({ item }, index) => ({ item, outcome: outcomes[index] })))
    }
    return judged
  }
  const judge = async (items: readonly Item[], round: number): Promise<Judged[]> => {
    const { passed, failed } = await check(items)
    const judged = [
      ...failed,
      ...(await postChallenges(passed.filter(({ item }) => item.kind === 'challenge'))),
      ...(await rotate(passed.filter(({ item }) => item.kind === 'rotate'))),
    ]
    const again = judged.filter(({ outcome }) => outcome === undefined)
    if (again.length === 0) return judged
    if (round === mostRounds) throw new InfrastructureError('a device changes its keys faster than they can be read')
    const rest = await judge(
      again.map(({ item }) => item),
      round + 1,
    )
    return [...judged.filter(({ outcome }) => outcome !== undefined), ...rest]
  }

  const handle = async (items: readonly Item[]): Promise<readonly Disposition[]> => {
    const judged = await judge(items, 1)
    sendReceipts(judged.map(({ item, outcome }) => receipt(item, outcome as Outcome)))
    return items.map(() => done)
  }
  const deadLetter = (item: Item | undefined, { incidentId }: Burial): void => {
    if (item !== undefined) sendReceipts([receipt(item, { ...refused('internal_error'), incident_id: incidentId })])
  }
  return { handle, deadLetter }
}
