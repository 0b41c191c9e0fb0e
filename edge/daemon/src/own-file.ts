import { lstatSync } from 'node:fs'

/**
 * Remembers which file a path names now, to be held open for as long as it is asked for: the number of one that is closed and gone may
 * be given to another.
 * @returns whether the path names that file still; false where it names another or none, or nobody can look
 */
export const rememberFile = (path: string): (() => boolean) => {
  const own = lstatSync(path, { bigint: true })
  return () => {
    try {
      const { dev, ino } = lstatSync(path, { bigint: true })
      return dev === own.dev && ino === own.ino
    } catch {
      return false
    }
  }
}
