import { setTimeout as sleep } from 'node:timers/promises'
import { newUuidV7 } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import { describe, listLines, stateOf, titleOf } from '../approvals/describe.ts'
import type { Context } from '../context.ts'
import { confirm } from '../devices/confirm.ts'
import { plain } from '../output.ts'
import { type Approval, findApproval, listApprovals } from '../owner/approvals.ts'
import { asOwner } from '../owner/connect.ts'
import { clearScreen, isTerminal } from '../terminal.ts'

/** How often a list that is watched is asked for, milliseconds. */
const watchMs = 2_000

/** Shows the list anew until somebody presses Ctrl-C, whatever is under way then. */
const watch = async (context: Context): Promise<void> => {
  const { output } = context
  if (output.json || !isTerminal()) throw new CodedError('usage', '--watch is for a terminal; programs ask again')
  const ended = new Promise<undefined>((resolve) => process.once('SIGINT', () => resolve(undefined)))
  await asOwner(context, async (owner) => {
    for (;;) {
      const list = await Promise.race([listApprovals(owner), ended])
      if (list === undefined) return
      clearScreen()
      output.result({}, [...listLines(list, output), output.faint('Ctrl-C ends this.')])
      if ((await Promise.race([sleep(watchMs, true), ended])) === undefined) return
    }
  })
}

/** `lf gateway approvals`: which runs await a person, and what became of those before. */
export const approvals = async (context: Context, { watch: isWatched }: { watch: boolean }): Promise<void> => {
  if (isWatched) return watch(context)
  await asOwner(context, async (owner) => {
    const list = await listApprovals(owner)
    context.output.result({ ok: true, ...list }, listLines(list, context.output))
  })
}

export interface DecideArguments {
  readonly decision: 'approve' | 'deny'
  readonly run: string
  readonly reason?: string | undefined
  readonly yes: boolean
}

const questions = { approve: 'Let it run?', deny: 'Keep it from running?' } as const

/** What the answer came to. `linked`: whether the run backs its submission; null where it names none. */
const decided = (
  context: Context,
  approval: Approval,
  { decision, linked }: Readonly<Record<string, unknown>>,
): string[] => {
  const { good, bad } = context.output
  const what = `${titleOf(approval)} on ${plain(approval.device_name)} (${approval.run_id})`
  if (decision === 'deny') return [`${bad('denied')}: ${what}. Nothing of it will run.`]
  return [
    `${good('approved')}: ${what}. It begins within seconds, if its device still waits.`,
    ...(linked === false ? ['Its submission is backed by another run meanwhile: this one backs none.'] : []),
  ]
}

/**
 * `lf gateway approvals approve` and `deny`: a person's answer, once. Exit code 1 where the person thought better of it.
 * @throws CodedError `unknown_run`, `approval_not_pending`, `run_withdrawn`
 */
export const decide = (
  context: Context,
  { decision, run, reason, yes }: DecideArguments,
): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const approval = await findApproval(owner, run)
    const { run_id } = approval
    for (const line of describe(approval)) output.note(line)
    if (approval.decision === 'withdraw') throw new CodedError('run_withdrawn')
    if (approval.decision !== null) throw new CodedError('approval_not_pending', stateOf(approval))
    if (!yes && !(await confirm(context, questions[decision]))) {
      output.result({ ok: false, run_id, decision: null }, ['Nothing was decided.'])
      return 1
    }
    const why = reason === undefined ? {} : { reason }
    const result = await owner.request('approval_decide', { op_id: newUuidV7(), run_id, decision, ...why })
    output.result({ ok: true, ...result }, decided(context, approval, result))
    return undefined
  })
