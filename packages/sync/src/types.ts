/** A writer of objects: `<device id>~<incarnation>` (sync.md, rule 5). */
export type Actor = string
/** How many edits of one object each writer had made. */
export type Clock = Readonly<Record<Actor, number>>
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }

/** One write of one path: by whom, having seen what, and what; null deletes. */
export interface Write {
  readonly actor: Actor
  readonly clock: Clock
  readonly value: Json
}

/**
 * An object as it is stored (rule 1): per path the writes that no other has seen and overwritten, and the join of every clock ever
 * merged.
 */
export interface ObjectState {
  readonly clock: Clock
  readonly paths: Readonly<Record<string, readonly Write[]>>
}

/** Which object is meant. */
export interface ObjectName {
  readonly class: string
  readonly object: string
}

/** One edit of an object: the paths that it changed (rule 6). */
export interface Delta extends ObjectName {
  readonly actor: Actor
  /** What the edit had seen, itself included. */
  readonly clock: Clock
  readonly paths: Readonly<Record<string, Json>>
  /** The link of this actor's edit of this object before; null for its first. */
  readonly prev: string | null
}
