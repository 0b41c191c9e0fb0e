import { CodedError } from '@lenserfight/schemas'
import type { Store } from './store.ts'

/** Numbers what this device signs for the `in` door (protocol.md, Clone detection). */
export interface Counter {
  /**
   * A number above all that were given before, by whichever process has this state folder open, and never given again.
   * @throws CodedError `state_unwritable`
   */
  readonly next: () => number
  /**
   * Makes so many numbers this process's in one durable step, for who signs many at once. No more than are used soon: a copy of the
   * state goes on after what was reserved, and is noticed when the two meet. What a crash leaves unused is a gap, which proves nothing.
   * @throws CodedError `state_unwritable`
   */
  readonly reserve: (count: number) => void
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
  const reserve = (count: number): void => {
    end = store.transaction(() => {
      store.run('UPDATE counter SET reserved = reserved + ?', count)
      return reservedUntil()
    })
    last = end - count
  }
  return {
    reserve,
    next: () => {
      // What was reserved before another process went on is given up: numbers rise over time, whoever signs.
      if (last === end || reservedUntil() !== end) reserve(1)
      last += 1
      return last
    },
  }
}
