import { check, until } from './expect.ts'
import type { Person } from './person.ts'
import type { Report } from './report.ts'

interface Approval {
  readonly run_id: string
  readonly label: string | null
  readonly decision: string | null
}

const awaited = async (person: Person): Promise<readonly Approval[]> => {
  const { approvals } = await person.ask<{ approvals: readonly Approval[] }>('gateway', 'approvals')
  return approvals.filter(({ decision }) => decision === null)
}

/** Who decides what runs: the account's policy, and where it says so a person; before anything runs, and each time on record. */
export async function decidePolicy(report: Report, { person }: { person: Person }): Promise<void> {
  const setApproval = (value: string) => person.ask('gateway', 'policy', 'set', '--approval', value)
  report.chapter('The policy decides before anything runs')
  await report.step('a run awaits a person', async () => {
    await setApproval('require-human')
    const running = person.lf(['run', '--label', 'sort backwards', '--', 'sort', '-r'], { stdin: 'one\ntwo\n' })
    const [asked] = await until(
      () => awaited(person),
      ({ length }) => length === 1,
      'nobody was asked',
    )
    check(asked?.label === 'sort backwards', `it is called ${asked?.label}`)
    await person.ask('gateway', 'approvals', 'approve', asked.run_id, '--yes')
    const ran = await running
    check(ran.code === 0 && ran.stdout === 'two\none\n', `lf run exited ${ran.code}: ${ran.stderr}`)
    return { line: `${asked.label}: approved, and only then it ran` }
  })
  await report.step('a person says no', async () => {
    const running = person.lf(['run', '--', 'echo', 'this must not run'])
    const [asked] = await until(
      () => awaited(person),
      ({ length }) => length === 1,
      'nobody was asked',
    )
    await person.ask('gateway', 'approvals', 'deny', asked?.run_id ?? '', '--yes', '--reason', 'not today')
    const ran = await running
    check(ran.code === 5 && ran.stdout === '', `lf run exited ${ran.code} and said ${ran.stdout}`)
    return { line: 'exit status 5, the command did not run' }
  })
  await report.step('the account is paused', async () => {
    await setApproval('allow')
    await person.ask('gateway', 'policy', 'set', '--lenser-paused', 'on')
    const ran = await person.lf(['run', '--', 'echo', 'this must not run'])
    check(ran.code === 5 && ran.stdout === '', `lf run exited ${ran.code} and said ${ran.stdout}`)
    await person.ask('gateway', 'policy', 'set', '--lenser-paused', 'off')
    return { line: 'exit status 5, the command did not run' }
  })
}
