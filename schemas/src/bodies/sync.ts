import Type, { type Static } from '../../typebox/index.mjs'
import { reasonCodes } from '../codes.ts'
import { limits } from '../limits.ts'
import {
  Bytes32,
  body,
  counted,
  countedOperation,
  Nullable,
  operation,
  ShortText,
  UnixSeconds,
  Uuid,
} from './common.ts'

/** One writer of objects: a device and its incarnation, of which it takes a new one where its past is not its own (rule 9). */
export const actorPattern = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}~[1-9][0-9]{0,14}$'
const Count = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const Seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Epoch = Type.Integer({ minimum: 1, maximum: 1_000_000 })
const Clock = Type.Record(Type.String({ pattern: actorPattern }), Count, {
  minProperties: 1,
  // More than one may name: then its entry is refused, and not all that came with it.
  maxProperties: limits.clockActors * 4,
  additionalProperties: false,
})

/**
 * One outbox entry (sync.md, rule 6): the paths that an edit changed and the clock of it. Who edited is the envelope's device
 * under `incarnation`; `prev` is the link of that actor's edit of this object before, null for its first. Names, paths and values
 * are judged entry by entry, so that one that is refused holds up no other.
 */
export const SyncEntry = Type.Object(
  {
    class: ShortText(64),
    object: ShortText(256),
    incarnation: Type.Integer({ minimum: 1, maximum: 999_999_999_999_999 }),
    clock: Clock,
    prev: Nullable(Bytes32),
    paths: Type.Record(ShortText(256), Type.Unknown(), { minProperties: 1, maxProperties: limits.objectPaths }),
  },
  { additionalProperties: false },
)

/** A batch of outbox entries, in the order in which they were edited; the result says of each what became of it. */
export const SyncPushBody = countedOperation('sync_push', {
  /** The database's epoch as the device knows it: after a restore its edits rest on what is no more (rule 14). */
  epoch: Epoch,
  /** The number of the lease under which coordinated classes are flushed. */
  fence: Type.Optional(Count),
  entries: Type.Array(SyncEntry, { minItems: 1, maxItems: limits.entriesPerPush }),
})

/** What a device says of its own sync: shown to its owner, and nothing rests on it. */
const SyncReport = Type.Object(
  {
    pending: Type.Integer({ minimum: 0, maximum: limits.syncEntries * 2 }),
    set_aside: Type.Integer({ minimum: 0, maximum: limits.syncEntries * 2 }),
    last_code: Type.Optional(Type.Enum([...reasonCodes])),
    /** Classes whose checksum differs although it pulled everything. */
    diverged: Type.Array(ShortText(64), { maxItems: 32 }),
  },
  { additionalProperties: false },
)

/**
 * Asks for what changed after the device's own cursors, class by class. No operation: the watermark becomes that cursor in the
 * transaction that reads the rows after it, so the same request gives the same rows (SB-1).
 */
export const SyncPullBody = counted('sync_pull', {
  /** Null while none is known. */
  epoch: Nullable(Epoch),
  cursors: Type.Record(Type.String({ pattern: '^[a-z_]{1,64}$' }), Seq, {
    minProperties: 1,
    maxProperties: 32,
    additionalProperties: false,
  }),
  report: SyncReport,
})

/** What leads: `sync_flush` lets one machine of an account flush the classes that need coordination. */
export const leaseKinds = ['sync_flush'] as const
/** Asks for the leader lease, or, with 0 seconds, gives it back. Not to be mixed up with the execution lease. */
export const LeaderBody = body('leader', {
  lease_kind: Type.Enum([...leaseKinds]),
  seconds: Type.Integer({ minimum: 0, maximum: limits.leaderSeconds }),
})

/** The owner's view of every device's sync. */
export const SyncStatusBody = body('sync_status', {})
/** Open conflicts with both sides and their base, oldest first; or one of them, open or not. */
export const SyncConflictsBody = body('sync_conflicts', {
  conflict_id: Type.Optional(Uuid),
  after: Type.Optional(Uuid),
})
/**
 * SC-4: what a person decided of a conflict. `sides_digest` names the sides that they saw; the winner is one of those by its
 * place, the common base, or a value of their own (null deletes).
 */
export const SyncResolveBody = operation('sync_resolve', {
  conflict_id: Uuid,
  sides_digest: Bytes32,
  winner: Type.Union([
    Type.Object({ side: Type.Integer({ minimum: 0, maximum: 63 }) }, { additionalProperties: false }),
    Type.Object({ base: Type.Literal(true) }, { additionalProperties: false }),
    Type.Object({ value: Type.Unknown() }, { additionalProperties: false }),
  ]),
})
/** Opens again what was resolved: the sides stand beside each other as before. */
export const SyncUndoBody = operation('sync_undo', { resolution_id: Uuid })

/** Tells a device that there is something to pull. Nothing rests on its arrival. */
export const ChangeBody = body('change', { to: Uuid, time: UnixSeconds, epoch: Epoch, seq: Seq })

export type SyncEntry = Static<typeof SyncEntry>
export type SyncPushBody = Static<typeof SyncPushBody>
export type SyncPullBody = Static<typeof SyncPullBody>
export type LeaderBody = Static<typeof LeaderBody>
export type SyncResolveBody = Static<typeof SyncResolveBody>
export type SyncUndoBody = Static<typeof SyncUndoBody>
export type ChangeBody = Static<typeof ChangeBody>
