import { type describeKey, fingerprintOf } from '@lenserfight/daemon/client'
import { daysOf } from '@lenserfight/daemon/span'
import { limits } from '@lenserfight/schemas'
import { fingerprintWords } from './fingerprint.ts'
import { relativeTo } from './times.ts'

/** What is known of a key. Times are Unix seconds; null is not known. */
export type KeyReport = ReturnType<typeof describeKey>

const daySeconds = 86_400

const dayOf = (seconds: number): string => new Date(seconds * 1000).toISOString().slice(0, 10)

/** When a key ends or ended. Times are Unix seconds. */
export const endOf = (expiresAt: number, now: number): string =>
  expiresAt <= now
    ? `ended ${relativeTo(expiresAt, now * 1000)}`
    : `ends ${dayOf(expiresAt)}, ${relativeTo(expiresAt, now * 1000)}`

/** A key as its owner recognizes it; the gateway shows the same fingerprint and words. @param now Unix seconds */
export const linesOfKey = (
  publicKey: string,
  { number, since, expires_at }: Pick<KeyReport, 'number' | 'since' | 'expires_at'>,
  now = Date.now() / 1000,
): string[] => [
  `Key      ${fingerprintOf(publicKey)}`,
  `Words    ${fingerprintWords(publicKey)}`,
  ...(number === null ? [] : [`Number   ${number}`]),
  ...(since === null ? [] : [`Age      ${daysOf(now - since)}, since ${dayOf(since)}`]),
  ...(expires_at === null ? [] : [`End      ${endOf(expires_at, now)}`]),
]

/** What people are told of a key's end once it is near; undefined before. @param now Unix seconds */
export const warningOfKey = (
  { expires_at, changing }: Pick<KeyReport, 'expires_at' | 'changing'>,
  now = Date.now() / 1000,
): string | undefined => {
  if (expires_at === null || expires_at - now > limits.keyWarnDays * daySeconds) return undefined
  const what = changing.length > 0 ? 'another is on its way' : 'the daemon rotates it, or `lf gateway identity rotate`'
  return `${endOf(expires_at, now)}: ${what}`
}
