import { CodedError } from '@lenserfight/schemas'
import type { Store } from './store.ts'

/** Counters reserved in one durable step. Those of a block that a crash leaves unused are never used: gaps prove nothing. */
const blockSize = 256

/** Numbers what this device signs for the `in` door (protocol.md, Clone detection). */
export interface Counter {
  /**
   * A number above all that were given before, by whichever process has this state folder open, and never given again.
   * @throws CodedError `state_unwritable`
   */
  readonly next: () => number
}

/** A counter kept in the state: what it gives is on the disk as used before anything is signed with it. */
export const createCounter = (store: Store): Counter => {
  let last = 0
  let end = 0

  const reservedUntil = (): number => {
    const row = store.get<{ reserved: number }>('SELECT reserved FROM counter')
    if (row === undefined) throw new CodedError('state_unwritable', 'the counter is missing')
    return row.reserved
  }
  const reserve = (): void => {
    end = store.transaction(() => {
      store.run('UPDATE counter SET reserved = reserved + ?', blockSize)
      return reservedUntil()
    })
    last = end - blockSize
  }
  return {
    next: () => {
      // A block that another process has passed is given up: numbers rise over time, whoever signs.
      if (last === end || reservedUntil() !== end) reserve()
      last += 1
      return last
    },
  }
}
