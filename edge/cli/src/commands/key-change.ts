import {
  connectDaemon,
  createKeyChanges,
  type DaemonClient,
  decideChange,
  describeKey,
  type Enrolled,
  enrolledOf,
  keyFactsOf,
  type Outcome,
  type ReadyChange,
  takeInstanceLock,
} from '@lenserfight/daemon/client'
import { CodedError, isReasonCode, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { enrolledHere, openDaemon } from '../daemon.ts'
import { type KeyReport, linesOfKey } from '../key-lines.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { listDevices } from '../owner/devices.ts'

const waitSlackMs = 1_000

/** `lf gateway identity rotate`: the daemon replaces this device's key. Without it nobody could say which of two keys is in force. */
export const rotateIdentity = async (context: Context, { wait }: { wait: number }): Promise<void> => {
  const { output } = context
  const daemon = await openDaemon(context)
  try {
    const report = await daemon.request('identity.rotate', { timeout_ms: Math.max(waitSlackMs, wait * 1000) })
    const {
      public_key,
      key,
      done,
      last_code: code,
    } = report as {
      public_key: string
      key: KeyReport
      done: boolean
      last_code: unknown
    }
    const why = isReasonCode(code) ? `${code}: ${reasonOf(code).message}` : 'it has not answered yet'
    output.result({ ok: true, ...report }, [
      done
        ? 'The key was replaced; the former one is gone from this machine.'
        : 'The new key awaits the gateway’s word.',
      ...(done ? linesOfKey(public_key, key) : [`${why} The daemon goes on by itself.`]),
    ])
  } finally {
    daemon.close()
  }
}

/** Who keeps the keys while they change: the daemon, or this process in its place. */
interface KeyHolder {
  readonly prepare: () => Promise<ReadyChange>
  readonly settle: (change: ReadyChange, outcome: Outcome, owner: Owner) => Promise<void>
  readonly close: () => void
}

const holdByDaemon = (daemon: DaemonClient): KeyHolder => ({
  prepare: async () => (await daemon.request('identity.prepare', {})) as unknown as ReadyChange,
  settle: async ({ op_id }, outcome) => {
    const said = outcome.ok
      ? { ok: true as const, result: { ...outcome.result } }
      : { ok: false as const, code: outcome.code ?? ('internal_error' as const) }
    await daemon.request('identity.settle', { op_id, outcome: said })
  },
  close: daemon.close,
})

/** What the gateway says is in force, after a refusal that may be older than the change. */
const inForceOf = async (owner: Owner, deviceId: string): Promise<string | undefined> =>
  (await listDevices(owner)).devices.find(({ device_id }) => device_id === deviceId)?.fingerprint ?? undefined

const holdHere = (context: Context): KeyHolder => {
  const unlock = takeInstanceLock(context.edge.lockFile)
  const changes = createKeyChanges({ settings: context.settings(), keychain: context.keychain })
  return {
    prepare: () => changes.begin('reprove'),
    settle: async ({ op_id }, outcome, owner) => {
      const identity = changes.identity()
      const change = identity.changes?.find((each) => each.op_id === op_id)
      if (change === undefined) return
      const inForce = outcome.ok ? undefined : await inForceOf(owner, identity.device_id)
      const decision = decideChange(change, { outcome, inForce })
      if (decision === 'adopt') changes.adopt(op_id, keyFactsOf(outcome.result))
      if (decision === 'drop') changes.drop(op_id)
      await changes.sweep()
    },
    close: unlock,
  }
}

const openHolder = async (context: Context): Promise<KeyHolder> => {
  const daemon = await connectDaemon(context.edge.socket).catch((error: unknown) => {
    if (error instanceof CodedError && error.code === 'daemon_unreachable') return undefined
    throw error
  })
  return daemon === undefined ? holdHere(context) : holdByDaemon(daemon)
}

/** Asks the gateway; a refusal for good is an outcome, any other leaves the change for the next time. */
const ask = async (owner: Owner, { op_id, body }: ReadyChange): Promise<Outcome> => {
  try {
    return { ok: true, result: await owner.request('reprove', { op_id, ...body }) }
  } catch (error) {
    if (error instanceof CodedError && reasonOf(error.code).next === 'stop') return { ok: false, code: error.code }
    throw error
  }
}

/**
 * `lf gateway identity reprove`: the owner vouches for a fresh key of this device, and the one before is dead at once: after
 * a restore from a backup, after a clone, or where the key is lost. Taken again after a crash, it goes on where it was.
 */
export const reproveIdentity = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    enrolledHere(context)
    const holder = await openHolder(context)
    try {
      const change = await holder.prepare()
      const outcome = await ask(owner, change)
      await holder.settle(change, outcome, owner)
      if (!outcome.ok) throw new CodedError(outcome.code ?? 'internal_error')
      const identity = enrolledOf(context.settings().get('identity')) as Enrolled
      const { new_public_key: newKey } = change.body
      const key = describeKey({ ...identity, public_key: newKey })
      const isTakenUp = identity.public_key === newKey
      context.output.result({ ok: true, ...outcome.result, key: describeKey(identity) }, [
        'This machine has a new key, and whoever has the former one signs for nobody.',
        ...linesOfKey(newKey, isTakenUp ? key : { number: null, since: null, expires_at: null }),
        ...(isTakenUp ? [] : ['The daemon takes it up when it hears from the gateway.']),
        `Level    ${String(outcome.result?.trust_level ?? 'not known')}`,
      ])
    } finally {
      holder.close()
    }
  })
