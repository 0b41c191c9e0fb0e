import { setLevel } from '@lenserfight/testkit'
import test from 'ava'
import {
  type ClaimsDatabase,
  claimIngress,
  claimOf,
  claimsDatabase,
  nanoseconds,
  type Session,
  seconds,
} from './_claims.ts'

let db: ClaimsDatabase
test.before(async () => {
  db = await claimsDatabase()
})
test.after.always(() => db?.close())

/** Two sessions of the verifier's role, each in a transaction, given back afterwards. */
const inTwoTransactions = async (use: (first: Session, second: Session) => Promise<void>): Promise<void> => {
  const [first, second] = [await db.verifier.connect(), await db.verifier.connect()]
  try {
    await first.query('BEGIN')
    await second.query('BEGIN')
    await use(first, second)
  } finally {
    await first.query('ROLLBACK')
    await second.query('ROLLBACK')
    first.release()
    second.release()
  }
}
/** Whether work is still waiting for a lock after a while. */
const isWaiting = async (work: Promise<unknown>): Promise<boolean> =>
  (await Promise.race([work.then(() => 'over'), new Promise((done) => setTimeout(done, 150, 'waits'))])) === 'waits'

const verdictOf = async (nonce: string): Promise<string[]> => {
  const { rows } = await db.owner.query<{ verdict: string }>(
    'SELECT verdict FROM devices.envelope_claims WHERE nonce = $1 ORDER BY iat',
    [nonce],
  )
  return rows.map(({ verdict }) => verdict)
}

test('a claim stores verdict, digest and which message it was, under its door', async (t) => {
  const device = await db.device('trusted')
  const message = claimOf(device)
  t.deepEqual(await claimIngress(db.verifier, [message]), ['ok'])
  const { rows } = await db.owner.query(
    `SELECT door, kind, encode(digest, 'hex') AS digest, verdict, lenser_id, trust_level, stream, seq, stored_ns, iat
       FROM devices.envelope_claims WHERE kid = $1 AND nonce = $2`,
    [message.kid, message.nonce],
  )
  t.deepEqual(rows, [
    {
      door: 'ingress',
      kind: 'heartbeat',
      digest: message.digest,
      verdict: 'ok',
      lenser_id: device.lenser,
      trust_level: 'trusted',
      stream: 'LTG_INGRESS',
      seq: String(message.seq),
      stored_ns: String(message.stored),
      iat: String(message.iat),
    },
  ])
})

test('RP-1: iat is held to 300 s around the time of storing, whatever time it is now', async (t) => {
  const device = await db.device()
  const stored = seconds() - 600
  const at = (iat: number) => claimOf(device, { iat, stored: nanoseconds(stored) })
  const batch = [at(stored), at(stored - 300), at(stored + 300), at(stored - 301), at(stored + 301)]
  t.deepEqual(await claimIngress(db.verifier, batch), ['ok', 'ok', 'ok', 'iat_window', 'iat_window'])
  const half = [stored + 0.5, stored - 0.5].map((time) => nanoseconds(time))
  const edges = [
    claimOf(device, { iat: stored + 300, stored: half[0] as bigint }),
    claimOf(device, { iat: stored - 300, stored: half[0] as bigint }),
    claimOf(device, { iat: stored + 300, stored: half[1] as bigint }),
    claimOf(device, { iat: stored - 300, stored: half[1] as bigint }),
  ]
  t.deepEqual(await claimIngress(db.verifier, edges), ['ok', 'iat_window', 'iat_window', 'ok'])
})

test('RP-1: signed times of any size are judged, none overflows', async (t) => {
  const device = await db.device()
  const iats = [0, -1, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, seconds() * 1000]
  const verdicts = await claimIngress(
    db.verifier,
    iats.map((iat) => claimOf(device, { iat })),
  )
  t.deepEqual(verdicts, Array(iats.length).fill('iat_window'))
})

test('RP-1: what was stored over 15 minutes ago is iat_window, since its claim may be gone', async (t) => {
  const device = await db.device()
  const old = seconds() - 905
  const recent = seconds() - 890
  const batch = [old, recent].map((time) => claimOf(device, { iat: time, stored: nanoseconds(time) }))
  t.deepEqual(await claimIngress(db.verifier, batch), ['iat_window', 'ok'])
})

test('a store time over 5 s ahead of the database judges nothing and claims nothing: the clock is broken', async (t) => {
  const device = await db.device()
  const batch = [claimOf(device), claimOf(device, { stored: nanoseconds(seconds() + 20) })]
  await t.throwsAsync(claimIngress(db.verifier, batch), { code: 'LT010' })
  t.deepEqual(await verdictOf(batch[0]?.nonce ?? ''), [])
  const little = [claimOf(device, { stored: nanoseconds(seconds() + 3) })]
  t.deepEqual(await claimIngress(db.verifier, little), ['ok'])
})

test('RP-2: a nonce is accepted once; another message with it is nonce_replay, in one batch and in a later one', async (t) => {
  const device = await db.device()
  const first = claimOf(device)
  const second = claimOf(device, { nonce: first.nonce })
  const third = claimOf(device, { nonce: first.nonce })
  t.deepEqual(await claimIngress(db.verifier, [first, second, claimOf(device)]), ['ok', 'nonce_replay', 'ok'])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device), third]), ['ok', 'nonce_replay'])
  t.deepEqual(await verdictOf(first.nonce), ['ok'])
})

test('RP-2: the very same bytes under another sequence number are nonce_replay', async (t) => {
  const device = await db.device()
  const first = claimOf(device)
  const copy = { ...first, seq: first.seq + 1_000_000 }
  t.deepEqual(await claimIngress(db.verifier, [first]), ['ok'])
  t.deepEqual(await claimIngress(db.verifier, [copy]), ['nonce_replay'])
  t.deepEqual(await claimIngress(db.verifier, [{ ...first, stored: first.stored + 1n }]), ['nonce_replay'])
  t.deepEqual(await claimIngress(db.verifier, [first], 'LTG_INGRESS_2'), ['nonce_replay'])
})

test('RP-2: a nonce under a second iat is nonce_replay, and so are both orders of coming', async (t) => {
  const device = await db.device()
  const first = claimOf(device)
  const second = claimOf(device, { nonce: first.nonce, iat: first.iat - 200 })
  t.deepEqual(await claimIngress(db.verifier, [first]), ['ok'])
  t.deepEqual(await claimIngress(db.verifier, [second]), ['nonce_replay'])
  const doubled = claimOf(device, { nonce: 'BBBBBBBBBBBBBBBBBBBBBB' })
  t.deepEqual(await claimIngress(db.verifier, [doubled, { ...doubled, iat: doubled.iat - 1, seq: doubled.seq + 1 }]), [
    'ok',
    'nonce_replay',
  ])
})

test('RP-2: one nonce of two devices is two nonces', async (t) => {
  const [a, b] = [await db.device(), await db.device()]
  const first = claimOf(a)
  t.deepEqual(await claimIngress(db.verifier, [first, claimOf(b, { nonce: first.nonce })]), ['ok', 'ok'])
})

test('RP-2: two verifiers with one nonce under two iats at once: one is accepted', async (t) => {
  const device = await db.device()
  const message = claimOf(device)
  await inTwoTransactions(async (first, second) => {
    t.deepEqual(await claimIngress(first, [message]), ['ok'])
    const other = claimIngress(second, [{ ...message, iat: message.iat - 5, seq: message.seq + 1 }])
    t.true(await isWaiting(other))
    await first.query('COMMIT')
    t.deepEqual(await other, ['nonce_replay'])
  })
})

test('RP-2: a transaction that keeps its first snapshot claims nothing: it would not see a nonce that was spent since', async (t) => {
  const device = await db.device()
  for (const isolation of ['REPEATABLE READ', 'SERIALIZABLE']) {
    const session = await db.verifier.connect()
    try {
      await session.query(`BEGIN ISOLATION LEVEL ${isolation}`)
      await session.query('SELECT FROM devices.fn_signers($1)', [[device.kid]])
      const spent = claimOf(device)
      t.deepEqual(await claimIngress(db.verifier, [spent]), ['ok'])
      const again = claimIngress(session, [claimOf(device, { nonce: spent.nonce, iat: spent.iat - 1 })])
      t.like(await t.throwsAsync(again), { code: '40001' }, isolation)
    } finally {
      await session.query('ROLLBACK')
      session.release()
    }
  }
})

test('two verifiers claiming the same messages at once, in opposite order, give the same verdicts and no deadlock', async (t) => {
  const devices = [await db.device(), await db.device(), await db.device()]
  const batch = devices.flatMap((device) => Array.from({ length: 20 }, () => claimOf(device)))
  await inTwoTransactions(async (first, second) => {
    const claimed = await claimIngress(first, batch)
    const other = claimIngress(second, batch.toReversed())
    t.true(await isWaiting(other))
    await first.query('COMMIT')
    t.deepEqual(claimed, Array(60).fill('ok'))
    t.deepEqual(await other, Array(60).fill('ok'))
  })
  const racing = Array.from({ length: 6 }, (_, turn) => {
    const mixed = devices.flatMap((device) => Array.from({ length: 20 }, () => claimOf(device)))
    return turn % 2 === 0 ? [...mixed, ...batch] : [...batch.toReversed(), ...mixed]
  })
  const verdicts = await Promise.all(racing.map((messages) => claimIngress(db.verifier, messages)))
  t.true(verdicts.flat().every((verdict) => verdict === 'ok'))
})

test('what a claim that was rolled back took is free again', async (t) => {
  const device = await db.device()
  const message = claimOf(device)
  await inTwoTransactions(async (first, second) => {
    t.deepEqual(await claimIngress(first, [message]), ['ok'])
    const other = claimIngress(second, [{ ...message, seq: message.seq + 1 }])
    t.true(await isWaiting(other))
    await first.query('ROLLBACK')
    t.deepEqual(await other, ['ok'])
  })
})

test('DH-5: a redelivery is not a replay: the same message has the same verdict, however often and with whatever beside it', async (t) => {
  const device = await db.device()
  const message = claimOf(device)
  t.deepEqual(await claimIngress(db.verifier, [message, message, claimOf(device)]), ['ok', 'ok', 'ok'])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device), message]), ['ok', 'ok'])
  const replayed = { ...message, seq: message.seq + 1_000_000 }
  t.deepEqual(await claimIngress(db.verifier, [message, replayed, message]), ['ok', 'nonce_replay', 'ok'])
})

test('a redelivery is judged no second time, when the device or its key changed and time went by', async (t) => {
  const device = await db.device()
  const accepted = claimOf(device)
  await claimIngress(db.verifier, [accepted])
  await setLevel(db.owner, device.kid, 'unhealthy')
  const refused = claimOf(device, { kind: 'run_start' })
  t.deepEqual(await claimIngress(db.verifier, [refused, accepted]), ['device_unhealthy', 'ok'])
  await setLevel(db.owner, device.kid, 'approved')
  const otherKey = 'ab'.repeat(32)
  t.deepEqual(
    await claimIngress(
      db.verifier,
      [refused, accepted, claimOf(device)].map((message) => ({ ...message, key: otherKey })),
    ),
    ['device_unhealthy', 'ok', 'key_changed'],
  )
})

test('a refused claim spends its nonce', async (t) => {
  const device = await db.device('pending')
  const message = claimOf(device)
  t.deepEqual(await claimIngress(db.verifier, [message]), ['device_pending'])
  await db.owner.query('UPDATE devices.registered_devices SET public_key = submitted_public_key WHERE id = $1', [
    device.kid,
  ])
  await setLevel(db.owner, device.kid, 'approved')
  t.deepEqual(await claimIngress(db.verifier, [message]), ['device_pending'])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device, { nonce: message.nonce })]), ['nonce_replay'])
})

test('which kinds a state may send; the others get the state as their code', async (t) => {
  const expected = {
    pending: {
      challenge: 'ok',
      heartbeat: 'device_pending',
      run_start: 'device_pending',
      attestation: 'device_pending',
    },
    approved: { challenge: 'ok', heartbeat: 'ok', run_start: 'ok', attestation: 'ok' },
    trusted: { challenge: 'ok', heartbeat: 'ok', run_start: 'ok', attestation: 'ok' },
    offline: { challenge: 'ok', heartbeat: 'ok', run_start: 'ok', attestation: 'ok' },
    unhealthy: { challenge: 'ok', heartbeat: 'ok', run_start: 'device_unhealthy', attestation: 'device_unhealthy' },
    revoked: { challenge: 'device_revoked', heartbeat: 'device_revoked', attestation: 'device_revoked' },
    blocked: { challenge: 'device_blocked', heartbeat: 'device_blocked', attestation: 'device_blocked' },
  } as const
  for (const [level, kinds] of Object.entries(expected)) {
    const device = await db.device(level as keyof typeof expected)
    const batch = Object.keys(kinds).map((kind) => claimOf(device, { kind }))
    t.deepEqual(await claimIngress(db.verifier, batch), Object.values(kinds), level)
  }
})

test('the first refusal that applies is the verdict: iat_window, then the state, then nonce_replay', async (t) => {
  const device = await db.device('unhealthy')
  const spent = claimOf(device)
  await claimIngress(db.verifier, [spent])
  const far = seconds() - 5000
  const refused = (changed: object) => claimOf(device, { kind: 'run_start', nonce: spent.nonce, ...changed })
  const batch = [refused({ iat: far }), refused({}), refused({ kind: 'heartbeat' })]
  t.deepEqual(await claimIngress(db.verifier, batch), ['iat_window', 'device_unhealthy', 'nonce_replay'])
})

test('a key other than the one on record claims nothing; neighbours do', async (t) => {
  const [a, b] = [await db.device(), await db.device()]
  const wrong = claimOf(a, { key: 'cd'.repeat(32) })
  const gone = claimOf({ ...b, kid: crypto.randomUUID() })
  const good = claimOf(b)
  t.deepEqual(await claimIngress(db.verifier, [wrong, good, gone]), ['key_changed', 'ok', 'key_changed'])
  t.deepEqual(await verdictOf(wrong.nonce), [])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(a, { nonce: wrong.nonce })]), ['ok'])
})

test('law 7: a revoke waits for the claims in flight, and when it has returned none succeeds', async (t) => {
  const device = await db.device()
  const claiming = await db.verifier.connect()
  await claiming.query('BEGIN')
  t.deepEqual(await claimIngress(claiming, [claimOf(device)]), ['ok'])
  const revoking = setLevel(db.owner, device.kid, 'revoked')
  t.true(await isWaiting(revoking))
  await claiming.query('COMMIT')
  claiming.release()
  await revoking
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['device_revoked'])
})

test('law 7: a claim waits for a revoke in flight, and sees it, though it began before the revoke was committed', async (t) => {
  const device = await db.device()
  const neighbour = await db.device()
  const revoking = await db.owner.connect()
  await revoking.query('BEGIN')
  await setLevel(revoking, device.kid, 'revoked')
  const claiming = claimIngress(db.verifier, [claimOf(neighbour), claimOf(device)])
  t.true(await isWaiting(claiming))
  await revoking.query('COMMIT')
  revoking.release()
  t.deepEqual(await claiming, ['ok', 'device_revoked'])
})

test('heartbeats written to a device row neither wait for a claim nor keep one waiting', async (t) => {
  // Whoever waited here would wait for ever: the other ends its transaction only afterwards.
  t.timeout(60_000)
  const beat = 'UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = $1'
  const device = await db.device()
  const claiming = await db.verifier.connect()
  await claiming.query('BEGIN')
  await claimIngress(claiming, [claimOf(device)])
  await db.owner.query(beat, [device.kid])
  await claiming.query('COMMIT')
  claiming.release()
  const beating = await db.owner.connect()
  await beating.query('BEGIN')
  await beating.query(beat, [device.kid])
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device)]), ['ok'])
  await beating.query('COMMIT')
  beating.release()
})

test('no verdict is ever changed, by nobody', async (t) => {
  const device = await db.device('pending')
  const message = claimOf(device)
  await claimIngress(db.verifier, [message])
  await t.throwsAsync(
    db.owner.query(`UPDATE devices.envelope_claims SET verdict = 'ok' WHERE nonce = $1`, [message.nonce]),
    { code: 'LT003' },
  )
  t.deepEqual(await verdictOf(message.nonce), ['device_pending'])
})
