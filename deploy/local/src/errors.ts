/** What can go wrong while the embedded stack is fetched, started or stopped. A closed list; tests assert these codes. */
export const localErrorCodes = [
  'nats_server_missing',
  'nats_server_too_old',
  'nats_server_digest_mismatch',
  'nats_start_failed',
  'postgres_binaries_missing',
  'postgres_start_failed',
  'socket_path_too_long',
  'process_start_failed',
  'process_not_ready',
  'folder_not_ours',
  'stack_already_running',
  'no_free_port',
] as const

/** One of {@link localErrorCodes}. */
export type LocalErrorCode = (typeof localErrorCodes)[number]

/** A failure of the local stack: `code` for programs, `message` (with the remedy, where there is one) for people. */
export class LocalError extends Error {
  readonly code: LocalErrorCode

  constructor(code: LocalErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'LocalError'
    this.code = code
  }
}
