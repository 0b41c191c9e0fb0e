import type { OwnerDatabase } from '@lenserfight/testkit'

/** Schemas whose rows a level or a verdict rests on. */
const evidential = ['agents', 'battles', 'execution', 'lenses']
/** Queues of work to be done, and what of it is kept to be said again: nothing rests on them. */
const isWorking = /(reevaluations|run_renewals|open_runs)/

/** Every table of evidence that there is. */
export const evidenceTables = async (db: OwnerDatabase): Promise<string[]> => {
  const { rows } = await db.query(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`,
    [evidential],
  )
  return (rows as { name: string }[]).map(({ name }) => name).filter((name) => !isWorking.test(name))
}

/** Rows of a table of evidence that name an id: `table of n`, n being the id's place. */
export type Evidence = Readonly<Record<string, { readonly count: number; readonly content: string }>>

/** How many rows of each table of evidence name each of these ids, whatever the column is called, and what they say. */
export const evidenceOf = async (db: OwnerDatabase, ids: readonly string[]): Promise<Evidence> => {
  const tables = await evidenceTables(db)
  const found = tables.map(
    (name) =>
      `SELECT '${name} of ' || id.n AS name, count(*)::int AS count, md5(string_agg(y.row, '' ORDER BY y.row)) AS content
         FROM (SELECT to_jsonb(x)::text AS row FROM ${name} x OFFSET 0) y
         JOIN unnest($1::text[]) WITH ORDINALITY AS id (id, n) ON strpos(y.row, id.id) > 0 GROUP BY id.n`,
  )
  const { rows } = await db.query(found.join(' UNION ALL '), [ids])
  const named = rows as { name: string; count: number; content: string }[]
  return Object.fromEntries(named.map(({ name, ...one }) => [name, one]))
}

/** What a device's envelopes can do to the device itself: its row, its heartbeats, and what of its operations is over. */
export const effectsOn = async (db: OwnerDatabase, kid: string): Promise<unknown> => {
  const { rows } = await db.query(
    `SELECT to_jsonb(d) AS device,
            (SELECT count(*)::int FROM devices.heartbeats h WHERE h.device_id = d.id) AS heartbeats,
            (SELECT count(*)::int FROM devices.operations o WHERE o.kid = d.id) AS operations,
            (SELECT count(*)::int FROM devices.counters c WHERE c.device_id = d.id) AS counted,
            (SELECT count(*)::int FROM devices.sync_outbox s WHERE s.device_id = d.id) AS edits,
            (SELECT md5(string_agg(o.state::text, '' ORDER BY o.class, o.object)) FROM devices.sync_objects o
              WHERE o.lenser_id = d.lenser_id AND o.class = 'agent_config') AS objects,
            (SELECT count(*)::int FROM devices.sync_watermarks w WHERE w.device_id = d.id) AS pulled
       FROM devices.registered_devices d WHERE d.id = $1`,
    [kid],
  )
  return rows[0]
}
