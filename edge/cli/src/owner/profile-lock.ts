import { setTimeout as sleep } from 'node:timers/promises'
import { tryLock } from '@lenserfight/daemon/client'
import { ensurePrivateFolder } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'

/** How long another that signs in or out is waited for, milliseconds. */
const waitMs = 10_000
const lookMs = 50

/**
 * Does something while nobody else signs in or out in this profile: of two at once, one would forget the key that the
 * other had just become a session with. A lock of a process that was killed ended with it.
 * @throws CodedError `profile_busy` where another is still at it when the time is up
 */
export const holdProfile = async <T>(
  { edge }: Pick<Context, 'edge'>,
  act: () => Promise<T>,
  deadlineMs = waitMs,
): Promise<T> => {
  ensurePrivateFolder(edge.profileFolder)
  for (const end = performance.now() + deadlineMs; ; await sleep(lookMs)) {
    const unlock = tryLock(edge.profileLockFile)
    if (unlock === undefined) {
      if (performance.now() >= end) throw new CodedError('profile_busy')
      continue
    }
    try {
      return await act()
    } finally {
      unlock()
    }
  }
}
