const minute = 60
const hour = 3600
const day = 86_400

const counted = (count: number, unit: string): string => `${count} ${unit}${count === 1 ? '' : 's'}`

/** Whole days, for people. @param length seconds */
export const daysOf = (length: number): string => counted(Math.floor(Math.max(0, length) / day), 'day')

/** A length of time in its largest fitting unit, for people. @param length seconds */
export const spanOf = (length: number): string => {
  if (length < 2 * minute) return `${Math.round(length)} s`
  if (length < 2 * hour) return `${Math.round(length / minute)} min`
  return length < 2 * day ? `${Math.round(length / hour)} h` : counted(Math.round(length / day), 'day')
}
