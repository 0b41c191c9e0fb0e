import type { ReasonCode } from '@lenserfight/schemas'
import type { Clock, Delta, ObjectName, ObjectState } from '@lenserfight/sync'

/** Why an object's edits wait for a person: the gateway refused them for good. */
export interface SetAside {
  readonly code: ReasonCode
  readonly detail: string | null
  /** Milliseconds since 1970. */
  readonly at: number
}

/** An object as this machine keeps it. Times are milliseconds since 1970. */
export interface ObjectRecord extends ObjectName {
  /** What it is here: the confirmed state with every edit of this machine. */
  readonly local: ObjectState
  /** What the gateway's feed said of it, joined; null where it said nothing, or that it was purged. */
  readonly confirmed: ObjectState | null
  /** Under which incarnation this machine edits it; 0 before its first edit. */
  readonly incarnation: number
  /** The link of the newest edit under that incarnation. */
  readonly link: string | null
  /** Its edits rest on what the gateway does not have: they are written again on what its snapshot says (rule 14). */
  readonly isRebasing: boolean
  readonly rebasedAt: number | null
  /** Its edits are not sent before then. */
  readonly notBefore: number
  readonly setAside: SetAside | null
  readonly changedAt: number
}

/** An edit that the gateway's feed has not brought back yet (rule 6). */
export interface OutboxEntry {
  /** Its place in the order of edits; absent of one that is not kept yet. */
  readonly id?: number
  readonly delta: Delta
  /** The confirmed clock when it was edited. */
  readonly base: Clock
  /** Of its canonical JSON as it is pushed. */
  readonly bytes: number
  /** The push under way that carries it. */
  readonly opId: string | null
  /** The gateway's receipt says that it is merged; kept until the feed brings it. */
  readonly isApplied: boolean
  readonly createdAt: number
}

/** An object and its edits, oldest first: what every transition takes and gives. */
export interface Kept {
  readonly record: ObjectRecord
  readonly entries: readonly OutboxEntry[]
}

/** Who edits, and when. */
export interface Editor {
  readonly deviceId: string
  /** Milliseconds since 1970. */
  readonly now: number
}

export const isPending = ({ isApplied }: OutboxEntry): boolean => !isApplied
