import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'

const copyPrivate = (from: string, to: string): void => {
  copyFileSync(from, to)
  chmodSync(to, 0o600)
}

/**
 * Takes a machine's home as a thief or a backup would, while its daemon runs: keys, configuration and state.
 * @returns the folder of the copy
 */
export async function copyHome(home: string, to: string): Promise<string> {
  const [from, copy] = [join(home, 'gateway'), join(to, 'gateway')]
  mkdirSync(join(copy, 'keys'), { recursive: true, mode: 0o700 })
  for (const name of readdirSync(join(from, 'keys'))) copyPrivate(join(from, 'keys', name), join(copy, 'keys', name))
  for (const name of ['keychain.json', 'daemon.json']) {
    if (existsSync(join(from, name))) copyPrivate(join(from, name), join(copy, name))
  }
  const state = new DatabaseSync(join(from, 'state.db'), { readOnly: true })
  try {
    await backup(state, join(copy, 'state.db'))
  } finally {
    state.close()
  }
  chmodSync(join(copy, 'state.db'), 0o600)
  return to
}
