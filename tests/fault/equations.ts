import { setTimeout as sleep } from 'node:timers/promises'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type KindName, kinds } from '@lenserfight/schemas'
import { transitionsTo } from '@lenserfight/testkit'
import { type DeviceClient, meaningOf, type Settled } from '@lenserfight/testkit/device'
import { brokerAtRest } from './_broker.ts'
import type { Fleet } from './_fleet.ts'

/** An equation of README.md, by its number and name, with what both sides came to. It holds when they are equal. */
export type Equation = readonly [name: string, left: number, right: number]

/** What the database holds of one operation of the fleet. */
interface Stored {
  readonly kid: string
  readonly op_id: string
  readonly digest: string
  readonly code: string | null
  readonly result: Record<string, unknown>
}

/** The fleet's side and the database's. */
interface Books {
  readonly fleet: Fleet
  readonly settled: readonly Settled[]
  readonly stored: readonly Stored[]
  readonly db: PgClient
  /** One number from the database; `fleet.kids` and `fleet.lensers` are the fleet's keys and accounts. */
  readonly number: (text: string) => Promise<number>
}

const count = <T>(items: Iterable<T>, holds: (item: T) => boolean): number => [...items].filter(holds).length
const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((total, item) => total + of(item), 0)
const kidsOf = (fleet: Fleet): string[] => fleet.clients.map(({ signatory }) => signatory.kid)

const openBooks = async (db: PgClient, fleet: Fleet): Promise<Books> => {
  const { rows: stored } = await db.query<Stored>(
    `SELECT kid, op_id, devices.fn_b64url(digest) AS digest, code, result FROM devices.operations WHERE kid = ANY ($1)`,
    [kidsOf(fleet)],
  )
  const number = async (text: string): Promise<number> => {
    const { rows } = await db.query(
      `WITH fleet AS (SELECT $1::uuid[] AS kids, $2::uuid[] AS lensers) SELECT (${text})::int AS number FROM fleet`,
      [kidsOf(fleet), fleet.accounts.map(({ lenser }) => lenser)],
    )
    return rows[0].number
  }
  return { fleet, settled: fleet.settled(), stored, db, number }
}

/** Law 2: what clients heard is what was committed, operation by operation. */
const operationEquations = ({ fleet, settled, stored }: Books, began: number): Equation[] => {
  const nameOf = (kid: string, id: string): string => `${kid} ${id}`
  const heard = new Map(settled.map((end) => [nameOf(end.kid, end.id), end]))
  const endOf = ({ kid, op_id }: Stored): Settled | undefined => heard.get(nameOf(kid, op_id))
  const isAsHeard = (row: Stored): boolean => {
    const outcome = endOf(row)?.outcome
    return outcome !== undefined && meaningOf(outcome) === meaningOf({ ok: true, result: row.result })
  }
  const over = (of: (client: DeviceClient) => number): number => sum(fleet.clients, of)
  return [
    ['1 settled = begun', settled.length, began],
    ['1 settled once = settled', heard.size, settled.length],
    ['1 settled ok = settled', count(settled, ({ outcome }) => outcome.ok), settled.length],
    ['2 contradicting receipts = 0', over(({ contradictions }) => contradictions.length), 0],
    ...refusalEquations(fleet),
    ['2 receipts nobody asked for = 0', over((client) => client.stats().unknown), 0],
    ['2 receipts by no key of the gateway = 0', over((client) => client.stats().untrusted), 0],
    ['3 stored operations = settled operations', stored.length, count(settled, ({ kind }) => kinds[kind].operation)],
    ['3 stored refusals = 0', count(stored, ({ code }) => code !== null), 0],
    ['3 results stored as heard = stored', count(stored, isAsHeard), stored.length],
    ['3 applied from an envelope sent for it', count(stored, (row) => isSentFor(row, endOf(row))), stored.length],
  ]
}
/** One in all, and one for each code that was heard, so that a failure says which. */
const refusalEquations = (fleet: Fleet): Equation[] => {
  const outcomes = fleet.clients.flatMap((client) => [...client.outcomes.values()])
  const codes = outcomes.flatMap(({ ok, code }) => (ok ? [] : [code ?? 'none']))
  const named = [...new Set(codes)].map((code): Equation => [`2 ${code} heard = 0`, count(codes, (c) => c === code), 0])
  return [['2 refusals heard = 0', codes.length, 0], ...named]
}
const isSentFor = ({ digest }: Stored, end: Settled | undefined): boolean => end?.digests.includes(digest) ?? false

/** Effects: one an operation, and each attestation judged. */
const effectEquations = async ({ settled, number }: Books): Promise<Equation[]> => {
  const ended = (kind: KindName): number => count(settled, (end) => end.kind === kind)
  const runs = await number('SELECT count(*) FROM execution.runs WHERE device_id = ANY (fleet.kids)')
  const attested = await number('SELECT count(*) FROM execution.attestations WHERE device_id = ANY (fleet.kids)')
  const ownRuns = await number(
    `SELECT count(*) FROM execution.runs r
       JOIN devices.operations o ON o.kid = r.device_id AND o.op_id = r.op_id AND o.kind = 'run_start'
      WHERE r.device_id = ANY (fleet.kids) AND o.result ->> 'run_id' = r.id::text`,
  )
  const ownAttestations = await number(
    `SELECT count(*) FROM execution.attestations a
       JOIN devices.operations o ON o.kid = a.device_id AND o.op_id = a.op_id AND o.digest = a.digest
      WHERE a.device_id = ANY (fleet.kids) AND o.kind = 'attestation'`,
  )
  const trusted = await number(
    `SELECT count(*) FROM execution.attestations a
      WHERE a.device_id = ANY (fleet.kids) AND 'fully_trusted' = (
        SELECT e.trust_level FROM execution.trust_evaluations e
         WHERE e.run_id = a.run_id AND e.attestation_id = a.id ORDER BY e.id DESC LIMIT 1)`,
  )
  const bound = await number(
    `SELECT count(DISTINCT b.id) FROM devices.operations o
       JOIN execution.runner_device_bindings b ON b.id::text = o.result ->> 'binding_id'
      WHERE o.kid = ANY (fleet.kids) AND o.kind = 'runner_bind'`,
  )
  const verdicts = 'SELECT count(*) FROM agents.policy_evaluations WHERE lenser_id = ANY (fleet.lensers)'
  return [
    ['4 runs = run_start', runs, ended('run_start')],
    ['4 runs of their own operation = runs', ownRuns, runs],
    ['4 policy verdicts = runs', await number(verdicts), runs],
    ['5 attestations = attestation', attested, ended('attestation')],
    ['5 attestations of their own operation = attestations', ownAttestations, attested],
    ['5 attestations judged fully trusted = attestations', trusted, attested],
    ['5 bindings = runner_bind', bound, ended('runner_bind')],
  ]
}

/** Claims: nothing took effect without one, and none is of what nobody sent. */
const claimEquations = async ({ db, fleet, settled, stored }: Books): Promise<Equation[]> => {
  const { rows: claims } = await db.query<{ kid: string; nonce: string; verdict: string; digest: string }>(
    `SELECT kid, nonce, verdict, devices.fn_b64url(digest) AS digest FROM devices.envelope_claims
      WHERE kid = ANY ($1) AND door <> 'connect'`,
    [kidsOf(fleet)],
  )
  const sent = new Set(settled.flatMap(({ digests }) => digests))
  const good = new Set(claims.filter(({ verdict }) => verdict === 'ok').map(({ digest }) => digest))
  const heard = fleet.clients.flatMap(({ outcomes }) => [...outcomes.values()].filter(({ ok }) => ok))
  return [
    ['6 applied envelopes with a good claim', count(stored, ({ digest }) => good.has(digest)), stored.length],
    ['6 envelopes heard ok with a good claim', count(heard, ({ digest }) => good.has(digest)), heard.length],
    ['6 claims of envelopes sent = claims', count(claims, ({ digest }) => sent.has(digest)), claims.length],
    ['6 nonces = claims', new Set(claims.map(({ kid, nonce }) => `${kid} ${nonce}`)).size, claims.length],
    ['6 claims that came too late = 0', count(claims, ({ verdict }) => verdict === 'iat_window'), 0],
  ]
}

/** Audit: one record an effect, all of them linked, the chains whole. */
const auditEquations = async ({ fleet, stored, number }: Books): Promise<Equation[]> => {
  const entries = 'SELECT count(*) FROM audit.hash_chains WHERE lenser_id = ANY (fleet.lensers)'
  const heads = 'FROM audit.chain_heads h WHERE h.lenser_id = ANY (fleet.lensers)'
  const heartbeats = await number('SELECT count(*) FROM devices.heartbeats WHERE device_id = ANY (fleet.kids)')
  const transitions = fleet.machines.length * transitionsTo('approved')
  const all = stored.length + heartbeats + transitions
  const accounted = await number(
    `SELECT count(*) FROM devices.operations o
      WHERE o.kid = ANY (fleet.kids) AND 1 = (
        SELECT count(*) FROM audit.hash_chains c
         WHERE c.lenser_id = o.lenser_id AND c.kid = o.kid AND c.op_id = o.op_id AND c.event_kind = o.kind
           AND c.digest = o.digest AND c.payload -> 'result' = o.result)`,
  )
  const lastEntries = `SELECT count(*) FROM audit.hash_chains JOIN (SELECT h.* ${heads}) AS head
    USING (chain_kind, lenser_id, seq, entry_hash)`
  return [
    ['7 records not linked = 0', await number('SELECT count(*) FROM audit.pending'), 0],
    ['7 operations with exactly their one record = operations', accounted, stored.length],
    ['7 entries of operations = operations', await number(`${entries} AND op_id IS NOT NULL`), stored.length],
    ['7 entries of heartbeats', await number(`${entries} AND event_kind = 'heartbeat'`), heartbeats],
    ['7 entries of transitions', await number(`${entries} AND event_kind = 'trust_transition'`), transitions],
    ['8 entries = records', await number(entries), all],
    ['8 sum of the heads = records', await number(`SELECT sum(h.seq) ${heads}`), all],
    ['8 heads that are the last entry', await number(lastEntries), fleet.accounts.length],
  ]
}

/** AU-4: each account verifies its own chain, with its own rights alone. */
const chainEquations = async ({ db, fleet }: Books): Promise<Equation[]> => {
  let sound = 0
  for (const { lenser, userId } of fleet.accounts) {
    await db.query('BEGIN')
    await db.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: userId })])
    await db.query('SET LOCAL ROLE authenticated')
    const { rows } = await db.query(`SELECT ok FROM audit.fn_chain_verify($1, 'gateway')`, [lenser])
    await db.query('ROLLBACK')
    sound += rows[0]?.ok === true ? 1 : 0
  }
  return [['8 chains that verify', sound, fleet.accounts.length]]
}

/** Waits until the audit-chain worker has linked everything, or a while: equation 7 says which. */
const auditAtRest = async (db: PgClient, timeoutMs = 30_000): Promise<void> => {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(100)) {
    const { rowCount } = await db.query('SELECT FROM audit.pending LIMIT 1')
    if (rowCount === 0) return
  }
}

/**
 * Both sides of every equation of README.md, once broker and audit have come to rest.
 * @param began how many operations and heartbeats the test began
 */
export const readEquations = async (stack: Stack, fleet: Fleet, began: number): Promise<Equation[]> => {
  const { messages, owed } = await brokerAtRest(stack)
  return withClient(stack.owner, async (db) => {
    await auditAtRest(db)
    const books = await openBooks(db, fleet)
    return [
      ...operationEquations(books, began),
      ...(await effectEquations(books)),
      ...(await claimEquations(books)),
      ...(await auditEquations(books)),
      ...(await chainEquations(books)),
      ['9 messages in the ingress stream = 0', messages.LTG_INGRESS ?? -1, 0],
      ['9 messages owed to consumers = 0', owed, 0],
      ['9 dead letters = 0', messages.LTG_DEADLETTER ?? -1, 0],
    ] satisfies Equation[]
  })
}

/** Either side of all equations by name: two such objects are compared, so that a failure shows each that does not hold. */
export const sideOf = (equations: readonly Equation[], side: 'left' | 'right'): Record<string, number> =>
  Object.fromEntries(equations.map(([name, left, right]) => [name, side === 'left' ? left : right]))
