import fc from 'fast-check'

/** Text that an envelope allows: no lone surrogate, no U+0000. */
export const allowedText = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.replaceAll('\u0000', ''))

const allowedNumber = fc.oneof(
  fc.maxSafeInteger(),
  fc
    .double({ noNaN: true, noDefaultInfinity: true })
    .filter((value) => !Number.isInteger(value) || Number.isSafeInteger(value)),
)

const name = fc.oneof(
  allowedText,
  fc.constantFrom('__proto__', 'constructor', 'toJSON', '10', '9', '01', '', '\\u0000'),
)

const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.oneof(allowedText, allowedNumber, fc.boolean(), fc.constant(null)),
    fc.array(tie('value'), { maxLength: 4 }),
    members(tie('value')),
  ),
}))

/** Any JSON value that an envelope allows. */
export const allowedValue: fc.Arbitrary<unknown> = value

/** Any body that an envelope allows, awkward names included. */
export const allowedBody: fc.Arbitrary<Record<string, unknown>> = members(value)

/** Object.fromEntries makes own properties of all names, where an assignment to `__proto__` would not. */
function members(member: fc.Arbitrary<unknown>): fc.Arbitrary<Record<string, unknown>> {
  return fc.array(fc.tuple(name, member), { maxLength: 4 }).map((entries) => Object.fromEntries(entries))
}
