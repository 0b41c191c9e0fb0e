/** The libraries that reach the OS keychain, best first. An entry that one of them made is not found by the other. */
export const osBackends = ['keytar', 'napi'] as const
export type OsBackend = (typeof osBackends)[number]

/** Under which name the OS keychain lists what is ours. */
export const serviceName = 'lenserfight-gateway'

/** What the process that holds the library is asked: one line of JSON on its standard input. */
export type OsRequest =
  /** Which library loads and is answered by a keychain. */
  | { readonly op: 'open' }
  /** From the first of these that has it. */
  | { readonly op: 'get'; readonly backends: readonly OsBackend[]; readonly name: string }
  | { readonly op: 'set'; readonly backend: OsBackend; readonly name: string; readonly secret: string }
  /** From each of these. */
  | { readonly op: 'delete'; readonly backends: readonly OsBackend[]; readonly name: string }

/** Its answer: one line of JSON on its descriptor 3. */
export type OsAnswer =
  | { readonly ok: true; readonly backend: OsBackend; readonly secret: string | null }
  /** None of the libraries loads. */
  | { readonly ok: false; readonly why: 'absent' }
  /** What was written is not what was read back. */
  | { readonly ok: false; readonly why: 'not_kept' }
  /** What the library said, without any secret. */
  | { readonly ok: false; readonly why: 'failed'; readonly message: string }
