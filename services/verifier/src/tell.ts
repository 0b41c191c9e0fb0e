import type { AddressedReceipt } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
import { limits, parseDoorSubject } from '@lenserfight/schemas'
import type { Received, Refused } from './decide.ts'

const detailChars = 300

const receiptOf = ({ subject, received, code, detail, opId }: Refused): AddressedReceipt => ({
  lenser: subject.lenser,
  kid: subject.kid,
  item: {
    digest: encodeBase64Url(envelopeDigest(received.data)),
    ok: false,
    code,
    ...(detail === undefined ? {} : { detail: detail.slice(0, detailChars).toWellFormed() }),
    ...(opId === undefined ? {} : { op_id: opId }),
  },
})

/**
 * Receipts for what was refused. Those for which nobody proved a signature are as many as `allow` lets pass: whoever can
 * write to a device's subject must not make the gateway sign at will. What gets none is sent again by its sender.
 */
export const receiptsFor = (refused: readonly Refused[], allow: () => boolean): AddressedReceipt[] =>
  refused.filter(({ proven }) => proven || allow()).map(receiptOf)

/** How many receipts a second go out for unproven messages, from one process. */
export const unprovenPerSecond: number = limits.unprovenPerSecond

/** The receipt for a message that was put aside; none where its subject names nobody. */
export const incidentReceipt = (
  { subject, data }: Pick<Received, 'subject' | 'data'>,
  incidentId: string,
): AddressedReceipt[] => {
  const names = parseDoorSubject(subject)
  if (names === undefined) return []
  const digest = encodeBase64Url(envelopeDigest(data))
  return [
    {
      lenser: names.lenser,
      kid: names.kid,
      item: { digest, ok: false, code: 'internal_error', incident_id: incidentId },
    },
  ]
}
