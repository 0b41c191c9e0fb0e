import {
  checkForm,
  checkSigner,
  decodeKey,
  type Envelope,
  type EnvelopeBody,
  kidOfKey,
  type Message,
} from '@lenserfight/envelope'
import {
  type AnswerBody,
  type ChangeBody,
  CodedError,
  checkBody,
  type Descriptor,
  type GatewayKey,
  type KeysBody,
  type KeyUse,
  type ReceiptBody,
} from '@lenserfight/schemas'

/** One key of the gateway, as the root vouches for it. */
export interface TrustedKey extends Omit<GatewayKey, 'public_key'> {
  /** Raw 32 bytes. */
  readonly publicKey: Uint8Array
}

/** The gateway's keys at one number. Trust is a value: it is handed to whoever checks with it. */
export interface KeyList {
  readonly gatewayId: string
  /** A higher number replaces a lower; who holds one never goes back. */
  readonly number: number
  readonly keys: ReadonlyMap<string, TrustedKey>
}

const untrusted = (detail: string): CodedError => new CodedError('signer_untrusted', detail)

interface Expected {
  readonly kind: string
  readonly gatewayId: string
}

const readMessage = (bytes: Uint8Array, { kind, gatewayId }: Expected): Message => {
  const form = checkForm(bytes, { kid: null, kind, gatewayId, isSupported: (name) => name === kind, checkBody })
  if (!form.ok) throw untrusted(`${form.code}: ${form.detail}`)
  return form.message
}

/**
 * Reads the gateway's key list, checking the root key's signature (protocol.md, Trust in the gateway).
 * @param bytes the canonical envelope of kind `keys`
 * @param descriptor what the edge pinned
 * @throws CodedError `signer_untrusted`
 */
export const verifyKeyList = (
  bytes: Uint8Array | string,
  { gateway_id, root_key }: Pick<Descriptor, 'gateway_id' | 'root_key'>,
): KeyList => {
  const message = readMessage(Buffer.from(bytes), { kind: 'keys', gatewayId: gateway_id })
  const publicKey = decodeKey(root_key)
  const root = { kid: kidOfKey(publicKey), lenserId: null, publicKey }
  const refusal = checkSigner(message, root, null)
  if (refusal !== null) throw untrusted('the key list is not signed by the root key')
  const { number, keys } = message.envelope.body as unknown as KeysBody
  return { gatewayId: gateway_id, number, keys: new Map(keys.map((key) => [key.kid, trustedKey(key)])) }
}

const trustedKey = ({ public_key, ...key }: GatewayKey): TrustedKey => {
  const publicKey = decodeKey(public_key)
  // A kid is the hash of its key: a list that says otherwise is broken, whoever signed it.
  if (kidOfKey(publicKey) !== key.kid) throw untrusted('a kid of the key list is not that of its key')
  return { ...key, publicKey }
}

/** The bodies that the gateway sends to edges. */
export interface GatewayBodies {
  receipt: ReceiptBody
  change: ChangeBody
  answer: AnswerBody
}

export interface GatewayExpectations<Kind extends keyof GatewayBodies> {
  readonly kind: Kind
  readonly use: KeyUse
  /** The key id of the one addressed: a message to another is not ours, whoever signed it. */
  readonly to: string
  /** Unix milliseconds, for the keys' validity. */
  readonly now: number
}

/**
 * Reads a message in the gateway's name: signed by a key on the list, for this use, within its time, and to us. With
 * whose key it was, by the root's word: of a receipt, that decides what counts (`mayConclude`).
 * @throws CodedError `signer_untrusted`
 */
export const openGatewayMessage = <Kind extends keyof GatewayBodies>(
  bytes: Uint8Array,
  list: KeyList,
  { kind, use, to, now }: GatewayExpectations<Kind>,
): { body: GatewayBodies[Kind]; service: string } => {
  const message = readMessage(bytes, { kind, gatewayId: list.gatewayId })
  const { envelope }: { envelope: Envelope<EnvelopeBody> } = message
  const key = list.keys.get(envelope.kid)
  if (key === undefined) throw untrusted('the key is not on the list')
  if (!key.uses.includes(use)) throw untrusted(`the key is not for the use ${use}`)
  const seconds = now / 1000
  if (seconds < key.not_before || seconds > key.not_after) throw untrusted('the key is not valid now')
  if (checkSigner(message, { kid: key.kid, lenserId: null, publicKey: key.publicKey }, null) !== null) {
    throw untrusted('the signature does not verify')
  }
  const body = envelope.body as unknown as GatewayBodies[Kind]
  if (body.to !== to) throw untrusted('the message is addressed to another')
  return { body, service: key.service }
}

/** `openGatewayMessage`, for whom it is enough that the gateway says it. */
export const verifyGatewayMessage = <Kind extends keyof GatewayBodies>(
  bytes: Uint8Array,
  list: KeyList,
  expected: GatewayExpectations<Kind>,
): GatewayBodies[Kind] => openGatewayMessage(bytes, list, expected).body
