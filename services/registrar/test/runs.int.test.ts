import { encodeKey } from '@lenserfight/envelope'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { codeOf, type Device, newKey, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const commandHash = encodeKey(new Uint8Array(32).fill(7))
/** Says something through the ingress door, as the evaluator applies it. */
const say = async (device: Device, kind: 'run_start' | 'run_withdraw' | 'attestation', members: object) => {
  const signed = sign(device, kind, operation(members))
  const verdict = await world().claimIngress(signed)
  if (verdict !== 'ok') throw new Error(verdict)
  const name = kind === 'attestation' ? 'fn_record_execution_attestation' : `fn_${kind}`
  const [row] = await world().query<{ outcome: Outcome }>(`SELECT outcome FROM execution.${name}($1)`, [[signed.text]])
  return row?.outcome as Outcome
}
const startRun = async (device: Device, members: object = {}): Promise<string> =>
  resultOf(await say(device, 'run_start', { command_hash: commandHash, inputs: [], ...members })).run_id as string
const set = async (session: Session, members: object) =>
  resultOf(await world().ask(session, 'policy_set', operation(members)))
const decide = (session: Session, run_id: string, decision: 'approve' | 'deny') =>
  world().ask(session, 'approval_decide', operation({ run_id, decision }))
interface Listed {
  readonly runs: Record<string, unknown>[]
  readonly more: boolean
  readonly next: string | null
}
const list = async (session: Session, members: object = {}) =>
  resultOf(await world().ask(session, 'runs', members)) as unknown as Listed
const idsOf = ({ runs }: Listed) => runs.map(({ run_id }) => run_id as string)

test('a run that its device took back awaits nobody, and whoever answers it is told', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  await set(session, { approval_default: 'require_human' })
  const run_id = await startRun(device)
  t.true((await say(device, 'run_withdraw', { run_id })).ok)
  for (const decision of ['approve', 'deny'] as const)
    t.is(codeOf(await decide(session, run_id, decision)), 'run_withdrawn')
  const { approvals } = resultOf(await world().ask(session, 'approvals', {})) as { approvals: object[] }
  t.like(approvals[0], { run_id, decision: 'withdraw' })
})

test('approved and taken back at once: one of them is first, the other is told, and it never runs', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  await set(session, { approval_default: 'require_human' })
  const said = new Set<string>()
  for (let round = 0; round < 12; round += 1) {
    const run_id = await startRun(device)
    const [answer, back] = await Promise.all([
      decide(session, run_id, 'approve'),
      say(device, 'run_withdraw', { run_id }),
    ])
    const { decision, ...stands } = resultOf(back)
    t.deepEqual(stands, { run_id, verdict: 'deny', reason: 'withdrawn' })
    // Whoever came second is told what the first said.
    t.is(decision, answer.ok ? 'approve' : 'withdraw')
    if (!answer.ok) t.is(codeOf(answer), 'run_withdrawn')
    said.add(String(decision))
    t.like((await list(session)).runs[0], { run_id, verdict: 'deny', reason: 'withdrawn', open_until: null })
  }
  t.true(said.size > 0)
})

test('runs: the account’s own, newest first, with what the policy said and what came of them', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const [device, other] = [await world().newDevice(mine, { name: 'builder' }), await world().newDevice(mine)]
  const { runner_id } = resultOf(
    await world().ask(mine, 'runner_bind', operation({ name: 'nightly', device_id: device.kid })),
  )
  await startRun(await world().newDevice(theirs))
  t.deepEqual(await list(await world().newSession()), { runs: [], more: false, next: null })
  const done = await startRun(device, { label: 'make all', runner_id })
  const attested = await say(device, 'attestation', {
    ...{ run_id: done, command_hash: commandHash, stdin_hash: null, stdout_hash: null, inputs: [], outputs: [] },
    ...{ lens_hash: null, workflow_hash: null, started_at: Date.now() - 5, ended_at: Date.now(), exit_code: 3 },
    signal: null,
  })
  t.true(attested.ok)
  const open = await startRun(other)
  await set(mine, { approval_default: 'require_human' })
  const waits = await startRun(device)
  const answer = await list(mine)
  t.deepEqual([idsOf(answer), answer.more, answer.next], [[waits, open, done], false, null])
  t.deepEqual(await list(mine), answer)
  const { asked_at, attested_at, started_at, ended_at, ...shown } = answer.runs[2] as Record<string, number>
  for (const time of [asked_at, attested_at, started_at, ended_at])
    t.true(Math.abs(Number(time) - Date.now() / 1000) < 3600)
  t.deepEqual(shown as object, {
    ...{ run_id: done, label: 'make all', command_hash: commandHash.slice(0, 12) },
    ...{ device_id: device.kid, device_name: 'builder', runner_id, runner_name: 'nightly' },
    ...{ verdict: 'allow', reason: 'approval_default_allow', awaits_until: null, open_until: null },
    ...{ exit_code: 3, signal: null, level: resultOf(attested).level },
  })
  t.like(answer.runs[1], { verdict: 'allow', attested_at: null, exit_code: null })
  t.true(Number(answer.runs[1]?.open_until) > Date.now() / 1000)
  t.like(answer.runs[0], { verdict: 'require_approval', level: 'account_verified' })
  t.true(Number(answer.runs[0]?.awaits_until) > Date.now() / 1000)

  t.deepEqual(idsOf(await list(mine, { device_id: device.kid })), [waits, done])
  t.deepEqual(idsOf(await list(mine, { runner_id })), [done])
  t.deepEqual(idsOf(await list(mine, { state: 'awaiting' })), [waits])
  t.deepEqual(idsOf(await list(mine, { state: 'open' })), [waits, open], 'one that awaits holds a place too')
  t.deepEqual(idsOf(await list(theirs, { device_id: device.kid })), [], 'law 4')
  t.deepEqual(idsOf(await list(theirs, { before: waits, runner_id })), [], 'law 4')
})

test('runs: page by page, each once, and no answer is larger than an envelope', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session, { name: '𝔻'.repeat(30) })
  const first = await startRun(device, { label: '𝔻'.repeat(60) })
  await world().query(
    `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, label, started_at)
     SELECT requester_lenser_id, device_id, uuidv7(), false, command_hash, inputs, label, started_at
       FROM execution.runs, generate_series(1, 449) WHERE id = $1`,
    [first],
  )
  const seen: string[] = []
  let before: string | null = null
  do {
    const answer: Listed = await list(session, before === null ? {} : { before })
    t.true(Buffer.byteLength(JSON.stringify(answer)) < 200 * 1024)
    t.is(answer.more, answer.next !== null)
    t.true(answer.runs.length > 100 || !answer.more)
    seen.push(...idsOf(answer))
    ;({ next: before } = answer)
  } while (before !== null)
  t.is(seen.length, 450)
  t.is(new Set(seen).size, 450)
  t.deepEqual(seen, seen.toSorted().reverse())
  const two = await list(session, { limit: 2 })
  t.deepEqual(idsOf(two), seen.slice(0, 2))
  t.is(two.next, seen[1] ?? null)
})

test('runs: an API key reads them, and what nobody is signed in with does not', async (t) => {
  const session = await world().newSession()
  const run = await startRun(await world().newDevice(session))
  const key = newKey()
  const asKey = (pair: typeof key): Session => ({ ...pair, lenser: session.lenser })
  const members = { name: key.kid, may_approve: false, expires_in_days: 1, public_key: encodeKey(key.publicKey) }
  resultOf(await world().ask(session, 'api_key_create', operation(members)))
  t.deepEqual(idsOf(await list(asKey(key))), [run])
  t.not(codeOf(await world().ask(asKey(newKey()), 'runs', {})), 'ok')
})
