import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError } from '@lenserfight/runtime'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { codeOf, newKey, operation, resultOf, sign, useWorld } from './_world.ts'

const world = useWorld(test)

/** A device's heartbeat, signed. */
const beat = (device: Parameters<typeof sign>[0]) =>
  sign(device, 'heartbeat', { daemon_version: '0.1.0', gateway_status: 'running' })

test('law 7: when a revoke returns, no claim of the device succeeds any more', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  t.is(await world().claimIngress(beat(device)), 'ok')
  resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid, reason: 'stolen' })))
  t.is(await world().claimIngress(beat(device)), 'device_revoked')
  t.is(await world().levelOf(device), 'revoked')
  t.is(codeOf(await world().approve(session, device)), 'device_revoked', 'for ever')
})

// Alone: what the others do would stand in the same line.
test.serial('law 7: a revoke waits for a claim in flight', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const claim = await world().owner.connect()
  await claim.query('BEGIN')
  await claim.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
  let returned = false
  const revoke = world()
    .ask(session, 'revoke', operation({ device_id: device.kid }))
    .then((outcome) => {
      returned = true
      return outcome
    })
  await world().untilWaitedFor(claim)
  t.false(returned)
  const late = world().claimIngress(beat(device))
  await sleep(100)
  await claim.query('COMMIT')
  claim.release()
  t.is(codeOf(await revoke), 'ok')
  t.is(await late, 'device_revoked')
})

test('law 7: claims that overlap without a gap do not put a revoke off', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  let over = false
  const hold = async (delay: number): Promise<void> => {
    await sleep(delay)
    while (!over) {
      const claim = await world().owner.connect()
      await claim.query('BEGIN')
      await claim.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
      await sleep(100)
      await claim.query('COMMIT')
      claim.release()
    }
  }
  const holders = [0, 20, 40, 60, 80].map(hold)
  await sleep(100)
  // One that was put off past the end of its patience would be refused.
  t.is(codeOf(await world().ask(session, 'revoke', operation({ device_id: device.kid }))), 'ok')
  over = true
  await Promise.all(holders)
})

// Alone: what the others do would stand in the same line.
test.serial('a worker that hangs in a claim keeps no other account waiting behind that device’s owner', async (t) => {
  const [session, other] = [await world().newSession(), await world().newSession()]
  const [device, neighbour] = [await world().newDevice(session), await world().newDevice(other)]
  const hung = await world().owner.connect()
  await hung.query('BEGIN')
  await hung.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
  const revoke = operation({ device_id: device.kid })
  const refused = t.throwsAsync(world().ask(session, 'revoke', revoke), { instanceOf: InfrastructureError })
  await world().untilWaitedFor(hung)
  t.is(await world().claimIngress(beat(neighbour)), 'ok', 'while the other hangs still')
  await refused
  await hung.query('ROLLBACK')
  hung.release()
  t.is(codeOf(await world().ask(session, 'revoke', revoke)), 'ok', 'asked again')
})

test('law 7: under claims without pause, none is admitted after the revoke has returned', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  let revoked = false
  const verdicts: { verdict: string; begunAfter: boolean }[] = []
  const claimer = async (): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      const begunAfter = revoked
      verdicts.push({ verdict: await world().claimIngress(beat(device)), begunAfter })
    }
  }
  const revoker = async (): Promise<void> => {
    await sleep(30)
    resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid })))
    revoked = true
  }
  await Promise.all([claimer(), claimer(), claimer(), revoker()])
  t.true(verdicts.some(({ verdict }) => verdict === 'ok'))
  t.deepEqual(
    verdicts.filter(({ verdict, begunAfter }) => begunAfter && verdict !== 'device_revoked'),
    [],
  )
})

test('approve and revoke at once: whoever is first, the device ends revoked', async (t) => {
  const session = await world().newSession()
  for (let round = 0; round < 5; round++) {
    const device = await world().register(session)
    resultOf(await world().answerChallenge(device))
    const [approval, revocation] = await Promise.all([
      world().approve(session, device),
      world().ask(session, 'revoke', operation({ device_id: device.kid })),
    ])
    t.true(['ok', 'device_revoked'].includes(codeOf(approval)))
    t.is(codeOf(revocation), 'ok')
    t.is(await world().levelOf(device), 'revoked')
  }
})

test('an approval that races the challenge is refused or right, never half', async (t) => {
  const session = await world().newSession()
  for (let round = 0; round < 5; round++) {
    const device = await world().register(session)
    const [answer, approval] = await Promise.all([world().answerChallenge(device), world().approve(session, device)])
    t.is(codeOf(answer), 'ok')
    const level = codeOf(approval) === 'ok' ? 'approved' : 'pending'
    t.is(await world().levelOf(device), level)
  }
})

test('device_blocked: what the platform blocked, its owner neither approves nor revokes', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  await world().query("UPDATE devices.registered_devices SET trust_level = 'blocked' WHERE id = $1", [device.kid])
  t.is(codeOf(await world().approve(session, device)), 'device_blocked')
  const body = operation({ device_id: device.kid })
  t.is(codeOf(await world().ask(session, 'revoke', body)), 'device_blocked')
  await world().query("UPDATE devices.registered_devices SET trust_level = 'approved' WHERE id = $1", [device.kid])
  t.is(codeOf(await world().ask(session, 'revoke', body)), 'ok', 'the same operation succeeds once it can')
})

test('invalid_transition: approving does not clear an unhealthy device', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  await world().query("UPDATE devices.registered_devices SET trust_level = 'unhealthy' WHERE id = $1", [device.kid])
  t.is(codeOf(await world().approve(session, device)), 'invalid_transition')
  t.is(await world().levelOf(device), 'unhealthy')
})

test('a revoked device’s challenge is refused, and its session’s other devices are untouched', async (t) => {
  const session = await world().newSession()
  const [device, other] = [await world().register(session), await world().newDevice(session)]
  const answer = sign(device, 'challenge', operation({ device_id: device.kid, challenge: device.challenge }))
  t.is(await world().claimIngress(answer), 'ok')
  resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid })))
  const [outcome] = await world().store.postChallenges([answer.text])
  t.is(outcome && codeOf(outcome), 'device_revoked')
  t.is(await world().levelOf(other), 'approved')
})

test('law 2: every operation sent again gives its result again, and has one effect and one audit record', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session)
  const register = world().registration(newKey(), { name: 'once' })
  const challenge = operation({ device_id: device.kid, challenge: device.challenge })
  const ofOwner = (kind: string, body: object): [string, () => Promise<Outcome>] => [
    kind,
    () => world().ask(session, kind, body),
  ]
  const send = [
    ofOwner('register', register),
    ['challenge', () => world().answerChallenge(device, challenge)] as const,
    ofOwner('approve', operation({ device_id: device.kid })),
    ofOwner('runner_bind', operation({ device_id: device.kid, name: 'ci' })),
    ofOwner('suspend', operation({ device_id: device.kid })),
    ofOwner('reinstate', operation({ device_id: device.kid })),
    ofOwner('revoke', operation({ device_id: device.kid })),
  ]
  for (const [kind, again] of send) {
    const first = resultOf(await again())
    const others = await Promise.all([again(), again()])
    t.deepEqual(others.map(resultOf), [first, first], kind)
  }
  const counts = [
    ['approve', 1],
    ['challenge', 1],
    // The device above was registered too.
    ['register', 2],
    ['reinstate', 1],
    ['revoke', 1],
    ['runner_bind', 1],
    ['suspend', 1],
  ] as const
  t.deepEqual(
    await world().query(
      `SELECT kind, count(*)::int AS results FROM devices.operations WHERE lenser_id = $1 AND kind <> 'login' GROUP BY kind ORDER BY kind`,
      [session.lenser],
    ),
    counts.map(([kind, results]) => ({ kind, results })),
  )
  t.deepEqual(
    await world().query(
      `SELECT event_kind AS kind, count(*)::int AS records FROM audit.pending WHERE lenser_id = $1 AND event_kind <> 'login' GROUP BY 1 ORDER BY 1`,
      [session.lenser],
    ),
    counts.map(([kind, records]) => ({ kind, records })),
  )
  t.is((await world().query("SELECT FROM devices.registered_devices WHERE name = 'once'")).length, 1)
})

test('op_id_conflict: an operation’s id with other content is no repetition', async (t) => {
  const session = await world().newSession()
  const body = world().registration(newKey())
  resultOf(await world().ask(session, 'register', body))
  t.is(codeOf(await world().ask(session, 'register', { ...body, name: 'another' })), 'op_id_conflict')
  const approve = { op_id: body.op_id, device_id: randomUUID() }
  t.is(codeOf(await world().ask(session, 'approve', approve)), 'op_id_conflict')
})

test('claim_expired: no request is applied that the ask door did not claim', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const requests: [string, object][] = [
    ['register', world().registration(newKey())],
    ['approve', operation({ device_id: device.kid })],
    ['revoke', operation({ device_id: device.kid })],
    ['suspend', operation({ device_id: device.kid })],
    ['reinstate', operation({ device_id: device.kid })],
    ['list', {}],
    ['runner_bind', operation({ device_id: device.kid, name: 'x' })],
    ['status', {}],
    ['audit_verify', { chain_kind: 'gateway' }],
  ]
  for (const [kind, members] of requests) {
    t.is(codeOf(await world().store.apply(kind, sign(session, kind, members).text)), 'claim_expired', kind)
  }
  t.is(codeOf(await world().store.login(sign(newKey(), 'login', operation()).text, {} as never)), 'claim_expired')
  t.is(await world().levelOf(device), 'approved')
})

test('kind_mismatch: an envelope of one kind does not do another’s work', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const signed = sign(session, 'approve', operation({ device_id: device.kid }))
  t.is(await world().claim(signed), 'ok')
  t.is(codeOf(await world().store.apply('revoke', signed.text)), 'kind_mismatch')
  t.is(await world().levelOf(device), 'approved')
})
