import { call, type Pool } from '@lenserfight/db'
import type { FormerKey } from '@lenserfight/envelope'
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
  /** Which path of which class of object a decision of a conflict is about. */
  readonly conflictPlace: (envelope: string) => Promise<Outcome>
  /** Applies answered challenges, one outcome each in their order. */
  readonly postChallenges: (envelopes: readonly string[]) => Promise<readonly Outcome[]>
  /** The keys that these devices had before, as far as something that they signed may still be under way. */
  readonly formerKeys: (kids: readonly string[]) => Promise<ReadonlyMap<string, readonly FormerKey[]>>
  /**
   * Applies rotations of one device, an outcome each in their order; undefined where the key changed since it was checked.
   * @param keys the key in force under which both signatures were found good, base64url; null where they were not
   */
  readonly rotate: (
    envelopes: readonly string[],
    keys: readonly (string | null)[],
  ) => Promise<readonly (Outcome | undefined)[]>
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
  reprove: 'devices.fn_device_reprove',
  rotation_require: 'devices.fn_device_rotation_require',
  list: 'devices.fn_device_list',
  runners: 'execution.fn_runner_list_with_devices',
  runner_bind: 'execution.fn_runner_bind',
  runner_unbind: 'execution.fn_runner_unbind',
  policy_show: 'agents.fn_policy_show',
  policy_test: 'agents.fn_policy_test',
  policy_set: 'agents.fn_policy_set',
  approvals: 'agents.fn_approvals',
  approval_decide: 'agents.fn_approval_decide',
  runs: 'execution.fn_run_list',
  explain: 'execution.fn_explain',
  sessions: 'lensers.fn_session_list',
  session_revoke: 'lensers.fn_session_revoke',
  api_key_create: 'lensers.fn_api_key_create',
  status: 'devices.fn_status',
  audit_verify: 'audit.fn_audit_verify',
  leader: 'devices.fn_acquire_leader_lease',
  sync_status: 'devices.fn_sync_status',
  sync_conflicts: 'devices.fn_sync_conflicts',
  sync_resolve: 'devices.fn_sync_resolve_conflict',
  sync_undo: 'devices.fn_sync_undo_resolution',
} as const satisfies Partial<Record<KindName, string>>

interface SignerRow {
  kid: string
  signer: 'device' | 'session'
  lenser_id: string
  public_key: Buffer
}

interface FormerKeyRow {
  kid: string
  public_key: Buffer
  good_until_ns: string | null
}

interface OutcomeRow {
  idx: number
  outcome: unknown
}

/** What a function said of each of so many envelopes, in their order. */
const inOrder = (rows: readonly OutcomeRow[], count: number): unknown[] => {
  if (rows.length !== count) throw new CodedError('internal_error', 'an outcome is missing')
  return rows.toSorted((a, b) => a.idx - b.idx).map(({ outcome }) => outcome)
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
    conflictPlace: async (envelope) => readOutcome(await one('devices.fn_sync_conflict_place', [envelope])),
    postChallenges: async (envelopes) => {
      const rows = await call<OutcomeRow>(pool, 'devices.fn_device_post_challenge', [envelopes])
      return inOrder(rows, envelopes.length).map(readOutcome)
    },
    formerKeys: async (kids) => {
      const rows = await call<FormerKeyRow>(pool, 'devices.fn_retired_keys', [kids])
      const keys = rows.map(({ kid, public_key, good_until_ns }) => ({
        kid,
        publicKey: public_key,
        goodUntil: good_until_ns === null ? null : BigInt(good_until_ns),
      }))
      return Map.groupBy(keys, ({ kid }) => kid)
    },
    rotate: async (envelopes, keys) => {
      const rows = await call<OutcomeRow>(pool, 'devices.fn_device_rotate', [envelopes, keys])
      return inOrder(rows, envelopes.length).map((outcome) =>
        (outcome as { again?: unknown }).again === true ? undefined : readOutcome(outcome),
      )
    },
    probe: async () => {
      await call(pool, 'devices.fn_signers', [[]])
    },
  }
}
