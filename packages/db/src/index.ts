/** @lenserfight/db: pool, transaction, calls by function name, migrations, SQLSTATE to reason. */
export { call, withConnection, withTransaction } from './call.ts'
export { DataError, ownStates, tookTooLong, toReason } from './errors.ts'
export { listenToNotices, type NoticeOptions, type Notices } from './listen.ts'
export { type MigrateOptions, migrate } from './migrate.ts'
export { type Connection, createPool, type Pool, type PoolOptions } from './pool.ts'
