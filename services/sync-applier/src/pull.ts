import type { ReceiptItem } from '@lenserfight/schemas'
import type { Item } from './decode.ts'
import type { ApplierStore } from './store.ts'

/** Pulls that one call answers: each may be given a page of 192 KiB, and its device's cursors are locked until all are. */
const mostAtOnce = 32

/** Answers pulls that were checked, part by part; what each is told, in their order. */
export const answerPulls = async (
  store: Pick<ApplierStore, 'pull'>,
  items: readonly Item[],
): Promise<readonly ReceiptItem[]> => {
  const outcomes: ReceiptItem[] = []
  for (let from = 0; from < items.length; from += mostAtOnce) {
    outcomes.push(...(await store.pull(items.slice(from, from + mostAtOnce))))
  }
  return outcomes
}
