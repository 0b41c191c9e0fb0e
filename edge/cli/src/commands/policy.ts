import { newUuidV7 } from '@lenserfight/envelope'
import { type ApprovalDefault, CodedError, exitCodes, limits, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { plain } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { askPolicy, policyOf, readPolicy } from '../owner/policy.ts'
import { describePolicy } from '../policy/describe.ts'
import { codeOfVerdict, sayRemedy, sayVerdict } from '../policy/words.ts'

/** `lf gateway policy show`: what the account allows, and how much of it is used up. */
export const showPolicy = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const policy = await readPolicy(owner)
    context.output.result({ ok: true, ...policy }, describePolicy(policy, context.output))
  })

/** `lf gateway policy test`: what would become of a run just now. Whether it would go on is the exit code too. */
export const testPolicy = (context: Context, version?: string): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const answer = await askPolicy(owner, version)
    const code = codeOfVerdict[answer.verdict]
    const fix = sayRemedy(answer.reason)
    const mark = code === undefined ? output.good : output.bad
    output.result({ ok: code === undefined, code: code ?? null, ...answer }, [
      mark(sayVerdict(answer)),
      ...(fix === undefined ? [] : [fix]),
    ])
    return code === undefined ? undefined : (reasonOf(code).exit ?? exitCodes.trust)
  })

export interface PolicyArguments {
  readonly approval?: 'allow' | 'require-human' | 'deny' | undefined
  readonly lenserPaused?: 'on' | 'off' | undefined
  readonly dailyRuns?: number | null | undefined
  readonly maxParallel?: number | null | undefined
  readonly darkLaunch?: number | undefined
  readonly approvalSeconds?: number | undefined
  readonly denyTool: readonly string[]
  readonly allowTool: readonly string[]
}

const approvalDefaultOf = { allow: 'allow', 'require-human': 'require_human', deny: 'deny' } as const satisfies Record<
  string,
  ApprovalDefault
>

/** What is too much of the denials that there would be, if anything is. */
const excessOf = (denied: readonly string[], allowed: readonly string[]): string | undefined => {
  const names = [...new Set(denied)].filter((name) => !allowed.includes(name))
  if (names.length > limits.deniedTools)
    return `${names.length} tools would be denied, ${limits.deniedTools} are the most`
  // As the database has them: with a blank after each comma.
  const bytes = Buffer.byteLength(`[${names.map((name) => JSON.stringify(name)).join(', ')}]`)
  if (bytes <= limits.deniedToolsBytes) return undefined
  return `the names of what would be denied take ${bytes} bytes, ${limits.deniedToolsBytes} are the most`
}

/**
 * Whether these denials can be added and taken back. Pure; what comes of it is the gateway's to reckon, since others change the list, too.
 * @throws CodedError `usage` where a denial is to be taken back that there is not, or there would be too many
 */
export const checkDenials = (
  denied: readonly string[],
  { denyTool, allowTool }: Pick<PolicyArguments, 'denyTool' | 'allowTool'>,
): void => {
  const both = allowTool.find((name) => denyTool.includes(name))
  if (both !== undefined) throw new CodedError('usage', `${plain(both)} is to be denied and allowed at once`)
  const missing = allowTool.find((name) => !denied.includes(name))
  if (missing !== undefined) {
    const denials = denied.length === 0 ? 'none is' : `denied are ${plain(denied.join(', '))}`
    throw new CodedError('usage', `${plain(missing)} is not denied by that name: ${denials}`)
  }
  const excess = denyTool.length === 0 ? undefined : excessOf([...denied, ...denyTool], allowTool)
  if (excess !== undefined) {
    throw new CodedError('usage', `--deny-tool: ${excess}; mcp/* denies all that begin so, --allow-tool takes one back`)
  }
}

/** Members that are named; the others stay. */
const changesOf = (given: PolicyArguments): Record<string, unknown> => {
  const { approval, lenserPaused, denyTool, allowTool } = given
  const all = {
    approval_default: approval && approvalDefaultOf[approval],
    runner_paused: lenserPaused && lenserPaused === 'on',
    daily_runs: given.dailyRuns,
    max_parallel_runs: given.maxParallel,
    dark_launch_percent: given.darkLaunch,
    approval_seconds: given.approvalSeconds,
    denied_tools_add: denyTool.length > 0 ? denyTool : undefined,
    denied_tools_remove: allowTool.length > 0 ? allowTool : undefined,
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

const isOfTools = ({ denyTool, allowTool }: PolicyArguments): boolean => denyTool.length + allowTool.length > 0

const toolsLine = `Runs under way learn of it within ${limits.permitRenewSeconds} s.`

const isNothing = ({ denyTool, allowTool, ...rest }: PolicyArguments): boolean =>
  denyTool.length + allowTool.length === 0 && Object.values(rest).every((each) => each === undefined)

/**
 * `lf gateway policy set`: changes what is named, and shows what there is then.
 * @throws CodedError `usage` where nothing is named
 */
export const setPolicy = async (context: Context, given: PolicyArguments): Promise<void> => {
  if (isNothing(given)) throw new CodedError('usage', 'say what to set: `lf gateway policy set --help`')
  await asOwner(context, async (owner) => {
    if (isOfTools(given)) checkDenials((await readPolicy(owner)).settings.denied_tools, given)
    const policy = policyOf(await owner.request('policy_set', { op_id: newUuidV7(), ...changesOf(given) }))
    const told = isOfTools(given) ? [toolsLine] : []
    context.output.result({ ok: true, ...policy }, [...describePolicy(policy, context.output), ...told])
  })
}
