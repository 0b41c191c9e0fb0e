import { CodedError, type ReasonCode } from '@lenserfight/schemas'

/** That a run may not begin: its code as any other, with which run it was and the policy's reason. */
export class RunRefused extends CodedError {
  readonly runId: string
  readonly reason: string
  constructor(code: ReasonCode, run: { readonly runId: string; readonly reason: string }, detail?: string) {
    super(code, detail)
    this.runId = run.runId
    this.reason = run.reason
  }
}
