import { lstatSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

const others = 0o077

/**
 * Lets Node keep what it compiled, which halves the time until a command runs and saves the daemon the compiler's
 * memory. Only in a profile folder that is this user's alone: what lies there is run.
 *
 * @param {NodeJS.ProcessEnv} env
 */
export const keepCompiled = (env = process.env) => {
  const folder = env.LENSERFIGHT_HOME || join(homedir(), '.lenserfight')
  const stat = lstatSync(folder, { throwIfNoEntry: false })
  const isOurs = process.getuid === undefined || stat?.uid === process.getuid()
  if (stat?.isDirectory() && isOurs && (stat.mode & others) === 0) enableCompileCache(join(folder, 'cache'))
}
