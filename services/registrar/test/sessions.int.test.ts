import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { codeOf, newKey, operation, resultOf, type Session, sign, token, useWorld } from './_world.ts'

const world = useWorld(test)

/** Another session of an account, by its subject. */
const anotherOf = (subject: string): Promise<Session> => world().newSession(subject)
const revoke = (asker: Session, session: string, members: object = {}): Promise<Outcome> =>
  world().ask(asker, 'session_revoke', operation({ session, ...members }))
const sessionsOf = async (asker: Session) =>
  resultOf(await world().ask(asker, 'sessions', {})) as { sessions: Record<string, unknown>[]; more: boolean }

test('sessions: an account sees its own, living ones first, and which one asks', async (t) => {
  const subject = randomUUID()
  const [first, second, ended] = [await anotherOf(subject), await anotherOf(subject), await anotherOf(subject)]
  await world().newSession()
  resultOf(await revoke(first, ended.kid))
  const { sessions, more } = await sessionsOf(first)
  t.false(more)
  const brief = sessions.map(({ session, current, revoked_at }) => [session, current, revoked_at !== null])
  t.deepEqual(brief, [
    [second.kid, false, false],
    [first.kid, true, false],
    [ended.kid, false, true],
  ])
  const { created_at, expires_at, ...shown } = sessions[1] as { created_at: number; expires_at: number }
  t.true(Math.abs(created_at - Date.now() / 1000) < 60)
  t.is(expires_at, created_at + 30 * 24 * 3600)
  t.deepEqual(shown, {
    ...{
      session: first.kid,
      kind: 'sign-in',
      name: null,
      machine: null,
      scope: 'owner',
      revoked_at: null,
      current: true,
    },
  })
})

test('sessions: each names the machine that its sign-in named, and the newest name counts', async (t) => {
  const subject = randomUUID()
  const [key, mine] = [newKey(), await anotherOf(subject)]
  const machineOf = async () => (await sessionsOf(mine)).sessions.find(({ session }) => session === key.kid)?.machine
  for (const [members, shown] of [
    [{ machine: 'Sam’s laptop' }, 'Sam’s laptop'],
    [{}, 'Sam’s laptop'],
    [{ machine: 'build 7' }, 'build 7'],
  ] as const) {
    resultOf(await world().login(key, token(subject), operation(members)))
    t.is(await machineOf(), shown)
  }
  const speaker = { ...key, lenser: mine.lenser }
  t.is(resultOf(await world().ask(speaker, 'status', {})).machine, 'build 7')
  t.is(resultOf(await world().ask(mine, 'status', {})).machine, null)
})

test('sessions: however many there are, the answer fits into an envelope and says that there is more', async (t) => {
  const session = await world().newSession()
  await world().query(
    `INSERT INTO lensers.sessions (kid, public_key, lenser_id, scope, name, expires_at)
     SELECT devices.fn_kid_of_key(key), key, $1, 'api', repeat('𝔻', 60) || n, now() + interval '1 day'
       FROM generate_series(1, 2000) AS n, sha256(('many' || n)::bytea) AS key`,
    [session.lenser],
  )
  const result = await sessionsOf(session)
  t.true(result.more)
  t.true(result.sessions.length > 100)
  t.true(Buffer.byteLength(JSON.stringify(result)) < 200 * 1024)
})

test('session_revoke: a session that was ended asks for nothing from the next envelope on, and signs nobody in', async (t) => {
  const subject = randomUUID()
  const [mine, other] = [await anotherOf(subject), await anotherOf(subject)]
  const members = operation({ session: other.kid })
  const ended = resultOf(await world().ask(mine, 'session_revoke', members))
  t.is(ended.session, other.kid)
  t.true(Math.abs((ended.revoked_at as number) - Date.now() / 1000) < 60)
  t.is(codeOf(await world().ask(other, 'list', {})), 'session_expired')
  t.is(codeOf(await world().login(other, token(subject))), 'session_expired')
  t.is(codeOf(await world().ask(mine, 'list', {})), 'ok')
  t.deepEqual(resultOf(await world().ask(mine, 'session_revoke', members)), ended, 'the same again')
  t.is(resultOf(await revoke(mine, other.kid)).revoked_at, ended.revoked_at, 'it ended once')
})

test('session_revoke: its own session too, and asking again tells so', async (t) => {
  const session = await world().newSession()
  const members = operation({ session: session.kid })
  t.is(codeOf(await world().ask(session, 'session_revoke', members)), 'ok')
  t.is(codeOf(await world().ask(session, 'session_revoke', members)), 'session_expired')
  t.is(codeOf(await world().ask(session, 'list', {})), 'session_expired')
})

test('session_not_found: other accounts’ sessions are nobody’s to end, nor to know of', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  for (const kid of [theirs.kid, randomUUID()]) t.is(codeOf(await revoke(mine, kid)), 'session_not_found')
  t.is(codeOf(await world().ask(theirs, 'list', {})), 'ok')
})

test('session_revoke: another account’s requests are not held up by naming its session', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const holder = await world().owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM lensers.sessions WHERE kid = $1 FOR SHARE', [theirs.kid])
    t.is(codeOf(await revoke(mine, theirs.kid)), 'session_not_found')
  } finally {
    await holder.query('ROLLBACK')
    holder.release()
  }
})

// Alone: what the others do would stand in the same line.
test.serial('law 7: a session’s end waits for its requests in flight, and none has an effect afterwards', async (t) => {
  const subject = randomUUID()
  const [mine, other] = [await anotherOf(subject), await anotherOf(subject)]
  const device = await world().register(mine)
  resultOf(await world().answerChallenge(device))
  const approval = sign(other, 'approve', operation({ device_id: device.kid }))
  t.is(await world().claim(approval), 'ok')
  const inFlight = await world().owner.connect()
  await inFlight.query('BEGIN')
  await inFlight.query('SELECT FROM lensers.sessions WHERE kid = $1 FOR SHARE', [other.kid])
  let returned = false
  const ending = revoke(mine, other.kid).then((outcome) => {
    returned = true
    return outcome
  })
  await world().untilWaitedFor(inFlight)
  t.false(returned)
  const late = world().store.apply('approve', approval.text)
  await sleep(100)
  await inFlight.query('COMMIT')
  inFlight.release()
  t.is(codeOf(await ending), 'ok')
  t.is(codeOf(await late), 'session_expired')
  t.is(await world().levelOf(device), 'pending')
})

test('law 7: an approval races the end of its session: it is refused, or it came first', async (t) => {
  t.timeout(60_000)
  const subject = randomUUID()
  const mine = await anotherOf(subject)
  const seen = new Map<string, number>()
  for (let round = 0; round < 25; round++) {
    const other = await anotherOf(subject)
    const device = await world().register(mine)
    resultOf(await world().answerChallenge(device))
    const pause = (round % 5) * 2
    const [approved, ended] = await Promise.all([
      sleep(pause).then(() => world().approve(other, device)),
      revoke(mine, other.kid),
    ])
    t.is(codeOf(ended), 'ok')
    t.true(['ok', 'session_expired'].includes(codeOf(approved)))
    t.is(await world().levelOf(device), approved.ok ? 'approved' : 'pending')
    t.is(codeOf(await world().ask(other, 'revoke', operation({ device_id: device.kid }))), 'session_expired')
    seen.set(codeOf(approved), (seen.get(codeOf(approved)) ?? 0) + 1)
  }
  t.log(Object.fromEntries(seen))
})

test('law 7: requests that overlap without a gap do not put a session’s end off', async (t) => {
  const subject = randomUUID()
  const [mine, other] = [await anotherOf(subject), await anotherOf(subject)]
  let over = false
  const hold = async (delay: number): Promise<void> => {
    await sleep(delay)
    while (!over) {
      const request = await world().owner.connect()
      await request.query('BEGIN')
      await request.query('SELECT FROM lensers.sessions WHERE kid = $1 FOR SHARE', [other.kid])
      await sleep(100)
      await request.query('COMMIT')
      request.release()
    }
  }
  const holders = Promise.all([hold(0), hold(50)])
  await sleep(120)
  const outcome = await revoke(mine, other.kid).catch((error: unknown) => error)
  over = true
  await holders
  t.false(outcome instanceof CodedError)
  t.is(codeOf(outcome as Outcome), 'ok')
})

test.serial(
  'a question that takes long holds up neither the end of its session nor, behind that, anybody’s requests',
  async (t) => {
    const subject = randomUUID()
    const [mine, other, bystander] = [await anotherOf(subject), await anotherOf(subject), await world().newSession()]
    const questions = { 'audit.fn_audit_verify': sign(mine, 'audit_verify', { chain_kind: 'gateway' }) }
    const all = {
      ...questions,
      'devices.fn_device_list': sign(mine, 'list', {}),
      'lensers.fn_session_list': sign(mine, 'sessions', {}),
    }
    for (const [name, question] of Object.entries(all)) {
      t.is(await world().claim(question), 'ok')
      const slow = await world().registrar.connect()
      try {
        await slow.query('BEGIN')
        const { rows } = await slow.query(`SELECT (${name}($1) ->> 'ok')::boolean AS ok`, [question.text])
        t.deepEqual(rows, [{ ok: true }])
        const ending = revoke(mine, other.kid).then(codeOf, String)
        // Past the time at which it would lock the table.
        await sleep(500)
        t.is(
          await Promise.race([
            world().ask(bystander, 'list', {}).then(codeOf, String),
            sleep(15_000).then(() => 'held up'),
          ]),
          'ok',
          name,
        )
        t.is(await ending, 'ok', name)
      } finally {
        await slow.query('ROLLBACK')
        slow.release()
      }
    }
  },
)

test('two sessions that end each other, and one that ends itself twice, at once: nobody waits for nobody', async (t) => {
  const subject = randomUUID()
  for (let round = 0; round < 10; round++) {
    const [one, two] = [await anotherOf(subject), await anotherOf(subject)]
    const codes = (await Promise.all([revoke(one, two.kid), revoke(two, one.kid)])).map(codeOf).sort()
    t.deepEqual(codes, ['ok', 'session_expired'])
    const alone = await anotherOf(subject)
    const twice = (await Promise.all([revoke(alone, alone.kid), revoke(alone, alone.kid)])).map(codeOf).sort()
    t.deepEqual(twice, ['ok', 'session_expired'])
  }
})

test('session_expired: a session key that nobody made an account’s is unknown, whatever it asks', async (t) => {
  for (const kind of ['sessions', 'session_revoke', 'api_key_create'] as const) {
    t.is(codeOf(await world().ask(newKey(), kind, operation({ session: randomUUID() }))), 'unknown_session')
  }
})
