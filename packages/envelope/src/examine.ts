/**
 * What an envelope allows of JSON is less than JSON: protocol.md, "The envelope on the wire". One walk over the parsed
 * value answers that, and on the way whether every object's members already come in canonical order.
 */
export const finding = {
  /** Allowed, and every object's members enumerate in the order of RFC 8785. */
  ordered: 0,
  /** Allowed, but some object's members do not enumerate in that order. */
  unordered: 1,
  tooDeep: 2,
  badNumber: 3,
  badText: 4,
} as const

export type Finding = (typeof finding)[keyof typeof finding]

/**
 * @param value what JSON.parse returned
 * @param levels how many levels of arrays and objects are allowed, this one included
 * @param lookAtText whether strings need looking at: false where the JSON text holds no `\u` escape, since UTF-8 that
 * was checked cannot hold a lone surrogate, and JSON cannot hold a bare U+0000
 */
export function examine(value: unknown, levels: number, lookAtText: boolean): Finding {
  switch (typeof value) {
    case 'number':
      return isAllowedNumber(value) ? finding.ordered : finding.badNumber
    case 'string':
      return lookAtText && !isAllowedText(value) ? finding.badText : finding.ordered
    case 'object':
      if (value === null) return finding.ordered
      if (levels === 0) return finding.tooDeep
      return Array.isArray(value)
        ? examineItems(value, levels - 1, lookAtText)
        : examineMembers(value as Record<string, unknown>, levels - 1, lookAtText)
    default:
      return finding.ordered
  }
}

function examineItems(items: readonly unknown[], levels: number, lookAtText: boolean): Finding {
  let found: Finding = finding.ordered
  for (const item of items) {
    const next = examine(item, levels, lookAtText)
    if (next > finding.unordered) return next
    if (next > found) found = next
  }
  return found
}

function examineMembers(members: Record<string, unknown>, levels: number, lookAtText: boolean): Finding {
  let found: Finding = finding.ordered
  let previous: string | undefined
  for (const key in members) {
    if (lookAtText && !isAllowedText(key)) return finding.badText
    // `<` on strings compares UTF-16 code units, which is RFC 8785's order (§3.2.3).
    if (previous !== undefined && key < previous) found = finding.unordered
    previous = key
    const next = examine(members[key], levels, lookAtText)
    if (next > finding.unordered) return next
    if (next > found) found = next
  }
  return found
}

/** PostgreSQL's jsonb cannot hold U+0000, nor UTF-8 a lone surrogate. */
function isAllowedText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\u0000')
}

/** Two integers beyond 2^53 - 1 can read as one, so no two parties need agree on them. */
function isAllowedNumber(value: number): boolean {
  return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))
}
