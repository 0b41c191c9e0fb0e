/** What `lf run` is told. */
export interface RunArguments {
  readonly command: readonly string[]
  readonly submission?: string | undefined
  /** By its id, its name, or the beginning of its id. */
  readonly runner?: string | undefined
  readonly contender?: string | undefined
  readonly lensVersion?: string | undefined
  /** What a person reads who is asked to approve it. */
  readonly label?: string | undefined
  /** Seconds to wait for a person; else as long as the account lets them take. */
  readonly approvalWait?: number | undefined
  readonly input: readonly string[]
  readonly output: readonly string[]
  readonly report?: string | undefined
  /** Seconds to wait for the attestation's result. */
  readonly wait: number
}
