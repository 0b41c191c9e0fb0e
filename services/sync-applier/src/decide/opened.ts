import type { ObjectState } from '@lenserfight/sync'

/** What the database says of one entry before it is merged: why it may not be, or of which object it is. */
export type OpenedEntry =
  | { readonly code: string }
  | {
      /** The object's place among the opened ones. */
      readonly at: number
      /** The link on record under the entry's number, base64url; absent where there is none, or no more. */
      readonly link_at?: string
    }

/** An object, locked, as it is stored. */
export interface OpenedObject {
  readonly class: string
  readonly object: string
  readonly state: ObjectState
  /** Links of the newest edits by actors that are in the batch. */
  readonly links: Readonly<Record<string, string>>
}

/** One push whose entries are to be merged, those of a batch in the order in which they are. */
export interface OpenedPush {
  /** Its place among the envelopes, from 1. */
  readonly idx: number
  /** Who signed it, and so edited. */
  readonly device_id: string
  readonly entries: readonly OpenedEntry[]
}

/** What `devices.fn_sync_open` opened and holds locked. */
export interface Opened {
  readonly items: readonly OpenedPush[]
  readonly objects: readonly OpenedObject[]
}
