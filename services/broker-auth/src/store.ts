import { call, type Pool, withTransaction } from '@lenserfight/db'
import { envelopeDigest, type Message } from '@lenserfight/envelope'
import { InfrastructureError } from '@lenserfight/runtime'
import { createBatcher } from './batcher.ts'
import type { ConnectClaim, KnownSigner } from './decide.ts'

interface SignerRow {
  kid: string
  lenser_id: string | null
  public_key: Buffer
  expires_at: Date | null
}

/** What the database knows and writes down of connections. All of it throws InfrastructureError when it is gone. */
export interface Store {
  readonly signerOf: (kid: string) => Promise<KnownSigner | undefined>
  /** Decides on a connect, and notes the connection in the same transaction where it lets it in. */
  readonly claim: (claimed: Claimed) => Promise<ConnectClaim>
  readonly probe: () => Promise<void>
}

export interface Claimed {
  readonly message: Message
  /** The key that proved the signature. */
  readonly publicKey: Uint8Array
  /** As the server names it, never as the client does. */
  readonly connection: { readonly serverId: string; readonly clientId: number }
}

const claimArgument = ({ message, publicKey, connection }: Claimed): object => {
  const { kid, nonce, iat } = message.envelope
  const digest = Buffer.from(envelopeDigest(message.bytes)).toString('base64url')
  const public_key = Buffer.from(publicKey).toString('base64url')
  const { serverId: server_id, clientId: client_id } = connection
  return { kid, kind: 'connect', nonce, iat, digest, public_key, server_id, client_id }
}

const knownSigner = ({ kid, lenser_id, public_key, expires_at }: SignerRow): KnownSigner => ({
  kid,
  lenserId: lenser_id,
  publicKey: public_key,
  ...(expires_at === null ? {} : { expiresAt: Math.floor(expires_at.getTime() / 1000) }),
})

/** Thousands of edges may come back at once: lookups share a call, and claims a commit. */
export const createStore = (pool: Pool): Store => {
  const signers = createBatcher<string, KnownSigner | undefined>({
    maxBatch: 200,
    lanes: 1,
    work: async (kids) => {
      const rows = await call<SignerRow>(pool, 'devices.fn_signers', [[...new Set(kids)]])
      const byKid = new Map(rows.map((row) => [row.kid, knownSigner(row)]))
      return kids.map((kid) => byKid.get(kid))
    },
  })
  const claimOne = async (db: Parameters<typeof call>[0], claimed: Claimed): Promise<ConnectClaim> => {
    const name = 'devices.fn_claim_connect'
    const [row] = await call<Record<string, ConnectClaim>>(db, name, [claimArgument(claimed)])
    return row?.fn_claim_connect as ConnectClaim
  }
  /** In one transaction, in the order of the kids, as everybody locks them; each by itself where one of them fails. */
  const claimTogether = async (batch: readonly Claimed[]): Promise<ConnectClaim[]> => {
    const order = batch.map((claimed, index) => ({ claimed, index }))
    order.sort((a, b) => (a.claimed.message.envelope.kid < b.claimed.message.envelope.kid ? -1 : 1))
    const claims: ConnectClaim[] = []
    await withTransaction(pool, async (connection) => {
      for (const { claimed, index } of order) claims[index] = await claimOne(connection, claimed)
    })
    return claims
  }
  const claims = createBatcher<Claimed, ConnectClaim | { failed: unknown }>({
    maxBatch: 32,
    lanes: 2,
    work: async (batch) => {
      try {
        return await claimTogether(batch)
      } catch (error) {
        if (error instanceof InfrastructureError) throw error
        return Promise.all(batch.map((one) => claimOne(pool, one).catch((failed: unknown) => ({ failed }))))
      }
    },
  })
  return {
    signerOf: signers,
    claim: async (claimed) => {
      const claim = await claims(claimed)
      if ('failed' in claim) throw claim.failed
      return claim
    },
    probe: async () => {
      await call(pool, 'devices.fn_signers', [[]])
    },
  }
}
