import { hash } from 'node:crypto'
import { call, ownStates, type Pool } from '@lenserfight/db'
import type { SignerRecord } from '@lenserfight/envelope'
import type { SignedCandidate } from './decide.ts'
import type { DeviceRecord } from './signer-cache.ts'

/** A candidate whose signature verified, with the digest that names its bytes everywhere. */
export interface ProvenCandidate extends SignedCandidate {
  /** SHA-256 of the bytes received, hex. */
  readonly digest: string
}

/** Names a candidate's bytes. */
export const withDigest = ({ index, received, subject, message, signer }: SignedCandidate): ProvenCandidate => ({
  index,
  received,
  subject,
  message,
  signer,
  // Straight to hex, which the claim wants: half the cost of a detour over bytes.
  digest: hash('sha256', message.bytes, 'hex'),
})

/** A PostgreSQL array of values that need no quoting: UUIDs, base64url, hex, digits, names. */
const arrayOf = (values: readonly string[]): string => `{${values.join(',')}}`

const hexOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')

/** The arguments of `devices.fn_claim_ingress`, as the text of arrays: the driver's own way costs several times as much. */
export const claimArguments = (batch: readonly ProvenCandidate[]): string[] => {
  const signers = new Map<string, SignerRecord>()
  for (const { signer } of batch) signers.set(signer.kid, signer)
  const records = [...signers.values()]
  return [
    arrayOf(records.map(({ kid }) => kid)),
    arrayOf(records.map(({ publicKey }) => hexOf(publicKey))),
    batch[0]?.received.stream ?? '',
    arrayOf(batch.map(({ subject }) => subject.kid)),
    arrayOf(batch.map(({ message }) => message.envelope.nonce)),
    arrayOf(batch.map(({ message }) => String(message.envelope.iat))),
    arrayOf(batch.map(({ subject }) => subject.kind)),
    arrayOf(batch.map(({ digest }) => digest)),
    arrayOf(batch.map(({ received }) => String(received.seq))),
    arrayOf(batch.map(({ received }) => received.stored)),
  ]
}

/** Cuts a batch so that each part names one key a signer: a device that has just replaced its key may use both in one batch. */
export const byKey = (batch: readonly ProvenCandidate[]): ProvenCandidate[][] => {
  const parts: { readonly keys: Map<string, string>; readonly items: ProvenCandidate[] }[] = []
  for (const candidate of batch) {
    const { kid, publicKey } = candidate.signer
    const key = hexOf(publicKey)
    let part = parts.find(({ keys }) => (keys.get(kid) ?? key) === key)
    if (part === undefined) {
      part = { keys: new Map(), items: [] }
      parts.push(part)
    }
    part.keys.set(kid, key)
    part.items.push(candidate)
  }
  return parts.map(({ items }) => items)
}

/** What the verifier's role may do: read keys, claim, and keep the claims' partitions. */
export interface ClaimStore {
  /** Commits the claims of a batch that names one key a signer; a verdict for each, in order. */
  readonly claim: (batch: readonly ProvenCandidate[]) => Promise<readonly string[]>
  /** The records of devices; sessions are not heard at this door. */
  readonly loadSigners: (kids: readonly string[]) => Promise<readonly DeviceRecord[]>
  readonly maintain: () => Promise<{ made: number; dropped: number }>
  /** Resolves when the database answers. */
  readonly probe: () => Promise<void>
}

interface SignerRow {
  readonly kid: string
  readonly signer: 'device' | 'session'
  readonly lenser_id: string
  readonly public_key: Buffer
  readonly former_public_key: Buffer | null
}

/** Every one of these throws what `toReason` of @lenserfight/db says. */
export const createClaimStore = (pool: Pool): ClaimStore => {
  const readSigners = (kids: readonly string[]): Promise<SignerRow[]> =>
    call<SignerRow>(pool, 'devices.fn_signers', [arrayOf(kids)])
  return {
    claim: async (batch) => {
      const [row] = await call<{ fn_claim_ingress: string[] }>(pool, 'devices.fn_claim_ingress', claimArguments(batch))
      const verdicts = row?.fn_claim_ingress
      if (verdicts?.length !== batch.length) throw new TypeError('the claim did not answer for every message')
      return verdicts
    },
    loadSigners: async (kids) => {
      const rows = await readSigners(kids)
      return rows
        .filter(({ signer }) => signer === 'device')
        .map(({ kid, lenser_id, public_key, former_public_key }) => ({
          kid,
          lenserId: lenser_id,
          publicKey: new Uint8Array(public_key),
          ...(former_public_key === null ? {} : { formerKey: new Uint8Array(former_public_key) }),
        }))
    },
    maintain: async () => {
      const [row] = await call<{ made: number; dropped: number }>(pool, 'devices.fn_claims_maintain', [])
      return { made: row?.made ?? 0, dropped: row?.dropped ?? 0 }
    },
    probe: async () => {
      await readSigners([])
    },
  }
}

/** Whether a claim was refused because the broker's clock is ahead of the database's. */
export const isBrokenClock = (error: unknown): boolean =>
  error instanceof Error &&
  error.cause instanceof Error &&
  'code' in error.cause &&
  error.cause.code === ownStates.brokenClock
