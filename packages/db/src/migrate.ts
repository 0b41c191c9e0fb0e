import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import type { Connection } from './pool.ts'

export interface MigrateOptions {
  /** Folder with `NNNN_verb_noun.sql`; other files are left alone. */
  readonly dir: string
  /** Told of each file that is applied. */
  readonly log?: (name: string) => void
}

interface Migration {
  readonly name: string
  readonly sql: string
  readonly sha256: string
}

/** Keeps two runners apart in one database; any number that nobody else uses. */
const lock = 5_301_872

const refuse = (detail: string, cause?: unknown): CodedError =>
  new CodedError('config_invalid', detail, cause === undefined ? undefined : { cause })

const readMigrations = (dir: string): Migration[] => {
  const names = readdirSync(dir)
    .filter((name) => name.endsWith('.sql'))
    .sort()
  for (const [index, name] of names.entries()) {
    if (!/^[0-9]{4}_[a-z0-9_]+\.sql$/.test(name)) throw refuse(`${name} is not named NNNN_verb_noun.sql`)
    if (index > 0 && names[index - 1]?.slice(0, 4) === name.slice(0, 4)) throw refuse(`${name} has another's number`)
  }
  return names.map((name) => {
    const sql = readFileSync(join(dir, name), 'utf8')
    return { name, sql, sha256: createHash('sha256').update(sql).digest('hex') }
  })
}

/** What was applied is a prefix of what there is, unchanged. */
const checkApplied = (applied: readonly { name: string; sha256: string }[], files: readonly Migration[]): void => {
  for (const [index, { name, sha256 }] of applied.entries()) {
    const file = files[index]
    if (file?.name !== name) throw refuse(`${name} was applied, and ${file?.name ?? 'nothing'} stands in its place`)
    if (file.sha256 !== sha256) throw refuse(`${name} was changed after it was applied`)
  }
}

const apply = async (client: Connection, { name, sql, sha256 }: Migration): Promise<void> => {
  await client.query('BEGIN')
  try {
    await client.query(sql)
    // Files act as the owner of what they make; the record is the runner's.
    await client.query('RESET ROLE')
    await client.query('INSERT INTO public.migrations (name, sha256) VALUES ($1, $2)', [name, sha256])
    await client.query('COMMIT')
  } catch (cause) {
    await client.query('ROLLBACK').catch(() => {})
    throw refuse(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
}

/**
 * Brings a database up to date: applies the files that it does not have yet, in order, each in one transaction.
 * @param client a superuser's connection of its own
 * @returns the names of what was applied now
 * @throws CodedError `config_invalid` where a file failed (with the server's message), was changed, renamed or removed
 * after it was applied, or was put in before one that was
 */
export const migrate = async (client: Connection, { dir, log }: MigrateOptions): Promise<string[]> => {
  const files = readMigrations(dir)
  await client.query('SELECT pg_advisory_lock($1)', [lock])
  try {
    await client.query(`CREATE TABLE IF NOT EXISTS public.migrations (
      name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`)
    const { rows } = await client.query<{ name: string; sha256: string }>(
      'SELECT name, sha256 FROM public.migrations ORDER BY name',
    )
    checkApplied(rows, files)
    const missing = files.slice(rows.length)
    for (const migration of missing) {
      log?.(migration.name)
      await apply(client, migration)
    }
    return missing.map(({ name }) => name)
  } finally {
    await client.query('SELECT pg_advisory_unlock($1)', [lock])
  }
}
