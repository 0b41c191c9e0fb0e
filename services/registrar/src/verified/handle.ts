import {
  type AddressedReceipt,
  type Burial,
  createRecheck,
  type Disposition,
  done,
  refusalOf,
  type SendReceipts,
} from '@lenserfight/bus'
import { InfrastructureError, type Logger } from '@lenserfight/runtime'
import type { ReceiptItem } from '@lenserfight/schemas'
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

const receipt = (item: Item, outcome: Outcome & Partial<ReceiptItem>): AddressedReceipt => {
  const { digest, op_id } = refusalOf(item, 'internal_error')
  return {
    ...{ lenser: item.lenser, kid: item.kid },
    item: { digest, ...outcome, ...(op_id === undefined ? {} : { op_id }) },
  }
}

/** Applies batches of answered challenges and of rotations: decide, commit, tell. */
export const createVerifiedHandler = ({ gatewayId, store, sendReceipts, logger }: VerifiedOptions) => {
  const recheck = createRecheck({ formerKeys: store.formerKeys, logger })
  const check = async (items: readonly Item[]): Promise<{ passed: Passed[]; failed: Judged[] }> => {
    const signers = await store.signers([...new Set(items.map(({ kid }) => kid))])
    const facts = { gatewayId, signerOf: (kid: string) => signers.get(kid) }
    const { good, former, refused: failed } = await recheck.check(items, (item) => decide(item, facts))
    const passed = good.map((item) => {
      const key = former.has(item) ? undefined : signers.get(item.kid)?.publicKey
      return key === undefined ? { item } : { item, key }
    })
    return { passed, failed: failed.map(({ item, code }) => ({ item, outcome: refused(code) })) }
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
