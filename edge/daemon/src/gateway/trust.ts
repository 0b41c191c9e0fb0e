import { type GatewayBodies, type KeyList, openGatewayMessage, verifyKeyList } from '@lenserfight/bus/edge'
import { readEnvelope } from '@lenserfight/envelope'
import { CodedError, type Descriptor } from '@lenserfight/schemas'

/** The gateway's keys as this machine knows them: a list counts only with the signature of the root key that was pinned. */
export interface GatewayTrust {
  readonly descriptor: Descriptor
  /** The number of the list, 0 where there is none yet. */
  readonly keysNumber: () => number
  /**
   * Takes a newer key list. What is not signed by the root key, and what is older, changes nothing.
   * @returns whether it was taken
   */
  readonly offerKeys: (text: string) => boolean
  /**
   * The body of a message that the gateway signed for this key id, and which of its services did.
   * @throws CodedError `signer_untrusted`
   */
  readonly open: <K extends keyof GatewayBodies>(kind: K, bytes: Uint8Array, to: string) => Opened<K>
}

interface Opened<K extends keyof GatewayBodies> {
  readonly body: GatewayBodies[K]
  readonly service: string
}

export interface TrustOptions {
  readonly descriptor: Descriptor
  /** The list that is on disk. */
  readonly keys: string | undefined
  /**
   * Keeps what `choose` makes of the list that is on disk by then, if anything, in one step: daemon and command line both
   * keep lists, and neither takes the other back to an older one.
   */
  readonly onKeys: (choose: (kept: string | undefined) => string | undefined) => void
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

/** A key list that an answer carries. It is read before the answer is trusted, because its own signature is the root's. */
const carriedKeys = (bytes: Uint8Array): string | undefined => {
  const read = readEnvelope(bytes)
  if (!read.ok) return undefined
  const { result } = read.envelope.body as { result?: { keys?: unknown } }
  return typeof result?.keys === 'string' ? result.keys : undefined
}

export const createTrust = ({ descriptor, keys, onKeys, now = Date.now }: TrustOptions): GatewayTrust => {
  let list: KeyList | undefined
  /** A list that the disk did not take: it counts, and is kept as soon as the disk takes it. */
  let unkept: { text: string; next: KeyList } | undefined
  const read = (text: string): KeyList | undefined => {
    try {
      return verifyKeyList(text, descriptor)
    } catch (error) {
      if (error instanceof CodedError) return undefined
      throw error
    }
  }
  if (keys !== undefined) list = read(keys)
  const offerKeys = (text: string): boolean => {
    const next = read(text)
    if (next === undefined || next.number <= (list?.number ?? 0)) return false
    unkept = { text, next }
    keep(unkept)
    return list === next
  }
  const keep = ({ text, next }: { text: string; next: KeyList }): void => {
    onKeys((kept) => {
      const known = kept === undefined ? undefined : read(kept)
      list = known !== undefined && known.number >= next.number ? known : next
      return list === next ? text : undefined
    })
    unkept = undefined
  }
  const keepAgain = (): void => {
    try {
      if (unkept !== undefined) keep(unkept)
    } catch (error) {
      // Who offered it was told already; nobody is kept from what the gateway says for it.
      if (!(error instanceof CodedError) || error.code !== 'state_unwritable') throw error
    }
  }
  const verify = <K extends keyof GatewayBodies>(kind: K, bytes: Uint8Array, to: string): Opened<K> => {
    if (list === undefined) throw new CodedError('signer_untrusted', 'no key list yet')
    // Who says what became of a push says that there is something to pull.
    const use = kind === 'change' ? 'receipt' : (kind as 'receipt' | 'answer')
    return openGatewayMessage(bytes, list, { kind, use, to, now: now() })
  }
  return {
    descriptor,
    keysNumber: () => list?.number ?? 0,
    offerKeys,
    open: (kind, bytes, to) => {
      const carried = kind === 'answer' ? carriedKeys(bytes) : undefined
      keepAgain()
      if (carried !== undefined) offerKeys(carried)
      return verify(kind, bytes, to)
    },
  }
}
