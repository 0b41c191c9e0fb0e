import { call, type Pool, tookTooLong } from '@lenserfight/db'
import { envelopeDigest, type FormerKey, type SignerRecord } from '@lenserfight/envelope'
import { CodedError, isReasonCode, type ReceiptItem } from '@lenserfight/schemas'
import type { AppliedKind, Item } from './decode.ts'
import type { Suspicion } from './judge-fork.ts'

/** The function that applies each kind. */
const appliers: Readonly<Record<AppliedKind, string>> = {
  heartbeat: 'devices.fn_device_heartbeat',
  lifecycle: 'devices.fn_device_lifecycle',
  canary: 'devices.fn_device_canary',
  run_start: 'execution.fn_run_start',
  run_renew: 'execution.fn_run_renew',
  run_withdraw: 'execution.fn_run_withdraw',
  tool_invocation: 'agents.fn_record_tool_invocation',
  attestation: 'execution.fn_record_execution_attestation',
}

/**
 * Envelopes that one call applies at most: its locks are held until all of them are, and a statement that takes too long is
 * nobody's fault, so it is tried for ever. Fewer where one asks for more: a renewal names many runs, and of starts that name one
 * submission each waits for the verdict on the one before.
 */
export const perCall = (kind: AppliedKind): number => fewer[kind] ?? 512
const fewer: Partial<Record<AppliedKind, number>> = { run_renew: 64, run_start: 128 }

/** An XP job that failed: to be tried again, or given up. */
export interface XpFailure {
  readonly task: string
  readonly source: string
  readonly state: 'pending' | 'dead'
  readonly attempts: number
  readonly sqlstate: string
}

/** How many jobs were done, failed, and failed for the last time; the first that failed, and all of the last. */
export interface XpWorked {
  readonly done: number
  readonly failed: number
  readonly dead: number
  readonly failures: readonly XpFailure[]
}

/** The database as the evaluator knows it: its own functions by name, and nothing else (role ltg_trust_evaluator). */
export interface EvaluatorStore {
  /** The devices on record under these kids. */
  readonly signers: (kids: readonly string[]) => Promise<ReadonlyMap<string, SignerRecord>>
  /** The keys that these devices had before, as far as something that they signed may still be under way. */
  readonly formerKeys: (kids: readonly string[]) => Promise<ReadonlyMap<string, readonly FormerKey[]>>
  /** Applies items of one kind; what became of each, in their order. Applying again gives the same results again. */
  readonly apply: (kind: AppliedKind, items: readonly Item[]) => Promise<ReceiptItem[]>
  /** Judges runs again whose time has come; how many. */
  readonly reevaluate: (limit: number) => Promise<number>
  /** Queues runs that compromises concern; fewer steps than the limit say that no more is to be done. */
  readonly queueCompromised: (limit: number) => Promise<number>
  /** The same for claims that were declared void. */
  readonly queueInvalidated: (limit: number) => Promise<number>
  /** Brings devices to `trusted` that earned it; how many. */
  readonly promote: (limit: number) => Promise<number>
  /** Brings devices to `offline` that fell silent; how many. */
  readonly markOffline: (limit: number) => Promise<number>
  /** Suspicions of forks that await a look, oldest first. */
  readonly forkSuspicions: (limit: number) => Promise<readonly Suspicion[]>
  /** Blames: the database checks the bytes again. False where the suspicion is closed already, or they prove nothing. */
  readonly proveFork: (suspicion: Suspicion) => Promise<boolean>
  /** Closes a suspicion; envelopes with these digests count no more. False where it is closed already. */
  readonly dismissFork: (suspicion: Suspicion, forged: readonly Uint8Array[]) => Promise<boolean>
  /** Forgets envelopes counted long ago, keeping the highest of each key; how many. */
  readonly settleCounters: (limit: number) => Promise<number>
  /** Works XP jobs that are due; what became of them. */
  readonly workXp: (limit: number) => Promise<XpWorked>
  /** Rejects where the database does not answer. */
  readonly probe: () => Promise<void>
}

interface SignerRow {
  readonly kid: string
  readonly signer: 'device' | 'session'
  readonly lenser_id: string
  readonly public_key: Buffer
}

interface FormerKeyRow {
  readonly kid: string
  readonly public_key: Buffer
  readonly good_until_ns: string | null
}

interface SuspicionRow {
  readonly device_id: string
  readonly lenser_id: string
  readonly key_number: number
  readonly public_key: Buffer
  readonly earlier: string
  readonly later: string
}

/** How a suspicion is named: by what it is about, so that another pair under the same key is not taken for it. */
const nameOf = ({ deviceId, keyNumber, earlier, later }: Suspicion): unknown[] => [
  deviceId,
  keyNumber,
  ...[earlier, later].map((text) => Buffer.from(envelopeDigest(Buffer.from(text)))),
]

/** Reads what a function said of one item; its code is never passed on unread. */
const readOutcome = (value: unknown, { digest }: Item): ReceiptItem => {
  const { ok, code, detail, result, op_id, ...rest } = (value ?? {}) as Record<string, unknown>
  if (rest.digest !== digest) throw new CodedError('internal_error', 'an outcome is of another envelope')
  const operation = typeof op_id === 'string' ? { op_id } : {}
  if (ok === true && typeof result === 'object' && result !== null) {
    return { digest, ok, result: result as Record<string, unknown>, ...operation }
  }
  if (ok === false && isReasonCode(code)) {
    return { digest, ok, code, ...(typeof detail === 'string' ? { detail } : {}), ...operation }
  }
  throw new CodedError('internal_error', 'a function returned no outcome')
}

/** Binds the store to a pool. Everything throws InfrastructureError where the database is gone. */
export const createStore = (pool: Pool): EvaluatorStore => {
  const signers = async (kids: readonly string[]): Promise<ReadonlyMap<string, SignerRecord>> => {
    const rows = await call<SignerRow>(pool, 'devices.fn_signers', [kids])
    const devices = rows.filter(({ signer }) => signer === 'device')
    return new Map(
      devices.map(({ kid, lenser_id, public_key }) => [kid, { kid, lenserId: lenser_id, publicKey: public_key }]),
    )
  }
  const formerKeys = async (kids: readonly string[]): Promise<ReadonlyMap<string, readonly FormerKey[]>> => {
    const rows = await call<FormerKeyRow>(pool, 'devices.fn_retired_keys', [kids])
    const keys = rows.map(({ kid, public_key, good_until_ns }) => ({
      kid,
      publicKey: public_key,
      goodUntil: good_until_ns === null ? null : BigInt(good_until_ns),
    }))
    return Map.groupBy(keys, ({ kid }) => kid)
  }
  const applyPart = async (kind: AppliedKind, items: readonly Item[]): Promise<ReceiptItem[]> => {
    const rows = await call<{ idx: number; outcome: unknown }>(pool, appliers[kind], [items.map(({ text }) => text)])
    if (rows.length !== items.length) throw new CodedError('internal_error', 'an outcome is missing')
    const byIndex = new Map(rows.map(({ idx, outcome }) => [idx, outcome]))
    return items.map((item, index) => readOutcome(byIndex.get(index + 1), item))
  }
  /** As many at a time as the database gets done: what nobody is to blame for would be tried for ever, and hold up everybody. */
  const applyInTime = async (kind: AppliedKind, items: readonly Item[]): Promise<ReceiptItem[]> => {
    try {
      return await applyPart(kind, items)
    } catch (error) {
      if (!tookTooLong(error) || items.length === 1) throw error
      const half = Math.ceil(items.length / 2)
      return [...(await applyInTime(kind, items.slice(0, half))), ...(await applyInTime(kind, items.slice(half)))]
    }
  }
  const apply = async (kind: AppliedKind, items: readonly Item[]): Promise<ReceiptItem[]> => {
    const results: ReceiptItem[] = []
    const most = perCall(kind)
    for (let from = 0; from < items.length; from += most) {
      results.push(...(await applyInTime(kind, items.slice(from, from + most))))
    }
    return results
  }
  /** Calls a function that works off up to a limit and says how much it did. */
  const upTo =
    (name: string) =>
    async (limit: number): Promise<number> => {
      const [row] = await call<Record<string, number>>(pool, name, [limit])
      return row === undefined ? 0 : (Object.values(row)[0] ?? 0)
    }
  const forkSuspicions = async (limit: number): Promise<readonly Suspicion[]> =>
    (await call<SuspicionRow>(pool, 'devices.fn_fork_suspicions', [limit])).map((row) => ({
      ...{ deviceId: row.device_id, lenserId: row.lenser_id, keyNumber: row.key_number, publicKey: row.public_key },
      ...{ earlier: row.earlier, later: row.later },
    }))
  const proveFork = async (suspicion: Suspicion): Promise<boolean> => {
    const [row] = await call<{ fn_judge_fork: boolean }>(pool, 'devices.fn_judge_fork', nameOf(suspicion))
    return row?.fn_judge_fork ?? false
  }
  const dismissFork = async (suspicion: Suspicion, forged: readonly Uint8Array[]): Promise<boolean> => {
    const values = [...nameOf(suspicion), forged.map((digest) => Buffer.from(digest))]
    const [row] = await call<{ fn_dismiss_fork: boolean }>(pool, 'devices.fn_dismiss_fork', values)
    return row?.fn_dismiss_fork ?? false
  }
  const workXp = async (limit: number): Promise<XpWorked> => {
    const [worked] = await call<XpWorked>(pool, 'xp.fn_work_jobs', [limit])
    return worked ?? { done: 0, failed: 0, dead: 0, failures: [] }
  }
  const probe = async (): Promise<void> => {
    await signers([])
  }
  return {
    signers,
    formerKeys,
    apply,
    reevaluate: upTo('execution.fn_reevaluate_due'),
    queueCompromised: upTo('execution.fn_queue_compromised'),
    queueInvalidated: upTo('execution.fn_queue_invalidated'),
    promote: upTo('devices.fn_promote_trusted'),
    markOffline: upTo('devices.fn_mark_offline'),
    ...{ forkSuspicions, proveFork, dismissFork },
    settleCounters: upTo('devices.fn_settle_counters'),
    ...{ workXp, probe },
  }
}
