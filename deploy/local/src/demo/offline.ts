import { join } from 'node:path'
import type { Stack } from '../stack.ts'
import { check, until } from './expect.ts'
import type { Person } from './person.ts'
import type { Report } from './report.ts'

interface Shown {
  readonly paths: Readonly<Record<string, unknown>>
  readonly conflicts: readonly unknown[]
  readonly pending: number
}
interface Conflict {
  readonly id: string
  readonly path: string
  readonly sides: readonly { readonly device_name: string | null; readonly value: unknown }[]
}

const agent = ['agent_config', 'reviewer'] as const
const workflow = ['workflow_definition', 'release'] as const
const step = 'step/test/body'

const set = (person: Person, [className, object]: readonly [string, string], ...words: string[]) =>
  person.ask('gateway', 'objects', 'set', className, object, ...words)
const get = (person: Person, [className, object]: readonly [string, string]) =>
  person.ask<Shown>('gateway', 'objects', 'get', className, object)

/** The same account on another machine. */
const joinAccount = async (laptop: Person, stack: Stack): Promise<string> => {
  await laptop.ask('login', '--dev', '--as', 'demo', '--stack', join(stack.dir, 'stack.json'))
  const { device_id } = await laptop.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', 'laptop')
  laptop.start(['gateway', 'serve'])
  await until(
    () => laptop.lf(['gateway', 'approve-device', device_id, '--yes']),
    ({ code }) => code === 0,
    'the second machine was not approved',
  )
  return device_id
}

/** Two machines edit while neither reaches the gateway, and meet again; what no machine can decide a person decides, once. */
export async function workOffline(
  report: Report,
  { person, laptop, stack }: { person: Person; laptop: Person; stack: Stack },
): Promise<void> {
  const both = [person, laptop]
  report.chapter('Two machines work offline, and meet again')
  await report.step('a laptop joins the account', async () => {
    const [device] = await Promise.all([
      joinAccount(laptop, stack),
      set(person, workflow, 'name=Release', `${step}={"run":"npm test"}`),
    ])
    await until(
      () => laptop.lf(['gateway', 'objects', 'get', ...workflow, '--json']),
      ({ code }) => code === 0,
      'the workflow did not arrive',
    )
    return { line: `device ${device}; it has the account’s workflow already` }
  })
  await report.step('the broker goes, both edit on', async () => {
    await stack.nats.stop()
    await Promise.all([
      set(person, agent, 'name=Reviewer', 'model=large'),
      set(laptop, agent, 'name=Reviewer', 'system_prompt=Find what breaks.'),
      set(person, workflow, `${step}={"run":"npm test -- --coverage"}`),
      set(laptop, workflow, `${step}={"run":"npm run verify"}`),
    ])
    const waiting = await Promise.all(both.map((each) => get(each, agent)))
    check(
      waiting.every(({ pending }) => pending > 0),
      'an edit is said to have arrived somewhere',
    )
    return { line: 'one agent and one step of a workflow, differently; on each disk' }
  })
  await report.step('the broker is back', async () => {
    await stack.nats.restart()
    const [here] = await until(
      () => Promise.all(both.map((each) => get(each, agent))),
      (views) => views.every(({ paths }) => Object.keys(paths).length === 3) && isSame(views),
      'they did not converge',
    )
    const names = Object.keys(here?.paths ?? {}).join(', ')
    return { line: `both have ${names}: nothing is lost`, data: here }
  })
  const open = await report.step('one step, edited on both', async () => {
    const list = () => person.ask<{ conflicts: readonly Conflict[] }>('gateway', 'sync', 'status', '--conflicts')
    const { conflicts } = await until(
      list,
      ({ conflicts: [first] }) => first?.sides.length === 2,
      'no conflict is listed',
    )
    const [conflict] = conflicts as [Conflict]
    check(conflicts.length === 1 && conflict.path === step, `${conflicts.length} conflicts are listed`)
    const { stdout } = await person.lf(['gateway', 'sync', 'resolve', conflict.id])
    return {
      line: 'kept, both sides and what they had in common',
      more: stdout.trimEnd().split('\n'),
      data: conflict,
      conflict,
    }
  })
  await report.step('a person decides it, once', async () => {
    const { id, sides } = open.conflict
    // The one that neither shows meanwhile.
    const side = sides.at(-1)
    await person.ask('gateway', 'sync', 'resolve', id, '--take', String(sides.length), '--yes')
    await until(
      () => Promise.all(both.map((each) => get(each, workflow))),
      (views) =>
        views.every(
          ({ paths, conflicts }) =>
            conflicts.length === 0 && JSON.stringify(paths[step]) === JSON.stringify(side?.value),
        ),
      'the decision did not arrive',
    )
    return { line: `what ${side?.device_name} says, on both; recorded, and undone by one command` }
  })
  await laptop.stopAll()
}

const isSame = ([first, ...others]: readonly Shown[]): boolean =>
  others.every(({ paths }) => JSON.stringify(paths) === JSON.stringify(first?.paths))
