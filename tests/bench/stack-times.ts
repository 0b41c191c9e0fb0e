import type { Pool } from '@lenserfight/db'

const deadlineMs = 120_000
const pollMs = 5

/** Waits until something is so. */
export const until = async (look: () => boolean | Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + deadlineMs; !(await look()); ) {
    if (Date.now() > end) throw new Error('the gateway does not get through')
    await new Promise((done) => setTimeout(done, pollMs))
  }
}

/** Microseconds that PostgreSQL spent in each function itself while something was done. */
export const functionTimes = async (owner: Pool, work: () => Promise<unknown>): Promise<Record<string, number>> => {
  const tell = async (value: string): Promise<void> => {
    await owner.query(`ALTER SYSTEM SET track_functions = '${value}'`)
    await owner.query('SELECT pg_reload_conf()')
  }
  const read = async (): Promise<Map<string, number>> => {
    const { rows } = await owner.query(
      `SELECT schemaname || '.' || funcname AS name, sum(self_time) * 1000 AS us FROM pg_stat_user_functions GROUP BY 1`,
    )
    return new Map((rows as { name: string; us: number }[]).map(({ name, us }) => [name, us]))
  }
  await tell('pl')
  await work()
  await tell('none')
  return Object.fromEntries(await read())
}
