/** Members whose values never reach a log, wherever they stand. A second net: nothing should log them at all. */
export const secretKeys: ReadonlySet<string> = new Set([
  'sig',
  'nonce',
  'server_nonce',
  'token',
  'auth_token',
  'id_token',
  'jwt',
  'body',
  'seed',
  'password',
  'private_key',
  'privateKey',
  'client_secret',
  'secret',
  'challenge',
])
/** Long enough for a key, a digest or a signature; a UUID is shorter. */
const longRun = /[A-Za-z0-9_-]{42,}/g
const maxDepth = 6

/** The first 8 characters of something that may be logged no further (SH-3). */
export const short = (text: string): string => text.slice(0, 8)

const shorten = (text: string): string => text.replace(longRun, (run) => `${short(run)}…`)

/** An error as it may be logged: its code, its place, and its message only where that quotes no data. */
export const describeError = (error: unknown, depth = 0): Record<string, unknown> => {
  if (!(error instanceof Error)) return { type: typeof error }
  const { name, code, routine, constraint, schema, table, severity } = error as Error & Record<string, unknown>
  // The database's and the JSON parser's messages quote the value that they refuse.
  const quotes = severity !== undefined || error instanceof SyntaxError
  return {
    type: name,
    ...(code === undefined ? {} : { code }),
    ...(quotes ? { routine, constraint, schema, table } : { message: shorten(error.message).slice(0, 400) }),
    stack: error.stack
      ?.split('\n')
      .filter((line) => line.startsWith('    at '))
      .slice(0, 12)
      .map((line) => line.trim()),
    ...(error.cause === undefined || depth >= 3 ? {} : { cause: describeError(error.cause, depth + 1) }),
  }
}

/** A value as it may be logged: secret members blanked, long runs cut to 8 characters, errors described. */
export const redact = (value: unknown, depth = 0): unknown => {
  if (typeof value === 'string') return shorten(value)
  if (value instanceof Error) return describeError(value)
  if (typeof value === 'bigint') return value.toString()
  if (typeof value !== 'object' || value === null) return value
  if (ArrayBuffer.isView(value)) return '[bytes]'
  if (depth >= maxDepth) return '[deep]'
  if (Array.isArray(value)) return value.slice(0, 50).map((item) => redact(item, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, secretKeys.has(key) ? '[redacted]' : redact(item, depth + 1)]),
  )
}
