import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { writePrivateFile } from '@lenserfight/keychain'

const tokenBytes = 32

/** What a program shows to read the pages that are not everybody's. Only this user can read the file that it is in. */
export interface PageToken {
  /** Whether an `Authorization` header shows it. Takes as long for one that is nearly right as for any other. */
  readonly isIn: (header: string | undefined) => boolean
  /** Takes the file away, unless another daemon's token is in it: one that has another folder of this name by then. */
  readonly revoke: () => void
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

const holds = (file: string, text: string): boolean => {
  try {
    return readFileSync(file, 'utf8') === text
  } catch {
    return false
  }
}

/**
 * Makes a token for as long as this daemon runs, and writes it to a file (0600), whole or not at all. Anew each time: one
 * that was shown to whoever took the port of a dead daemon opens nothing.
 * @throws CodedError `state_unwritable`
 */
export const createPageToken = (file: string): PageToken => {
  const token = randomBytes(tokenBytes).toString('base64url')
  const expected = digest(`Bearer ${token}`)
  const text = `${token}\n`
  writePrivateFile(file, text)
  return {
    isIn: (header) => header !== undefined && timingSafeEqual(digest(header), expected),
    revoke: () => {
      if (holds(file, text)) rmSync(file, { force: true })
    },
  }
}
