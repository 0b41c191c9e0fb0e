import { type CheckName, type CheckResult, checkNames, runChecks } from '@lenserfight/daemon/checks'
import { type CodedError, exitCodes, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { checksOf } from '../doctor/checks.ts'
import { type Output, plain } from '../output.ts'
import { readProfile } from '../profile.ts'

const widest = Math.max(...checkNames.map((name) => name.length))

/** Whether a check says no more than its code does. */
const isBare = ({ detail, fix }: CheckResult): boolean => detail === fix

/** The check that told the very same, before it or in more words: each thing is told once. */
export const toldBy = (checks: readonly CheckResult[], result: CheckResult): CheckName | undefined => {
  const same = checks.filter(({ ok, code }) => !ok && code === result.code)
  const before = same.slice(0, same.indexOf(result))
  if (!isBare(result)) return before.find(({ detail }) => detail === result.detail)?.check
  return (before[0] ?? same.find((each) => !isBare(each)))?.check
}

/** One line a check: what was asked, whether all is well, and if not, its code and what to do, once for all that it keeps from. */
const lineOf = ({ good, bad, faint }: Output, result: CheckResult, same: CheckName | undefined): string => {
  const { check, ok, code, detail, fix, warning, ms } = result
  const name = check.padEnd(widest)
  if (ok) {
    const warned = warning === null ? '' : `  ${bad('!')} ${plain(warning)}`
    return `${good('✓')} ${name}  ${plain(detail)} ${faint(`(${ms} ms)`)}${warned}`
  }
  if (same !== undefined) return `${bad('✗')} ${name}  ${bad(code ?? '')}: see ${same}`
  const told = detail === fix ? plain(detail) : `${plain(detail)}. ${plain(fix ?? '')}`
  return `${bad('✗')} ${name}  ${bad(code ?? '')}: ${told}`
}

/** Whoever asks before anything was set up is told how to begin, besides what is missing. */
const isNew = (checks: readonly CheckResult[]): boolean =>
  checks.some(({ check, code }) => check === 'identity' && code === 'not_enrolled')

const tell = (output: Output, checks: readonly CheckResult[], isSignedIn = false): number | undefined => {
  const failed = checks.filter(({ ok }) => !ok).length
  output.result({ ok: failed === 0, checks }, [
    ...checks.map((result) => lineOf(output, result, toldBy(checks, result))),
    ...(failed === 0 ? [] : [`${failed} of ${checks.length} checks failed.`]),
    ...(isNew(checks)
      ? [`This machine is new here: ${isSignedIn ? '' : '`lf login`, then '}\`lf gateway identity init\`.`]
      : []),
  ])
  return failed === 0 ? undefined : exitCodes.doctor
}

const isWanted = (wanted: readonly CheckName[], name: CheckName): boolean =>
  wanted.length === 0 || wanted.includes(name)

const isSignedIn = ({ edge }: Context): boolean => {
  try {
    return readProfile(edge.profileFile).session !== undefined
  } catch {
    return false
  }
}

/** `lf gateway doctor`: what is wrong with this machine, and what to do. Exit code 3 where anything is (DG-1). */
export const doctor = async (context: Context, wanted: readonly CheckName[]): Promise<number | undefined> => {
  const { doctorMs } = context.config
  const checks = checksOf(context, doctorMs).filter(({ name }) => isWanted(wanted, name))
  return tell(context.output, await runChecks(checks, doctorMs), isSignedIn(context))
}

/** The doctor where the configuration itself is refused (SH-4): that is the finding, and nothing else was looked at. */
export const doctorUnconfigured = (output: Output, error: CodedError, wanted: readonly CheckName[]): number => {
  const { code, detail } = error
  const fix = reasonOf(code).message
  const results = checkNames
    .filter((name) => isWanted(wanted, name))
    .map((check) => ({
      ...{ check, ok: false, code, fix, warning: null, ms: 0 },
      detail: check === 'config' ? (detail ?? fix) : 'not looked at: the configuration is refused',
    }))
  return tell(output, results) ?? exitCodes.doctor
}
