import { InfrastructureError } from '@lenserfight/runtime'
import pg from 'pg'
import { isDatabaseFailure, toReason } from './errors.ts'
import type { Connection, Pool } from './pool.ts'

const functionName = /^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/

/**
 * Calls a function of the database by name and returns its rows; a function that returns no table gives one row with one
 * column, named after it. Objects among the arguments are sent as JSON, arrays as arrays, byte arrays as bytea.
 * @throws what `toReason` says: InfrastructureError, DataError, CodedError
 * @throws TypeError where the name is not `schema.function`
 */
export const call = async <T = Record<string, unknown>>(
  db: Pool | Connection,
  name: string,
  args: readonly unknown[],
): Promise<T[]> => {
  if (!functionName.test(name)) throw new TypeError('a function is named schema.function')
  const places = args.map((_, index) => `$${index + 1}`).join(', ')
  // Named, so that each connection plans it once.
  const query = { name: `${name}/${args.length}`, text: `SELECT * FROM ${name}(${places})`, values: [...args] }
  const run = async (connection: Connection) => (await connection.query(query)).rows as T[]
  if (db instanceof pg.Pool) return withConnection(db, run)
  try {
    return await run(db)
  } catch (error) {
    throw toReason(error)
  }
}

/**
 * Runs something with one connection of the pool. A connection whose infrastructure failed is not used again.
 * @throws what `toReason` says of the database's failures; what `use` itself throws, as it is
 */
export const withConnection = async <T>(pool: Pool, use: (connection: Connection) => Promise<T>): Promise<T> => {
  let connection: pg.PoolClient
  try {
    connection = await pool.connect()
  } catch (error) {
    throw toReason(error)
  }
  let broken = false
  try {
    return await use(connection)
  } catch (error) {
    const reason = isDatabaseFailure(error) ? toReason(error) : error
    broken = reason instanceof InfrastructureError
    throw reason
  } finally {
    connection.release(broken)
  }
}

/**
 * Runs something in one transaction: committed when it resolves, rolled back when it throws.
 * @throws as `withConnection` does
 */
export const withTransaction = <T>(pool: Pool, use: (connection: Connection) => Promise<T>): Promise<T> =>
  withConnection(pool, async (connection) => {
    await connection.query('BEGIN')
    try {
      const result = await use(connection)
      await connection.query('COMMIT')
      return result
    } catch (error) {
      // On a connection that is gone this fails too, and the server rolls back by itself.
      await connection.query('ROLLBACK').catch(() => {})
      throw error
    }
  })
