import type { CodedError } from '@lenserfight/schemas'

/** A failure that the result has told already, so that `--json` prints one object. */
export class Told extends Error {
  readonly failure: CodedError
  constructor(failure: CodedError) {
    super(failure.message, { cause: failure })
    this.failure = failure
  }
}
