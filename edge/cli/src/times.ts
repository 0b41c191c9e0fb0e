import { spanOf } from '@lenserfight/daemon/span'

// Times as people write and read them. Nothing here knows a time zone but UTC.

const seconds = { s: 1, m: 60, h: 3600, d: 24 * 3600, w: 7 * 24 * 3600 } as const
const durationForm = /^(\d{1,6})\s*([smhdw])$/

/**
 * A length of time such as `15m`, `2h` or `3d`.
 * @returns seconds
 * @throws RangeError
 */
export const readDuration = (text: string): number => {
  const [, count, unit] = durationForm.exec(text.trim()) ?? []
  if (count === undefined)
    throw new RangeError(`a length of time is a number and s, m, h, d or w, as in 15m, not ${text}`)
  return Number(count) * seconds[unit as keyof typeof seconds]
}

const isoForm = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/
const zoneForm = /(Z|[+-]\d{2}:?\d{2})$/

const readAgo = (text: string): number => {
  try {
    return readDuration(text)
  } catch {
    throw new RangeError(`a time is as in 2026-11-20T08:30 (UTC), or how long ago as in 2h or 3d, not ${text}`)
  }
}

/**
 * A time that has passed: ISO 8601, in UTC where it names no zone, or how long ago, such as `2h` or `3d ago`.
 * @returns Unix seconds
 * @throws RangeError
 */
export const readPastTime = (text: string, now = Date.now()): number => {
  const given = text.trim()
  const ago = /^(.*?)(\s+ago)?$/.exec(given)?.[1] as string
  const time = isoForm.test(given)
    ? Date.parse(zoneForm.test(given) || given.length === 10 ? given : `${given}Z`) / 1000
    : now / 1000 - readAgo(ago)
  if (!Number.isFinite(time)) throw new RangeError(`there is no such time: ${text}`)
  if (time > now / 1000) throw new RangeError(`${text} has not come yet`)
  if (time < 0) throw new RangeError(`${text} is too long ago`)
  return Math.floor(time)
}

/** A time as people read it, to the minute. */
export const timeOf = (unixSeconds: number): string =>
  `${new Date(unixSeconds * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`

/** How long ago, or in how long. */
export const relativeTo = (unixSeconds: number, now = Date.now()): string => {
  const left = unixSeconds - now / 1000
  return left > 0 ? `in ${spanOf(left)}` : `${spanOf(-left)} ago`
}
