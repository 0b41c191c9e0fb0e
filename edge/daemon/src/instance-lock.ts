import { DatabaseSync } from 'node:sqlite'
import { ensurePrivateFile } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'

/** Until they are given up: a database that nobody refers to is closed by the garbage collector, and its lock goes with it. */
const held = new Set<DatabaseSync>()

/**
 * Takes a lock for this process. SQLite's lock is the operating system's: it ends with the process, however that ends, so
 * there is no stale lock to break.
 * @returns gives it up; undefined where another process has it
 * @throws CodedError `state_unwritable`, `insecure_permissions`
 */
export const tryLock = (file: string): (() => void) | undefined => {
  ensurePrivateFile(file)
  const db = new DatabaseSync(file, { timeout: 0 })
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (cause) {
    db.close()
    if ((cause as { errcode?: number }).errcode === 5) return undefined
    throw new CodedError('state_unwritable', file, { cause })
  }
  held.add(db)
  return () => {
    held.delete(db)
    if (db.isOpen) db.close()
  }
}

/**
 * Takes the state folder for this process.
 * @returns gives it up
 * @throws CodedError `daemon_running` where another process has it
 */
export const takeInstanceLock = (file: string): (() => void) => {
  const unlock = tryLock(file)
  if (unlock === undefined) throw new CodedError('daemon_running')
  return unlock
}
