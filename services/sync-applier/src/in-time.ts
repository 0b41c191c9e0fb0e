import { tookTooLong } from '@lenserfight/db'
import { CodedError } from '@lenserfight/schemas'
import type { Item } from './decode.ts'

/** How often one that is too much by itself is tried; and how many such are remembered. */
const most = { tries: 3, remembered: 1024 }

export type Apply<T> = (items: readonly Item[]) => Promise<readonly T[]>

/**
 * Applies as many at a time as the database gets done: what nobody is to blame for would be tried for ever, and hold up everybody.
 * One that is too much by itself is tried so often, from then on alone, and then fails by itself: `internal_error`.
 */
export const createInTime = () => {
  const tries = new Map<string, number>()
  const triesOf = ({ digest }: Item): number => tries.get(digest) ?? 0
  const note = (item: Item): number => {
    const count = triesOf(item) + 1
    tries.delete(item.digest)
    tries.set(item.digest, count)
    for (const oldest of tries.keys()) {
      if (tries.size <= most.remembered) break
      tries.delete(oldest)
    }
    return count
  }
  const givenUp = (cause?: unknown) => new CodedError('internal_error', 'it takes the database too long', { cause })
  const alone = async <T>(item: Item, apply: Apply<T>): Promise<readonly T[]> => {
    if (triesOf(item) >= most.tries) throw givenUp()
    try {
      const done = await apply([item])
      tries.delete(item.digest)
      return done
    } catch (error) {
      if (tookTooLong(error) && note(item) >= most.tries) throw givenUp(error)
      throw error
    }
  }
  const inTime = async <T>(items: readonly Item[], apply: Apply<T>): Promise<readonly T[]> => {
    const [first] = items
    if (first === undefined) return []
    if (items.length === 1) return alone(first, apply)
    const split = async (at: number): Promise<readonly T[]> => [
      ...(await inTime(items.slice(0, at), apply)),
      ...(await inTime(items.slice(at), apply)),
    ]
    const suspect = items.findIndex((item) => triesOf(item) > 0)
    if (suspect >= 0) return split(Math.max(suspect, 1))
    try {
      return await apply(items)
    } catch (error) {
      if (!tookTooLong(error)) throw error
    }
    return split(Math.ceil(items.length / 2))
  }
  return inTime
}
