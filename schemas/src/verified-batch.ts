import Type, { type Static } from '../typebox/index.mjs'
import { Bytes32, Uuid } from './bodies/common.ts'

/** One envelope of a verified batch, as received, with what the verifier's claim recorded. */
export const VerifiedItem = Type.Object(
  {
    lenser: Uuid,
    kid: Uuid,
    digest: Bytes32,
    /** The broker's store time, nanoseconds since 1970, as decimal digits. */
    stored: Type.String({ pattern: '^[0-9]{1,20}$' }),
    /** The canonical text, whose UTF-8 bytes are the bytes received. */
    text: Type.String(),
  },
  { additionalProperties: false },
)
export type VerifiedItem = Static<typeof VerifiedItem>

/** `s`: a string may hold U+2028 and U+2029, which break no line here, and one such envelope must not cost its neighbours. */
const head = /^([0-9a-f-]{36}) ([0-9a-f-]{36}) ([A-Za-z0-9_-]{43}) ([0-9]{1,20}) (\{.*\})$/s

/**
 * One message of `ltg.v1.ok.<kind>`: a line an envelope, `lenser kid digest stored envelope`.
 * Canonical JSON holds no raw line break, so the lines need no escaping and the envelope's bytes stay as they were.
 */
export const encodeVerifiedLine = (item: VerifiedItem): string =>
  `${item.lenser} ${item.kid} ${item.digest} ${item.stored} ${item.text}\n`

/**
 * Reads a verified batch.
 * @throws SyntaxError on any line that is not one; a verifier never writes such.
 */
export const decodeVerifiedBatch = (text: string): VerifiedItem[] => {
  const lines = text.split('\n')
  if (lines.pop() !== '') throw new SyntaxError('a verified batch ends with a line break')
  return lines.map((line, index) => {
    const match = head.exec(line)
    if (match === null) throw new SyntaxError(`line ${index + 1} is not of a verified batch`)
    const [, lenser, kid, digest, stored, envelope] = match as unknown as [
      string,
      string,
      string,
      string,
      string,
      string,
    ]
    return { lenser, kid, digest, stored, text: envelope }
  })
}
