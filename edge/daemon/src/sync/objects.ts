import { EnvelopeError } from '@lenserfight/envelope'
import {
  CodedError,
  checkPath,
  classRefusal,
  lifePath,
  limits,
  objectClassOf,
  objectIdPattern,
} from '@lenserfight/schemas'
import { type Change, isTooLarge, type Json, type ObjectName, partsOf, read } from '@lenserfight/sync'
import type { SyncTables } from './tables.ts'
import { discarded, edited } from './transitions.ts'
import { isPending, type Kept } from './types.ts'

const listLimit = 500
const idPattern = new RegExp(objectIdPattern)

/** The objects of this machine, for who works with them: all of it is on the disk on return, with or without the gateway. */
export interface Objects {
  /**
   * Changes paths; null deletes one.
   * @throws CodedError `unknown_class`, `cloud_authoritative` (SB-4), `local_only_class` (SC-5), `invalid_object`,
   * `object_too_large`, `outbox_full`, `state_unwritable`
   */
  readonly set: (name: ObjectName, paths: Readonly<Record<string, unknown>>) => ObjectView
  /** @throws CodedError as `set`, and `object_not_found` */
  readonly delete: (name: ObjectName) => ObjectView
  readonly undelete: (name: ObjectName) => ObjectView
  /** Gives up the edits of an object that was set aside. */
  readonly discard: (name: ObjectName) => ObjectView
  /** @throws CodedError `unknown_class`, `local_only_class`, `object_not_found` */
  readonly get: (name: ObjectName) => ObjectView
  /** In the order of class and name, living ones where `deleted` is not set. @param after `<class>/<object>` */
  readonly list: (which: { readonly class?: string; readonly deleted?: boolean; readonly after?: string }) => {
    readonly objects: readonly Readonly<Record<string, unknown>>[]
    readonly more: boolean
  }
}

/** An object as a person sees it. */
export type ObjectView = ReturnType<typeof viewOf>

const viewOf = ({ record, entries }: Kept) => {
  const { alive, paths, conflicts, beside, editedWhileDeleted } = read(record.class, record.local)
  return {
    class: record.class,
    object: record.object,
    authority: objectClassOf(record.class)?.authority ?? null,
    alive,
    paths,
    conflicts: conflicts.map(({ path, sides }) => ({ path, sides })),
    /** Written at the same time as what is read, by who had not seen it: it stands until the path is written anew. */
    beside: Object.entries(beside).map(([path, writes]) => ({
      path,
      writes: writes.map((write) => ({ ...write, device_id: partsOf(write.actor).deviceId })),
    })),
    edited_while_deleted: editedWhileDeleted,
    /** Edits that have no result yet. */
    pending: entries.filter(isPending).length,
    set_aside: record.setAside,
    changed_at: record.changedAt,
  }
}
const nothingOf = ({ class: className, object }: ObjectName, now: number): ObjectView => ({
  ...{ class: className, object, authority: objectClassOf(className)?.authority ?? null, alive: false, paths: {} },
  ...{ conflicts: [], beside: [], edited_while_deleted: [], pending: 0, set_aside: null, changed_at: now },
})

/** SC-5, SB-4: the first of the walls that each refuse alone what an edge may not write. */
const checkClass = (className: string): void => {
  const refusal = classRefusal(className)
  if (refusal !== null) throw new CodedError(refusal, className.slice(0, 64))
}
const checkReadable = (className: string): void => {
  const refusal = classRefusal(className)
  if (refusal !== null && refusal !== 'cloud_authoritative') throw new CodedError(refusal, className.slice(0, 64))
}
const checkName = ({ class: className, object }: ObjectName): void => {
  checkClass(className)
  if (!idPattern.test(object)) throw new CodedError('invalid_object', 'an object’s name is letters, digits and ._:-')
}
const checkPaths = (className: string, paths: Readonly<Record<string, unknown>>): void => {
  const names = Object.keys(paths)
  if (names.length === 0) throw new CodedError('invalid_object', 'nothing to set')
  if (names.includes(lifePath)) throw new CodedError('invalid_object', `${lifePath} is written by delete and undelete`)
  for (const name of names) {
    const objection = checkPath(className, name, paths[name])
    if (objection !== null) throw new CodedError('invalid_object', objection)
  }
}
const checkSize = ({ record }: Kept): void => {
  if (isTooLarge(record.class, record.local)) throw new CodedError('object_too_large')
}

/** What JSON cannot say, such as a lone surrogate, is no value. */
const asInvalid = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    if (error instanceof EnvelopeError) throw new CodedError('invalid_object', error.message, { cause: error })
    throw error
  }
}

export interface ObjectsOptions {
  readonly tables: SyncTables
  readonly deviceId: () => string
  /** Told of each edit, once it is on the disk. */
  readonly onEdited?: () => void
  /** How many edits are kept that the gateway’s feed has not brought back. */
  readonly capacity?: number
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

export const createObjects = (options: ObjectsOptions): Objects => {
  const { tables, deviceId, onEdited = () => {}, capacity = limits.syncEntries, now = Date.now } = options
  const by = () => ({ deviceId: deviceId(), now: now() })
  const found = (name: ObjectName): Kept => {
    const kept = tables.find(name)
    if (kept === undefined) throw new CodedError('object_not_found', `${name.class}/${name.object}`.slice(0, 200))
    return kept
  }

  /** State and outbox in one transaction (rule 5). */
  const change = (name: ObjectName, what: Change, lookUp: (name: ObjectName) => Kept | undefined): ObjectView => {
    const after = tables.transaction(() => {
      const before = lookUp(name)
      const next = asInvalid(() => edited(before, name, what, by()))
      if (next === before) return next
      if (tables.countKept() >= capacity) throw new CodedError('outbox_full')
      if (what !== 'delete') checkSize(next)
      tables.save(before, next)
      return next
    })
    onEdited()
    return viewOf(after)
  }

  return {
    set: (name, paths) => {
      checkName(name)
      checkPaths(name.class, paths)
      return change(name, { paths: paths as Record<string, Json> }, tables.find)
    },
    delete: (name) => {
      checkName(name)
      return change(name, 'delete', found)
    },
    undelete: (name) => {
      checkName(name)
      return change(name, 'undelete', found)
    },
    discard: (name) => {
      checkName(name)
      const after = tables.transaction(() => {
        const before = found(name)
        const next = discarded(before, by())
        if (next !== before) tables.save(before, next)
        return next
      })
      return after === null ? nothingOf(name, now()) : viewOf(after)
    },
    get: (name) => {
      checkReadable(name.class)
      return viewOf(found(name))
    },
    list: ({ class: className, deleted = false, after = '' }) => {
      if (className !== undefined) checkReadable(className)
      const at = after.indexOf('/')
      const from = at < 0 ? { class: after, object: '' } : { class: after.slice(0, at), object: after.slice(at + 1) }
      const objects = tables.list({ class: className, deleted, after: from }, listLimit + 1)
      return { objects: objects.slice(0, listLimit).map((each) => ({ ...each })), more: objects.length > listLimit }
    },
  }
}
