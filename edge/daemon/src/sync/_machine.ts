import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openStore } from '../store.ts'
import { createObjects, type ObjectsOptions } from './objects.ts'
import { createSyncTables } from './tables.ts'

export const deviceA = '00000000-0000-7000-8000-00000000000a'
export const deviceB = '00000000-0000-7000-8000-00000000000b'

/** A machine's objects on a disk of its own, with nobody to talk to. */
export const newMachine = (more: Partial<ObjectsOptions> = {}, device = deviceA) => {
  const file = join(mkdtempSync(join(tmpdir(), 'lf-sync-')), 'state.db')
  const store = openStore(file)
  const tables = createSyncTables(store)
  const objects = createObjects({ tables, deviceId: () => device, ...more })
  return { file, store, tables, objects }
}

export const reviewer = { class: 'agent_config', object: 'reviewer' }
