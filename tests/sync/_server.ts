import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type Kept, keptWrite, type Logged, sortedJson } from './_oracle.ts'

const ask = <R>(stack: Stack, sql: string, values: readonly unknown[]): Promise<R[]> =>
  withClient(stack.owner, async (client: PgClient) => (await client.query(sql, [...values])).rows as R[])

/** Whose a device is. */
export const lenserOf = async (stack: Stack, device: string): Promise<string> => {
  const [row] = await ask<{ lenser_id: string }>(
    stack,
    'SELECT lenser_id FROM devices.registered_devices WHERE id = $1',
    [device],
  )
  return String(row?.lenser_id)
}

/** Every edit that was admitted of an account. */
export const loggedEdits = (stack: Stack, lenser: string): Promise<Logged[]> =>
  ask<Logged>(
    stack,
    `SELECT device_id AS device, object_class AS class, object_id AS object, actor, n::int, vclock AS clock, payload AS paths
       FROM devices.sync_outbox WHERE lenser_id = $1 ORDER BY id`,
    [lenser],
  )

interface Write {
  readonly actor: string
  readonly clock: Record<string, number>
  readonly value: unknown
}

/** Objects of an account that edges write, as they are stored, by `class object`. */
export const storedObjects = async (stack: Stack, lenser: string): Promise<Readonly<Record<string, Kept>>> => {
  const rows = await ask<{ name: string; state: { clock: Record<string, number>; paths: Record<string, Write[]> } }>(
    stack,
    `SELECT class || ' ' || object AS name, state FROM devices.sync_objects JOIN devices.object_classes c USING (class)
      WHERE lenser_id = $1 AND c.authority = 'both'`,
    [lenser],
  )
  const keptAt = (writes: readonly Write[]): string[] =>
    writes.map(({ actor, clock, value }) => keptWrite(actor, clock[actor], value)).sort()
  const kept = ({ clock, paths }: (typeof rows)[number]['state']): Kept => ({
    clock,
    paths: Object.fromEntries(Object.entries(paths).map(([path, writes]) => [path, keptAt(writes)])),
  })
  return Object.fromEntries(rows.map(({ name, state }) => [name, kept(state)]))
}

/** Open conflicts of an account: `class object path`, with the values of their sides as sorted JSON. */
export const openConflicts = async (stack: Stack, lenser: string): Promise<Record<string, readonly string[]>> => {
  const rows = await ask<{ name: string; sides: { value: unknown }[] }>(
    stack,
    `SELECT class || ' ' || object || ' ' || path AS name, sides FROM devices.sync_conflicts
      WHERE lenser_id = $1 AND closed_at IS NULL ORDER BY name`,
    [lenser],
  )
  return Object.fromEntries(rows.map(({ name, sides }) => [name, sides.map(({ value }) => sortedJson(value)).sort()]))
}

/** Pushes of an account that were applied, and how many of them have exactly their one record in its chain. */
export const auditedPushes = async (stack: Stack, lenser: string): Promise<{ applied: number; recorded: number }> => {
  const [row] = await ask<{ applied: number; recorded: number }>(
    stack,
    `SELECT count(*)::int AS applied, count(*) FILTER (WHERE 1 = (
        SELECT count(*) FROM audit.hash_chains c
         WHERE c.lenser_id = o.lenser_id AND c.kid = o.kid AND c.op_id = o.op_id AND c.digest = o.digest))::int AS recorded
       FROM devices.operations o WHERE o.lenser_id = $1 AND o.kind = 'sync_push' AND o.code IS NULL`,
    [lenser],
  )
  return row as { applied: number; recorded: number }
}

/** Whether nothing of what edges write is under way at the gateway, nor anything that waits for its chain. */
export const isAtRest = async (stack: Stack): Promise<boolean> => {
  const [row] = await ask<{ waiting: number }>(
    stack,
    `SELECT (SELECT count(*) FROM devices.sync_pending JOIN devices.object_classes c USING (class)
              WHERE c.authority = 'both')::int + (SELECT count(*) FROM audit.pending)::int AS waiting`,
    [],
  )
  return row?.waiting === 0
}

export { ask as askDatabase }
