import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { LyingBroker } from './_lying-broker.ts'
import { lfFile, Machine, type Ran, until, withSettings } from './_machine.ts'

/** Two machines of one person's, and somebody else's: the tests are steps of one story. */
const test = anyTest as TestFn<{ stack: Stack; laptop: Held; desk: Held; stranger: Machine }>

interface Check {
  check: string
  ok: boolean
  code: string | null
  fix: string | null
  warning: string | null
}
interface Conflict {
  id: string
  object: string
  path: string
  base: { value: unknown } | null
  sides: { device_name: string | null; value: unknown }[]
  edited: string[]
}
interface Status {
  pending: number
  conflicts: number
}

const workflow = ['workflow_definition', 'nightly'] as const
const step = 'step/build/body'
let [conflictId, resolutionId] = ['', '']

const codeOf = ({ code, stderr }: Ran): [number | string | null, string | undefined] => [
  code,
  stderr.trim().split('\n').at(-1)?.split(':')[0],
]
const set = (machine: Machine, ...changes: string[]) =>
  machine.ask<{ changed: string[]; pending: number }>('gateway', 'objects', 'set', ...workflow, ...changes)
const read = (machine: Machine) =>
  machine.askDaemon<'objects.get', { paths: Record<string, unknown>; conflicts: unknown[] }>('objects.get', {
    class: workflow[0],
    object: workflow[1],
  })
const statusOf = (machine: Machine) => machine.ask<Status>('gateway', 'sync', 'status')
const conflictsOf = async (machine: Machine) =>
  (await machine.ask<{ conflicts: Conflict[] }>('gateway', 'sync', 'status', '--conflicts')).conflicts
const timeout_ms = 60_000
const push = (machine: Machine) =>
  until(async () => {
    const sent = await machine.askDaemon('sync.push', { timeout_ms }).catch(() => undefined)
    return sent?.pending === 0
  }, 'what waited is sent')
const pull = (machine: Machine) =>
  until(async () => {
    const pulled = await machine.askDaemon('sync.pull', { timeout_ms }).catch(() => undefined)
    return pulled?.done === true
  }, 'what changed elsewhere is here')
const doctor = async (machine: Machine) => {
  const { code, stdout } = await machine.lf(['gateway', 'doctor', '--check', 'daemon,sync', '--json'])
  const { checks } = JSON.parse(stdout) as { checks: Check[] }
  return { exit: code, sync: checks.find(({ check }) => check === 'sync') as Check, checks }
}

/** A machine that reaches the broker by a line that the test can cut. */
class Held extends Machine {
  line!: LyingBroker
  constructor(stack: Stack, name: string) {
    super(stack, name)
    const file = join(this.state, 'daemon.json')
    const timing = JSON.parse(readFileSync(file, 'utf8')) as object
    writeFileSync(file, JSON.stringify({ ...timing, sync_pull_ms: 1_000, sync_flush_ms: 1_000 }), { mode: 0o600 })
  }
  override async serve(): Promise<void> {
    const { url } = this.line
    withSettings(this, (settings) => settings.update('descriptor', (kept) => kept && { ...kept, url }))
    await super.serve()
  }
  async cut(): Promise<void> {
    this.line.become('drop')
    await until(async () => (await this.status()).connection !== 'connected', 'a machine is cut off')
  }
}

test.before('two machines of one person, and a stranger’s', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const [laptop, desk, stranger] = [new Held(stack, 'laptop'), new Held(stack, 'desk'), new Machine(stack, 'eve')]
  for (const machine of [laptop, desk]) machine.line = await LyingBroker.start(stack.nats.port)
  t.context = { stack, laptop, desk, stranger }
  await Promise.all([laptop.enrol('ines', 'laptop'), desk.enrol('ines', 'desk'), stranger.login('eve')])
})
test.after.always('nothing stays', async (t) => {
  await Promise.all([t.context.laptop?.end('SIGTERM'), t.context.desk?.end('SIGTERM')])
  await Promise.all([t.context.laptop?.line?.stop(), t.context.desk?.line?.stop()])
  await t.context.stack?.stop()
})

test.serial('what is written on one machine is read on the other, and programs are told so', async (t) => {
  const { laptop, desk } = t.context
  const made = await set(laptop, 'name=Nightly', `${step}={"run":"make"}`)
  t.deepEqual(made.changed, ['name', step])
  const pushed = await laptop.lf(['gateway', 'sync', 'push', '--wait', '60'])
  t.deepEqual([pushed.code, (await statusOf(laptop)).pending], [0, 0], pushed.stderr)
  const pulled = await desk.lf(['gateway', 'sync', 'pull', '--wait', '60'])
  t.deepEqual([pulled.code, pulled.stdout.split(':')[0]], [0, 'pulled'], pulled.stderr)
  t.deepEqual((await read(desk)).paths, { name: 'Nightly', [step]: { run: 'make' } })
  const list = await desk.lf(['gateway', 'objects', 'list'])
  t.regex(list.stdout, /\nworkflow_definition +your machines +1\n[\s\S]*\nworkflow_definition +nightly +/)
  const people = await desk.lf(['gateway', 'objects', 'get', ...workflow])
  t.regex(
    people.stdout,
    /^workflow_definition nightly .*\n {2}name: Nightly\n {2}step\/build\/body:\n {4}\{\n {6}"run": "make"/,
  )
})

test.serial(
  'SC-5, SB-4: what no machine may write is refused with its code before it is kept, and so is a secret',
  async (t) => {
    const { laptop } = t.context
    const write = async (...words: string[]) => codeOf(await laptop.lf(['gateway', 'objects', 'set', ...words]))
    t.deepEqual(await write('byok_key', 'openai', 'value=x'), [1, 'local_only_class'])
    t.deepEqual(await write('policy', 'mine', 'value=x'), [1, 'cloud_authoritative'])
    t.deepEqual(await write('no_such_class', 'x', 'value=x'), [1, 'unknown_class'])
    t.deepEqual(await write('agent_config', 'a', 'no_such_path=x'), [1, 'invalid_object'])
    const secret = await laptop.lf(['gateway', 'objects', 'set', 'non_secret_pref', 'a', 'pref/api_key=LTG-CANARY-1'])
    t.deepEqual(codeOf(secret), [1, 'secret_in_object'])
    t.false(secret.stderr.includes('LTG-CANARY-1'))
    t.deepEqual(codeOf(await laptop.lf(['gateway', 'objects', 'get', 'agent_config', 'a'])), [1, 'object_not_found'])
    t.is((await statusOf(laptop)).pending, 0)
  },
)

test.serial(
  'DG-4: doctor asks the daemon for its sync, and finds what keeps it; what waits is told, not what it says',
  async (t) => {
    const { laptop, desk } = t.context
    const well = await doctor(laptop)
    t.deepEqual([well.exit, well.sync.ok, well.sync.warning], [0, true, null])
    await Promise.all([laptop.cut(), desk.cut()])

    const edited = await laptop.lf(['gateway', 'objects', 'set', ...workflow, `${step}={"run":"make planted"}`])
    t.regex(
      edited.stdout,
      /^changed: workflow_definition nightly: step\/build\/body\.\n1 edit of it waits to be sent\.\n$/,
    )
    await set(desk, `${step}={"run":"make test"}`, 'description=every night')
    const dry = await laptop.lf(['gateway', 'sync', 'push', '--dry-run'])
    t.regex(dry.stdout, /\nworkflow_definition +nightly +\d+ +.*step\/build\/body/)
    t.false((dry.stdout + dry.stderr).includes('planted'))
    const pushed = await laptop.lf(['gateway', 'sync', 'push', '--wait', '1'])
    t.deepEqual(codeOf(pushed), [1, 'gateway_unreachable'])
    t.regex(pushed.stdout, /waiting: 1 edit\./)

    const cut = await doctor(laptop)
    t.deepEqual([cut.exit, cut.sync.code], [3, 'gateway_unreachable'])
    t.true((cut.sync.fix?.length ?? 0) > 10)
    const people = await laptop.lf(['gateway', 'sync', 'status'])
    t.regex(people.stdout, /^Gateway {4}degraded\nObstacle {3}gateway_unreachable: .*\nWaiting {4}1 edit to be sent/)
  },
)

test.serial(
  'SC-3: what both machines changed is a conflict that lf gateway sync status --conflicts shows, with both sides',
  async (t) => {
    const { laptop, desk, stranger } = t.context
    for (const machine of [laptop, desk]) machine.line.become('honest')
    for (const machine of [laptop, desk]) {
      await push(machine)
      await pull(machine)
    }
    await pull(laptop)
    const [conflict, ...others] = await conflictsOf(laptop)
    t.deepEqual(others, [])
    t.like(conflict, { object: 'nightly', path: step, base: { value: { run: 'make' } } })
    conflictId = conflict?.id as string
    t.deepEqual(conflict?.sides.map(({ device_name }) => device_name).sort(), ['desk', 'laptop'])
    for (const machine of [laptop, desk]) {
      const { paths, conflicts } = await read(machine)
      t.deepEqual([paths.description, conflicts.length], ['every night', 1], 'what only one changed is merged')
      t.is((await statusOf(machine)).conflicts, 1)
    }
    const { stdout } = await laptop.lf(['gateway', 'sync', 'status', '--conflicts'])
    t.regex(stdout, /\nBase .*\n {6}\{\n {8}"run": "make"\n {6}\}\nSide 1 /)
    t.regex(stdout, /\nSide \d {5}laptop \(.*\), this machine\n[\s\S]*\n {4}\+ {3}"run": "make planted"\n/)
    t.regex(stdout, /\nSide \d {5}desk \([^)]*\)\n[\s\S]*\n {4}\+ {3}"run": "make test"\n/)
    t.true(stdout.includes(`lf gateway sync resolve ${conflictId} --take 1|2|base`))
    t.deepEqual(await conflictsOf(stranger), [])
    t.deepEqual(codeOf(await stranger.lf(['gateway', 'sync', 'resolve', conflictId])), [1, 'unknown_conflict'])
    const { exit, sync } = await doctor(laptop)
    t.deepEqual([exit, sync.code], [0, null], 'a conflict is no fault')
    t.regex(sync.warning ?? '', /^1 conflict awaits your decision/)
  },
)

test.serial('every machine of the account is shown with how far it has come', async (t) => {
  const { laptop } = t.context
  let shown = ''
  const isShown = (name: string): boolean => new RegExp(`\n${name} +\\S+ +approved +.* ago +\\d+ +0 +0 +`).test(shown)
  // Each says with its next pull that nothing of its own waits any more.
  await until(async () => {
    shown = (await laptop.lf(['gateway', 'sync', 'status', '--all'])).stdout
    return isShown('laptop') && isShown('desk')
  }, 'both machines are shown')
  t.regex(shown, /\nConflicts {2}1 open/)
})

const resolve = (machine: Machine, ...words: string[]) =>
  machine.lf(['gateway', 'sync', 'resolve', conflictId.slice(0, 30), ...words])

test.serial('a dry run shows what would be written, and nobody is asked or bound by it', async (t) => {
  const { laptop } = t.context
  const before = await conflictsOf(laptop)
  const dry = await resolve(laptop, '--value', '{"run":"make all"}', '--dry-run')
  t.is(dry.code, 0)
  t.regex(
    dry.stdout,
    /\nWould write workflow_definition nightly, step\/build\/body\n[\s\S]*"run": "make all"[\s\S]*Nothing was changed/,
  )
  t.is((await resolve(laptop)).code, 0, 'it may be looked at alone')
  t.deepEqual(await conflictsOf(laptop), before)
  t.deepEqual(codeOf(await resolve(laptop, '--take', '1')), [1, 'usage'], 'no terminal, no --yes: nobody said so')
  t.deepEqual(codeOf(await resolve(laptop, '--take', '3', '--yes')), [1, 'usage'])
  t.deepEqual(codeOf(await resolve(laptop, '--value', '{"token":"x"}', '--yes')), [1, 'secret_in_object'])
  const no = await laptop.lfOnTerminal(['gateway', 'sync', 'resolve', conflictId, '--take', '1'], 'n\n')
  t.regex(no.stdout, /Nothing was decided\./)
  t.deepEqual(await conflictsOf(laptop), before)
})

test.serial(
  'SC-4: what a person decides is written on every machine, once, and is in the account’s audit chain',
  async (t) => {
    const { laptop, desk, stack } = t.context
    const done = await resolve(laptop, '--take', '2', '--yes', '--json')
    t.is(done.code, 0, done.stderr)
    resolutionId = (JSON.parse(done.stdout) as { resolution_id: string }).resolution_id
    t.deepEqual(await conflictsOf(laptop), [])
    const { sides } = (await laptop.ask<{ conflict: Conflict }>('gateway', 'sync', 'resolve', conflictId)).conflict
    for (const machine of [laptop, desk]) {
      await until(async () => {
        await pull(machine)
        return (await read(machine)).conflicts.length === 0
      }, 'the decision arrives')
      t.deepEqual((await read(machine)).paths[step], sides[1]?.value)
    }
    t.deepEqual(
      codeOf(await resolve(desk, '--take', '1', '--yes')),
      [1, 'unknown_conflict'],
      'beginnings are of open ones',
    )
    const closed = await desk.lf(['gateway', 'sync', 'resolve', conflictId, '--take', '1', '--yes'])
    t.true(closed.stderr.includes(`lf gateway sync undo ${resolutionId}`), closed.stderr)
    t.deepEqual(codeOf(closed), [1, 'conflict_closed'])
    const kinds = (): Promise<string[]> =>
      withClient(stack.owner, async (client) => {
        const { rows } = await client.query<{ kind: string }>('SELECT event_kind AS kind FROM audit.hash_chains')
        return rows.map(({ kind }) => kind)
      })
    await until(async () => (await kinds()).includes('sync_resolve'), 'its entry in the audit chain')
    t.is((await laptop.lf(['gateway', 'audit', 'verify'])).code, 0)
  },
)

/** Has `lf` ask at a terminal, and answers yes once something else was done. */
const answerAfter = async (machine: Machine, words: readonly string[], act: () => Promise<void>): Promise<string> => {
  const child = spawn('script', ['-qec', [lfFile, ...words].join(' '), '/dev/null'], {
    ...{ env: machine.env, cwd: machine.home },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const ended = new Promise((resolve) => child.once('close', resolve))
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  try {
    await until(async () => said.includes('Write it?'), 'the question')
    await act()
    child.stdin.write('y\n')
    await ended
    return stripVTControlCharacters(said).replaceAll('\r', '')
  } finally {
    child.kill('SIGKILL')
  }
}

test.serial('what was decided is taken back, and awaits a decision as before', async (t) => {
  const { laptop, desk } = t.context
  await desk.cut()
  await set(desk, `${step}={"run":"make later"}`)
  const undone = await laptop.lf(['gateway', 'sync', 'undo', resolutionId])
  t.is(undone.code, 0, undone.stderr)
  t.regex(undone.stdout, /^opened again: step\/build\/body of workflow_definition nightly\./)
  const [open, ...others] = await conflictsOf(laptop)
  t.deepEqual(others, [])
  conflictId = open?.id as string
  const writers = open?.sides.map(({ device_name }) => device_name).sort()
  t.deepEqual(writers, ['desk', 'laptop'], 'whose they were is told still')
  const values = open?.sides.map(({ value }) => JSON.stringify(value)).sort()
  t.deepEqual(values, ['{"run":"make planted"}', '{"run":"make test"}'])
  await until(async () => {
    await pull(laptop)
    return (await read(laptop)).conflicts.length === 1
  }, 'the conflict arrives again')
  t.deepEqual(codeOf(await laptop.lf(['gateway', 'sync', 'undo', resolutionId])), [1, 'unknown_resolution'], 'once')
})

test.serial('what was edited while a person decided is shown them anew, and nothing is decided of it', async (t) => {
  const { laptop, desk } = t.context
  const said = await answerAfter(laptop, ['gateway', 'sync', 'resolve', conflictId, '--take', '1'], async () => {
    desk.line.become('honest')
    await push(desk)
    await until(async () => (await conflictsOf(laptop))[0]?.sides.length === 3, 'a third side')
  })
  const [before = '', after = ''] = said.split('Write it?')
  t.deepEqual([before.includes('make later'), after.includes('make later')], [false, true], said)
  t.regex(after, /\nSide 3 [\s\S]*\nconflict_changed: /)
  t.is((await conflictsOf(laptop)).length, 1)
  t.is((await resolve(laptop, '--value', '{"run":"make all"}', '--yes')).code, 0)
  for (const machine of [laptop, desk]) {
    await until(async () => {
      await pull(machine)
      return (await read(machine)).conflicts.length === 0
    }, 'the decision arrives')
    t.deepEqual((await read(machine)).paths[step], { run: 'make all' })
  }
})

test.serial('what is deleted on one machine is gone on the other, and comes back from either', async (t) => {
  const { laptop, desk } = t.context
  const draft = ['lens_draft', 'sketch']
  await laptop.ask('gateway', 'objects', 'set', ...draft, 'name=Sketch')
  await push(laptop)
  await pull(desk)
  await desk.ask('gateway', 'objects', 'delete', ...draft)
  await push(desk)
  await pull(laptop)
  const gone = await laptop.lf(['gateway', 'objects', 'get', ...draft])
  t.regex(gone.stdout, /deleted[\s\S]*`lf gateway objects undelete lens_draft sketch`/)
  await laptop.ask('gateway', 'objects', 'undelete', ...draft)
  await push(laptop)
  await pull(desk)
  t.regex((await desk.lf(['gateway', 'objects', 'get', ...draft])).stdout, /\n {2}name: Sketch\n/)
})

const shown = async (machine: Machine, ...name: string[]): Promise<string> =>
  (await machine.lf(['gateway', 'objects', 'get', ...name])).stdout

test.serial(
  'a field that two machines wrote at once tells on both of them what is not read, and whose it is',
  async (t) => {
    const { laptop, desk } = t.context
    const [agent, weekly, hourly] = [
      ['agent_config', 'reviewer'],
      ['workflow_definition', 'weekly'],
      ['workflow_definition', 'hourly'],
    ] as const
    const write = (machine: Machine, ...words: string[]) => machine.lf(['gateway', 'objects', 'set', ...words])
    t.regex((await write(laptop, ...agent, 'temperature=0.5', 'name=Reviewer')).stdout, /^made: /)
    for (const each of [weekly, hourly]) await write(laptop, ...each, `${step}=old`)
    await push(laptop)
    await pull(desk)
    await Promise.all([laptop.cut(), desk.cut()])
    await write(laptop, ...agent, 'temperature=0.1')
    await write(desk, ...agent, 'temperature=0.9')
    await write(laptop, ...weekly, `${step}=of the laptop`)
    await write(desk, ...weekly, `${step}=of the desk`)
    await write(laptop, ...hourly, `${step}=new`)
    await desk.lf(['gateway', 'objects', 'delete', ...hourly])
    for (const machine of [laptop, desk]) machine.line.become('honest')
    await push(laptop)
    await push(desk)
    for (const machine of [laptop, desk]) {
      await pull(machine)
      const text = await shown(machine, ...agent)
      const [, read] = /\n {2}temperature: (0\.\d)\n/.exec(text) ?? []
      const [other, name] = read === '0.1' ? ['0.9', 'desk'] : ['0.1', 'laptop']
      t.regex(text, new RegExp(`\n {4}also written, not read: ${other} by ${name} \\(`), text)
      t.regex(
        (await machine.lf(['gateway', 'sync', 'status'])).stdout,
        /\nNot read {3}1 path was written on two machines/,
      )
    }

    const life = (await conflictsOf(laptop)).find(({ object }) => object === 'hourly')
    t.deepEqual([life?.path, life?.edited], ['$life', [step]])
    t.regex(
      (await laptop.lf(['gateway', 'objects', 'get', ...hourly])).stdout,
      /\n {4}edited meanwhile: step\/build\/body\n/,
    )
    const kept = await laptop.lf(['gateway', 'objects', 'undelete', ...hourly])
    t.regex(kept.stdout, /^brought back: .*\nWhether it exists was in conflict: this goes over its 2 sides /)

    t.regex((await write(desk, ...agent, 'temperature=0.3')).stdout, /^changed: agent_config reviewer: temperature\./)
    const ended = await write(desk, ...weekly, `${step}=of both`)
    t.regex(ended.stdout, /\nstep\/build\/body was in conflict: this goes over its 2 sides on every machine/)
    for (const machine of [laptop, desk]) await push(machine)
    for (const machine of [laptop, desk]) {
      await pull(machine)
      t.notRegex(await shown(machine, ...agent), /not read/)
      t.notRegex((await machine.lf(['gateway', 'sync', 'status'])).stdout, /Not read/)
    }
    t.deepEqual(await conflictsOf(laptop), [])
  },
)

test.serial('a command says what it did, and that there was nothing to do where there was nothing', async (t) => {
  const { laptop } = t.context
  const objects = (...words: string[]) => laptop.lf(['gateway', 'objects', ...words])
  const [draft, nothing] = [
    ['lens_draft', 'words'],
    ['lens_draft', 'nothing'],
  ] as const
  t.deepEqual(codeOf(await objects('set', ...nothing, '--unset', 'name')), [1, 'object_not_found'])
  t.deepEqual(codeOf(await objects('get', ...nothing)), [1, 'object_not_found'], 'nothing was made of it')
  t.regex((await objects('set', ...draft, 'name=Words', 'notes=n')).stdout, /^made: lens_draft words: name, notes\./)
  t.regex((await objects('undelete', ...draft)).stdout, /^as before: lens_draft words: it was not deleted\./)
  t.regex((await objects('discard', ...draft)).stdout, /^as before: .*nothing of it was refused\./)
  t.regex((await objects('delete', ...draft)).stdout, /^deleted: /)
  t.regex((await objects('delete', ...draft)).stdout, /^as before: .*it was deleted already\./)
  t.deepEqual(codeOf(await objects('set', ...draft, '--unset', 'name')), [1, 'object_not_found'])
  t.regex(
    (await objects('set', ...draft, 'name=Again')).stdout,
    /^brought back: .* name\.\nIt was deleted, and has what it had: notes\./,
  )
  const wrong = await objects('set', 'agent_config', 'a', 'temprature=0.3')
  t.regex(wrong.stderr, /has no path "temprature"; it has name, .*temperature/)
  t.regex((await objects('set', 'agent_config', 'bad/id', 'name=x')).stderr, /bad\/id: an id is letters, digits and/)
  const local = await objects('list', 'byok_key')
  t.deepEqual([local.code, local.stdout], [0, 'byok_key: decided by each machine alone\nNo objects here.\n'])
})

test.serial('programs of this machine read how much waits, and have it pull, with the token alone', async (t) => {
  const { laptop } = t.context
  const { binds } = await laptop.askDaemon<'status', { binds: string[] }>('status', {})
  const authorization = `Bearer ${readFileSync(join(laptop.state, 'daemon.token'), 'utf8').trim()}`
  const ask = (path: string, method: string, headers = {}) => fetch(`http://${binds[0]}${path}`, { method, headers })
  const outbox = (await (await ask('/outbox', 'GET', { authorization })).json()) as { pending: number }
  t.is(typeof outbox.pending, 'number')
  t.is((await ask('/sync/pull', 'POST')).status, 401)
  const pulled = await ask('/sync/pull', 'POST', { authorization })
  t.is(pulled.status, 200)
  t.like(await pulled.json(), { done: true })
})

test.serial(
  'DG-4: without its daemon the sync check fails as the daemon’s does, and the commands are exit code 4',
  async (t) => {
    const { laptop } = t.context
    await laptop.end('SIGTERM')
    const { exit, checks } = await doctor(laptop)
    t.deepEqual([exit, checks.map(({ code }) => code)], [3, ['daemon_unreachable', 'daemon_unreachable']])
    for (const words of [
      ['sync', 'status'],
      ['sync', 'push'],
      ['objects', 'list'],
    ])
      t.deepEqual(codeOf(await laptop.lf(['gateway', ...words])), [4, 'daemon_unreachable'], words.join(' '))
  },
)
