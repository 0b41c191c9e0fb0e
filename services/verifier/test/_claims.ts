import { randomBytes } from 'node:crypto'
import { type Connection, createPool, type Pool } from '@lenserfight/db'
import { randomNonce } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import type { DeviceLevel } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory, type TestDatabase, testPostgres } from '@lenserfight/testkit'

/** A message as the claim function sees it. */
export interface Claimed {
  readonly kid: string
  readonly key: string
  readonly nonce: string
  readonly iat: number
  readonly kind: string
  readonly digest: string
  readonly seq: number
  readonly stored: bigint
}

/** A session of the database as one role; transactions are the caller's. */
export type Session = Connection & { release: () => void }

export interface ClaimsDatabase {
  readonly owner: Pool
  readonly verifier: Pool
  readonly poolAs: (role: string) => Pool
  readonly device: (level?: DeviceLevel) => Promise<Signatory>
  readonly close: () => Promise<void>
}

/** A database of one's own, with a superuser's pool and one for each role asked for. */
export const claimsDatabase = async (): Promise<ClaimsDatabase> => {
  const test = await testPostgres()
  const logger = createLogger({ service: 'verifier', level: 'silent' })
  const pools = new Map<string, Pool>()
  const open = (connection: TestDatabase['owner']): Pool => {
    const known = pools.get(connection.user)
    if (known !== undefined) return known
    const pool = createPool({ ...connection, max: 8, logger })
    pools.set(connection.user, pool)
    return pool
  }
  const owner = open(test.owner)
  return {
    owner,
    verifier: open(test.as('ltg_verifier')),
    poolAs: (role) => open(test.as(role)),
    device: async (level = 'approved') => {
      const { lenser } = await makeAccount(owner)
      return makeDevice(owner, { lenser, level })
    },
    close: async () => {
      await Promise.all([...pools.values()].map((pool) => pool.end()))
      await test.drop()
    },
  }
}

export const seconds = (): number => Math.floor(Date.now() / 1000)
export const nanoseconds = (unixSeconds: number): bigint => BigInt(Math.round(unixSeconds * 1000)) * 1_000_000n

let lastSeq = 0
/** A good message of a device, stored now; `changed` are fields put in place of those of a good one. */
export const claimOf = (device: Pick<Signatory, 'kid' | 'keys'>, changed: Partial<Claimed> = {}): Claimed => ({
  kid: device.kid,
  key: Buffer.from(device.keys.publicKey).toString('hex'),
  nonce: randomNonce(),
  iat: seconds(),
  kind: 'heartbeat',
  digest: randomBytes(32).toString('hex'),
  seq: ++lastSeq,
  stored: nanoseconds(Date.now() / 1000),
  ...changed,
})

/** Claims a batch at the ingress door; a verdict each. */
export const claimIngress = async (
  db: Pool | Connection,
  batch: readonly Claimed[],
  stream = 'LTG_INGRESS',
): Promise<string[]> => {
  const column = (read: (message: Claimed) => string | number | bigint): string => `{${batch.map(read).join(',')}}`
  const signers = [...new Map(batch.map((message) => [message.kid, message])).values()]
  const values = [
    `{${signers.map(({ kid }) => kid).join(',')}}`,
    `{${signers.map(({ key }) => key).join(',')}}`,
    stream,
    column(({ kid }) => kid),
    column(({ nonce }) => nonce),
    column(({ iat }) => iat),
    column(({ kind }) => kind),
    column(({ digest }) => digest),
    column(({ seq }) => seq),
    column(({ stored }) => stored),
  ]
  const text = 'SELECT devices.fn_claim_ingress($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS verdicts'
  const { rows } = await (db as Connection).query<{ verdicts: string[] }>(text, values)
  return rows[0]?.verdicts ?? []
}
