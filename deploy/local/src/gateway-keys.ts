import { encodeKey, generateKeyPair, kidOfKey, type SigningKey, signEnvelope } from '@lenserfight/envelope'
import type { GatewayKey, KeysBody, KeyUse, ServiceName } from '@lenserfight/schemas'

/** What each service may sign with its key; services without an entry sign nothing. */
const usesOf: Partial<Record<ServiceName, readonly KeyUse[]>> = {
  registrar: ['receipt', 'answer'],
  verifier: ['receipt'],
  'trust-evaluator': ['receipt'],
  'sync-applier': ['receipt'],
}

/** The keys of a gateway: the root signs the list and is then put away. */
export interface GatewayKeys {
  /** Public root key, base64url: what an edge pins. */
  readonly rootKey: string
  /** The root-signed list, canonical text. */
  readonly list: string
  readonly services: ReadonlyMap<ServiceName, SigningKey & { uses: readonly KeyUse[] }>
}

const year = 365 * 24 * 3600

/** Makes a root key, a key for each service that signs, and the signed list of them. The root's private half is dropped. */
export function makeGatewayKeys(gatewayId: string, now: number = Date.now()): GatewayKeys {
  const root = generateKeyPair()
  const seconds = Math.floor(now / 1000)
  const services = new Map<ServiceName, SigningKey & { uses: readonly KeyUse[] }>()
  const keys: GatewayKey[] = []
  for (const [service, uses] of Object.entries(usesOf) as [ServiceName, readonly KeyUse[]][]) {
    const pair = generateKeyPair()
    const kid = kidOfKey(pair.publicKey)
    services.set(service, { kid, key: pair.privateKey, uses })
    keys.push({
      kid,
      public_key: encodeKey(pair.publicKey),
      service,
      uses: [...uses],
      not_before: seconds - 60,
      not_after: seconds + year,
    })
  }
  const body: KeysBody = { kind: 'keys', aud: gatewayId, number: 1, issued_at: seconds, keys }
  const { bytes } = signEnvelope({ kid: kidOfKey(root.publicKey), key: root.privateKey, body })
  return { rootKey: encodeKey(root.publicKey), list: Buffer.from(bytes).toString('utf8'), services }
}
