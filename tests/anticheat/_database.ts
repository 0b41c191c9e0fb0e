import { randomUUID } from 'node:crypto'
import { createPool, type Pool } from '@lenserfight/db'
import { createLogger } from '@lenserfight/runtime'
import { testPostgres } from '@lenserfight/testkit'
import type { TestFn } from 'ava'
import { databaseRoad, type Road, type Roles, rolesOf } from './_roads.ts'

/** A database of one's own with nothing before it. */
export interface Bare {
  /** As superuser. */
  readonly db: Pool
  readonly roles: Roles
  readonly road: Road
  readonly roads: readonly Road[]
}

/**
 * One for a test file.
 * @param prepare what is done to it first, as superuser
 */
export const useDatabase = (test: TestFn, prepare = ''): (() => Bare) => {
  let bare: Bare | undefined
  let drop: (() => Promise<void>) | undefined
  test.before(async () => {
    const database = await testPostgres()
    const logger = createLogger({ service: 'verifier', level: 'silent' })
    const roles = rolesOf(database.as)
    const road = databaseRoad(roles, randomUUID())
    bare = {
      db: createPool({ ...database.owner, max: 4, logger, connectTimeoutMs: 60_000 }),
      roles,
      road,
      roads: [road],
    }
    drop = database.drop
    if (prepare !== '') await bare.db.query(prepare)
  })
  test.after.always(async () => {
    await Promise.all([bare?.roles.end(), bare?.db.end()])
    await drop?.()
  })
  return () => bare as Bare
}
