import { setTimeout as sleep } from 'node:timers/promises'
import { connectEdge, type EdgeBus, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { call, createPool, type Pool, withTransaction } from '@lenserfight/db'
import { readEnvelope } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import {
  askSubject,
  encodeVerifiedLine,
  inSubject,
  type KindName,
  kinds,
  nilUuid,
  okSubject,
  type ReasonCode,
  type SyncEntry,
} from '@lenserfight/schemas'
import { decideMerge, type Opened } from '@lenserfight/sync-applier'
import type { Signatory, TestDatabase } from '@lenserfight/testkit'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import { type Forgery, type Said, type Sealed, seal } from './_seal.ts'

/** What came of an envelope. */
export interface Outcome {
  readonly digest: string
  readonly ok: boolean
  readonly code?: ReasonCode
  readonly detail?: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into results of every kind
  readonly result?: any
}

/** A way for what a device signed to come before the database. */
export interface Road {
  readonly name: string
  readonly gatewayId: string
  /** Seals it in the signer's name, sends it once and waits for what comes of it. */
  readonly say: (signer: Signatory, said: Said, forgery?: Forgery) => Promise<Outcome>
  /** The same for an envelope that was sealed before. */
  readonly send: (signer: Signatory, sealed: Sealed) => Promise<Outcome>
  readonly close: () => Promise<void>
}

/** The function that applies each kind of the ingress door, and the role of the worker that may call it. */
export const appliers = {
  challenge: { role: 'ltg_registrar', name: 'devices.fn_device_post_challenge' },
  rotate: { role: 'ltg_registrar', name: 'devices.fn_device_rotate' },
  heartbeat: { role: 'ltg_trust_evaluator', name: 'devices.fn_device_heartbeat' },
  lifecycle: { role: 'ltg_trust_evaluator', name: 'devices.fn_device_lifecycle' },
  canary: { role: 'ltg_trust_evaluator', name: 'devices.fn_device_canary' },
  run_start: { role: 'ltg_trust_evaluator', name: 'execution.fn_run_start' },
  run_renew: { role: 'ltg_trust_evaluator', name: 'execution.fn_run_renew' },
  run_withdraw: { role: 'ltg_trust_evaluator', name: 'execution.fn_run_withdraw' },
  tool_invocation: { role: 'ltg_trust_evaluator', name: 'agents.fn_record_tool_invocation' },
  attestation: { role: 'ltg_trust_evaluator', name: 'execution.fn_record_execution_attestation' },
  sync_push: { role: 'ltg_sync_applier', name: 'devices.fn_sync_push' },
  sync_pull: { role: 'ltg_sync_applier', name: 'devices.fn_sync_pull' },
} as const satisfies Partial<Record<KindName, { role: string; name: string }>>
export type InKind = keyof typeof appliers

const logger = createLogger({ service: 'verifier', level: 'silent' })
/** Connections as any role of a database. */
export const rolesOf = (as: TestDatabase['as']) => {
  const pools = new Map<string, Pool>()
  const pool = (role: string): Pool => {
    const known = pools.get(role) ?? createPool({ ...as(role), max: 4, logger, connectTimeoutMs: 60_000 })
    pools.set(role, known)
    return known
  }
  const end = async (): Promise<void> => {
    await Promise.all([...pools.values()].map((one) => one.end()))
  }
  return { pool, end }
}
export type Roles = ReturnType<typeof rolesOf>

/** Which message of the ingress stream it is, by the verifier's word. */
export interface Place {
  readonly seq: number
  /** Nanoseconds since 1970. */
  readonly stored: bigint
}
let sequence = 1_000_000_000
const placeOf = ({ at = Date.now() }: Sealed): Place => ({ seq: ++sequence, stored: BigInt(at) * 1_000_000n })

/** Claims as the verifier's role may, whatever is true of the envelope. Returns the verdict. */
export const claimAs = async (
  roles: Roles,
  signer: Signatory,
  sealed: Sealed,
  { seq, stored } = placeOf(sealed),
): Promise<string> => {
  const { kid, keys } = signer
  const digest = Buffer.from(sealed.digest, 'base64url').toString('hex')
  const [row] = await call<{ fn_claim_ingress: string[] }>(roles.pool('ltg_verifier'), 'devices.fn_claim_ingress', [
    ...[[kid], [Buffer.from(keys.publicKey).toString('hex')], 'LTG_INGRESS', [kid], [sealed.nonce], [sealed.iat]],
    ...[[sealed.kind], [digest], [seq], [String(stored)]],
  ])
  return row?.fn_claim_ingress[0] ?? 'nothing'
}

const entriesIn = (text: string | undefined): readonly SyncEntry[] => {
  const read = readEnvelope(text ?? '')
  return read.ok && Array.isArray(read.envelope.body.entries) ? read.envelope.body.entries : []
}
/** Pushes are opened, merged and kept in one transaction: what the database keeps it judges by the envelopes' own bytes. */
const pushAs = (pool: Pool, texts: readonly string[]) =>
  withTransaction(pool, async (connection) => {
    const [row] = await call<{ fn_sync_open: Opened }>(connection, 'devices.fn_sync_open', [texts])
    const merged = decideMerge(row?.fn_sync_open as Opened, (idx) => entriesIn(texts[idx - 1]))
    const rows = await call<{ idx: number | null; outcome: Outcome }>(connection, 'devices.fn_sync_push', [
      texts,
      merged,
    ])
    return rows.flatMap(({ idx, outcome }) => (idx === null ? [] : [{ idx, outcome }]))
  })

/** Applies envelopes of one kind with the applying worker's role, which need not have looked at them. */
export const applyAs = async (roles: Roles, kind: InKind, texts: readonly string[]): Promise<Outcome[]> => {
  const { role, name } = appliers[kind]
  // A registrar that lies says of every rotation that it found its proof good.
  const besides = kind === 'rotate' ? [texts.map(() => null)] : []
  const rows =
    kind === 'sync_push'
      ? await pushAs(roles.pool(role), texts)
      : await call<{ idx: number; outcome: Outcome }>(roles.pool(role), name, [texts, ...besides])
  return rows.toSorted((a, b) => a.idx - b.idx).map(({ outcome }) => outcome)
}

/** No worker but two that pass everything on: what is left is the database. */
export const databaseRoad = (roles: Roles, gatewayId: string): Road => {
  const send = async (signer: Signatory, sealed: Sealed): Promise<Outcome> => {
    const verdict = await claimAs(roles, signer, sealed)
    if (verdict !== 'ok') return { digest: sealed.digest, ok: false, code: verdict as ReasonCode }
    const [outcome] = await applyAs(roles, sealed.kind as InKind, [sealed.text])
    return outcome as Outcome
  }
  const say: Road['say'] = (signer, said, forgery) => send(signer, seal(gatewayId, signer, said, forgery))
  return { name: 'database', gatewayId, say, send, close: async () => {} }
}

const deadlineMs = 60_000

/** Hears what the gateway says to signatories, on their own connections, which the auth callout admitted. */
const createEars = (stack: Stack) => {
  const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
  const connections = new Map<string, Promise<EdgeBus>>()
  const heard = new Map<string, Outcome[]>()
  const wake: (() => void)[] = []
  const note = (outcome: Outcome): void => {
    heard.set(outcome.digest, [...(heard.get(outcome.digest) ?? []), outcome])
    for (const go of wake.splice(0)) go()
  }
  const open = async ({ kid, lenser, keys }: Signatory): Promise<EdgeBus> => {
    const { url, gateway_id: gatewayId } = stack.descriptor
    // A key that nobody vouched for yet says which it is.
    const includePublicKey = lenser === nilUuid
    const bus = await connectEdge({ url, gatewayId, kid, lenser, key: keys.privateKey, includePublicKey })
    bus.onMessage(({ subject, bytes }) => {
      // That there is something to pull is said of nothing that was sent.
      if (subject.endsWith('.change')) return
      const kind = subject.endsWith('.receipt') ? ('receipt' as const) : ('answer' as const)
      const body = verifyGatewayMessage(bytes, list, { kind, use: kind, to: kid, now: Date.now() })
      for (const outcome of 'items' in body ? body.items : [body]) note(outcome as Outcome)
    })
    return bus
  }
  const busOf = (signer: Signatory): Promise<EdgeBus> => {
    const name = `${signer.lenser} ${signer.kid}`
    const known = connections.get(name) ?? open(signer)
    connections.set(name, known)
    return known
  }
  /** What was said of a digest the n-th time, from 0. */
  const outcomeOf = async (digest: string, n = 0): Promise<Outcome> => {
    for (const end = Date.now() + deadlineMs; ; ) {
      const outcome = heard.get(digest)?.[n]
      if (outcome !== undefined) return outcome
      if (Date.now() > end) throw new Error(`nothing was said of ${digest}`)
      await Promise.race([new Promise<void>((go) => wake.push(go)), sleep(250)])
    }
  }
  const close = async (): Promise<void> => {
    await Promise.all([...connections.values()].map(async (bus) => (await bus).close()))
  }
  return { busOf, outcomeOf, heard: heard as ReadonlyMap<string, readonly Outcome[]>, close }
}
export type Ears = ReturnType<typeof createEars>

/** The whole gateway: the device's own connection, broker, verifier, applier, database. */
export const busRoad = (stack: Stack): Road & { readonly ears: Ears } => {
  const ears = createEars(stack)
  const gatewayId = stack.descriptor.gateway_id
  const send = async (signer: Signatory, { kind, bytes, digest }: Sealed): Promise<Outcome> => {
    const bus = await ears.busOf(signer)
    const door = { lenser: signer.lenser, kid: signer.kid, kind }
    const before = ears.heard.get(digest)?.length
    bus.publish(kinds[kind].door === 'in' ? inSubject(door) : askSubject(door), bytes)
    return ears.outcomeOf(digest, before)
  }
  const say: Road['say'] = (signer, said, forgery) => send(signer, seal(gatewayId, signer, said, forgery))
  return { name: 'bus', gatewayId, say, send, ears, close: ears.close }
}

/**
 * A verifier that lies: whatever it is given it claims, with its database role, and publishes as verified, with its broker
 * user. What is left is the applying worker and the database.
 * @param ears where the device hears what comes of it
 */
export const insiderRoad = async (
  stack: Stack,
  roles: Roles,
  ears: Ears,
): Promise<Road & { readonly publish: (signer: Signatory, sealed: Sealed) => Promise<Outcome> }> => {
  const verifier = await connectWorker(stack, 'verifier')
  const gatewayId = stack.descriptor.gateway_id
  /** As verified, and not claimed. */
  const publish = async ({ kid, lenser, ...signer }: Signatory, sealed: Sealed): Promise<Outcome> => {
    await ears.busOf({ kid, lenser, ...signer })
    const stored = String(BigInt(Date.now()) * 1_000_000n)
    const before = ears.heard.get(sealed.digest)?.length
    const line = encodeVerifiedLine({ lenser, kid, digest: sealed.digest, stored, text: sealed.text })
    await verifier.publish(okSubject(sealed.kind), line)
    return ears.outcomeOf(sealed.digest, before)
  }
  const send = async (signer: Signatory, sealed: Sealed): Promise<Outcome> => {
    const verdict = await claimAs(roles, signer, sealed)
    if (verdict !== 'ok') return { digest: sealed.digest, ok: false, code: verdict as ReasonCode }
    return publish(signer, sealed)
  }
  const say: Road['say'] = (signer, said, forgery) => send(signer, seal(gatewayId, signer, said, forgery))
  return { name: 'lying verifier', gatewayId, say, send, publish, close: verifier.close }
}
