import { checkForm, checkSigner, envelopeDigest, type PublicKey, readEnvelope } from '@lenserfight/envelope'
import { checkBody, kindsOf, limits } from '@lenserfight/schemas'

/** Two envelopes under one key that contradict each other, as the database found them. */
export interface Suspicion {
  readonly deviceId: string
  readonly lenserId: string
  /** Which of the device's keys both must verify under, and that key. */
  readonly keyNumber: number
  readonly publicKey: PublicKey
  /** Canonical texts, by store time. */
  readonly earlier: string
  readonly later: string
}

/** What a suspicion comes to: proven, or not, with the digests of those envelopes that the device never signed. */
export type ForkVerdict =
  | { readonly isProven: true }
  | { readonly isProven: false; readonly forged: readonly Uint8Array[] }

interface Counted {
  readonly counter: number
  readonly iat: number
}

const ingressKinds: readonly string[] = kindsOf('in')
/** What the window of RP-1, at both ends, leaves of the time after which counters are settled. Seconds. */
const leastLater = limits.counterSettleSeconds - 2 * limits.iatWindowSeconds

/** The counter of an envelope that this very key signed for this gateway's `in` door, or undefined. */
const readCounted = (text: string, suspicion: Suspicion, gatewayId: string): Counted | undefined => {
  const read = readEnvelope(text)
  if (!read.ok) return undefined
  const { deviceId: kid, lenserId, publicKey } = suspicion
  const isSupported = (kind: string): boolean => ingressKinds.includes(kind)
  const form = checkForm(read.bytes, { kid, kind: String(read.envelope.body.kind), gatewayId, isSupported, checkBody })
  if (!form.ok || checkSigner(form.message, { kid, lenserId, publicKey }, lenserId) !== null) return undefined
  return { counter: form.message.envelope.body.counter as number, iat: form.message.envelope.iat }
}

/**
 * Judges a suspicion anew, by its bytes and the key alone (law 5, law 8): both envelopes are the device's, and no single honest
 * signer makes both. That is one counter twice, or a lower counter signed later by the signer's own clock. Pure.
 */
export const judgeFork = (suspicion: Suspicion, gatewayId: string): ForkVerdict => {
  const { earlier, later } = suspicion
  const [before, after] = [earlier, later].map((text) => readCounted(text, suspicion, gatewayId))
  if (before === undefined || after === undefined) {
    const forged = [before === undefined ? [earlier] : [], after === undefined ? [later] : []].flat()
    return { isProven: false, forged: forged.map((text) => envelopeDigest(Buffer.from(text))) }
  }
  const isTwice = earlier !== later && before.counter === after.counter
  const isBelow = after.counter < before.counter && after.iat >= before.iat + leastLater
  return isTwice || isBelow ? { isProven: true } : { isProven: false, forged: [] }
}
