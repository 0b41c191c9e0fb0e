import { call, type Pool } from '@lenserfight/db'
import { CodedError, isReasonCode, type KindName, type ReasonCode } from '@lenserfight/schemas'
import type { Signer } from './ask/check-request.ts'
import { type Outcome, readOutcome } from './ask/outcome.ts'
import type { VerifiedToken } from './token/verify-token.ts'

/** A request to be written down before it is acted on; `digest` and `public_key` as base64url. */
export interface Claim {
  readonly kid: string
  readonly kind: string
  readonly nonce: string
  readonly iat: number
  readonly digest: string
  /** The key under which the signature verified. */
  readonly public_key: string
}

export type ClaimVerdict = 'ok' | 'key_changed' | ReasonCode

/** The database as the registrar knows it: its own functions by name, and nothing else (role ltg_registrar). */
export interface RegistrarStore {
  readonly signers: (kids: readonly string[]) => Promise<ReadonlyMap<string, Signer>>
  readonly signer: (kid: string) => Promise<Signer | undefined>
  readonly claim: (claim: Claim) => Promise<ClaimVerdict>
  readonly login: (envelope: string, token: VerifiedToken | { readonly refused: ReasonCode }) => Promise<Outcome>
  /** Applies a request of any kind but login. */
  readonly apply: (kind: string, envelope: string) => Promise<Outcome>
  /** Applies answered challenges, one outcome each in their order. */
  readonly postChallenges: (envelopes: readonly string[]) => Promise<readonly Outcome[]>
  /** Resolves where the database answers. */
  readonly probe: () => Promise<void>
}

/** The function that applies each kind of request. */
const functions = {
  register: 'devices.fn_device_register_with_key',
  approve: 'devices.fn_device_approve',
  revoke: 'devices.fn_device_revoke',
  suspend: 'devices.fn_device_suspend',
  reinstate: 'devices.fn_device_reinstate',
  list: 'devices.fn_device_list',
  runner_bind: 'execution.fn_runner_bind',
  sessions: 'lensers.fn_session_list',
  session_revoke: 'lensers.fn_session_revoke',
  api_key_create: 'lensers.fn_api_key_create',
  status: 'devices.fn_status',
  audit_verify: 'audit.fn_audit_verify',
} as const satisfies Partial<Record<KindName, string>>

interface SignerRow {
  kid: string
  signer: 'device' | 'session'
  lenser_id: string
  public_key: Buffer
}

const readVerdict = (value: unknown): ClaimVerdict => {
  const { verdict } = (value ?? {}) as { verdict?: unknown }
  if (verdict === 'ok' || verdict === 'key_changed' || isReasonCode(verdict)) return verdict
  throw new CodedError('internal_error', 'the claim gave no verdict')
}

/** Binds the store to a pool. Everything throws InfrastructureError where the database is gone. */
export const createStore = (pool: Pool): RegistrarStore => {
  const signers = async (kids: readonly string[]): Promise<ReadonlyMap<string, Signer>> => {
    const rows = await call<SignerRow>(pool, 'devices.fn_signers', [kids])
    return new Map(
      rows.map((row) => [
        row.kid,
        { kid: row.kid, signer: row.signer, lenserId: row.lenser_id, publicKey: row.public_key },
      ]),
    )
  }
  const one = async (name: string, args: readonly unknown[]): Promise<unknown> => {
    const [row] = await call<Record<string, unknown>>(pool, name, args)
    return row === undefined ? undefined : Object.values(row)[0]
  }
  return {
    signers,
    signer: async (kid) => (await signers([kid])).get(kid),
    claim: async (claim) => readVerdict(await one('devices.fn_claim_ask', [JSON.stringify(claim)])),
    login: async (envelope, token) =>
      readOutcome(await one('lensers.fn_session_login', [envelope, JSON.stringify(token)])),
    apply: async (kind, envelope) => {
      if (!Object.hasOwn(functions, kind)) throw new CodedError('unsupported_kind')
      return readOutcome(await one(functions[kind as keyof typeof functions], [envelope]))
    },
    postChallenges: async (envelopes) => {
      const rows = await call<{ idx: number; outcome: unknown }>(pool, 'devices.fn_device_post_challenge', [envelopes])
      if (rows.length !== envelopes.length) throw new CodedError('internal_error', 'an outcome is missing')
      return rows.toSorted((a, b) => a.idx - b.idx).map(({ outcome }) => readOutcome(outcome))
    },
    probe: async () => {
      await call(pool, 'devices.fn_signers', [[]])
    },
  }
}
