import { setTimeout as sleep } from 'node:timers/promises'
import { randomNonce } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { type ClaimsDatabase, claimIngress, claimOf, claimsDatabase, seconds } from './_claims.ts'

let db: ClaimsDatabase
test.before(async () => {
  db = await claimsDatabase()
})
test.after.always(() => db?.close())

const width = 900
const keep = 300 + 900 + 60
/** How far ahead partitions are made. */
const ahead = width + limits.iatWindowSeconds + limits.storeLeadSeconds

/** Seconds until the time at which a partition is to be made, dropped or begun. */
const untilChange = (): number => {
  const now = Date.now() / 1000
  return Math.min(...[now, now - keep, now + ahead].map((time) => width - (time % width)))
}
// What is counted here is what a test itself made and took away, not what became due in its midst.
test.beforeEach(async () => {
  const left = untilChange()
  if (left < 45) await sleep((left + 1) * 1000)
})

const maintain = async (): Promise<{ made: number; dropped: number }> => {
  const { rows } = await db.verifier.query('SELECT * FROM devices.fn_claims_maintain()')
  return rows[0]
}
const partitions = async (): Promise<number[]> => {
  const { rows } = await db.owner.query<{ start: string }>(
    `SELECT substr(c.relname, 17) AS start FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = 'devices.envelope_claims'::regclass AND c.relname ~ '[0-9]$' ORDER BY 1`,
  )
  return rows.map(({ start }) => Number(start))
}
const partitionOf = async (nonce: string): Promise<string | undefined> => {
  const { rows } = await db.owner.query<{ name: string }>(
    'SELECT tableoid::regclass::text AS name FROM devices.envelope_claims WHERE nonce = $1',
    [nonce],
  )
  return rows[0]?.name
}
/** Writes a claim past the doors, as one of an earlier time would lie there. */
const leave = async (kid: string, iat: number, { verdict = 'ok', claimedAgo = 0 } = {}): Promise<string> => {
  const nonce = randomNonce()
  await db.owner.query(
    `INSERT INTO devices.envelope_claims (kid, nonce, iat, door, kind, digest, verdict, claimed_at)
     VALUES ($1, $2, $3, 'connect', 'connect', sha256(''), $4, now() - make_interval(secs => $5))`,
    [kid, nonce, iat, verdict, claimedAgo],
  )
  return nonce
}
const drop = async (start: number): Promise<void> => {
  await db.owner.query(`DROP TABLE devices.envelope_claims_${start}`)
}
const startOf = (iat: number): number => Math.floor(iat / width) * width

test.serial('partitions are there for every time that is kept, accepted now or in the next 15 minutes', async (t) => {
  await maintain()
  const starts = await partitions()
  t.true((starts[0] ?? 0) <= seconds() - keep)
  t.true((starts.at(-1) ?? 0) + width >= seconds() + 305 + width - 5)
  t.deepEqual(
    starts,
    starts.map((_, place) => (starts[0] ?? 0) + place * width),
  )
  t.deepEqual(await maintain(), { made: 0, dropped: 0 })
})

test.serial('every partition has row security forced and belongs to the owner of all', async (t) => {
  const { rows } = await db.owner.query(
    `SELECT DISTINCT c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text AS owner, c.relacl
       FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
      WHERE c.oid = 'devices.envelope_claims'::regclass OR i.inhparent = 'devices.envelope_claims'::regclass`,
  )
  t.deepEqual(rows, [{ relrowsecurity: true, relforcerowsecurity: true, owner: 'ltg_owner', relacl: null }])
})

test.serial('RP-2: a partition goes whole once no message can carry its nonces, and not before', async (t) => {
  const device = await db.device()
  const old = startOf(seconds()) - 5 * width
  const make = `SELECT devices.fn_claims_make_partition($1, $2)`
  await db.owner.query(make, [old, width])
  await leave(device.kid, old + 1)
  const kept = startOf(seconds() - keep)
  t.true((await partitions()).includes(kept))
  t.deepEqual(await maintain(), { made: 0, dropped: 1 })
  t.false((await partitions()).includes(old))
  t.true((await partitions()).includes(kept), 'the oldest whose nonces still count stays')
})

test.serial('RP-2: nonces claimed while a partition was missing stay spent when it is made', async (t) => {
  const device = await db.device()
  const now = seconds()
  await drop(startOf(now))
  const message = claimOf(device, { iat: now })
  t.deepEqual(await claimIngress(db.verifier, [message]), ['ok'])
  t.is(await partitionOf(message.nonce), 'devices.envelope_claims_default')
  t.deepEqual(await maintain(), { made: 1, dropped: 0 })
  t.is(await partitionOf(message.nonce), `devices.envelope_claims_${startOf(now)}`)
  t.deepEqual(await claimIngress(db.verifier, [{ ...message, seq: message.seq + 1 }]), ['nonce_replay'])
  t.deepEqual(await claimIngress(db.verifier, [message]), ['ok'], 'and a redelivery goes on')
})

test.serial(
  'times out of the window lie in the default partition, and leave it when their message is gone',
  async (t) => {
    const device = await db.device()
    const far = claimOf(device, { iat: seconds() + 10 ** 6 })
    const ancient = claimOf(device, { iat: 5 })
    t.deepEqual(await claimIngress(db.verifier, [far, ancient]), ['iat_window', 'iat_window'])
    for (const { nonce } of [far, ancient]) t.is(await partitionOf(nonce), 'devices.envelope_claims_default')
    t.deepEqual(await claimIngress(db.verifier, [far]), ['iat_window'], 'a redelivery has its verdict')

    const over = await leave(device.kid, seconds() + 10 ** 6, { verdict: 'iat_window', claimedAgo: keep + 5 })
    await maintain()
    t.is(await partitionOf(over), undefined)
    t.is(
      await partitionOf(ancient.nonce),
      'devices.envelope_claims_default',
      'its message can still be delivered again',
    )
    t.is(await partitionOf(far.nonce), 'devices.envelope_claims_default')
  },
)

test.serial(
  'an accepted claim in the default partition stays until its time is over, however long ago it was made',
  async (t) => {
    const device = await db.device()
    const now = seconds()
    await drop(startOf(now))
    const kept = await leave(device.kid, now, { claimedAgo: keep + 100 })
    await maintain()
    t.is(await partitionOf(kept), `devices.envelope_claims_${startOf(now)}`)
  },
)

test.serial('partitions are made and dropped under claims without a deadlock or a lost claim', async (t) => {
  const device = await db.device()
  let rounds = 0
  let stopped = false
  const claiming = Array.from({ length: 3 }, async () => {
    while (!stopped) {
      const verdicts = await claimIngress(
        db.verifier,
        Array.from({ length: 20 }, () => claimOf(device)),
      )
      t.true(verdicts.every((verdict) => verdict === 'ok'))
      rounds += 1
    }
  })
  for (let turn = 0; turn < 10; turn++) {
    const ahead = (await partitions()).at(-1) as number
    await drop(ahead)
    await db.owner.query('SELECT devices.fn_claims_make_partition($1, $2)', [startOf(seconds()) - 8 * width, width])
    const { made, dropped } = await maintain()
    t.deepEqual({ made, dropped }, { made: 1, dropped: 1 })
  }
  stopped = true
  await Promise.all(claiming)
  const { rows } = await db.owner.query('SELECT count(*)::int AS n FROM devices.envelope_claims WHERE kid = $1', [
    device.kid,
  ])
  t.is(rows[0].n, rounds * 20)
})

test.serial('a long reader makes maintenance give up in time; claims go on', async (t) => {
  const device = await db.device()
  const reader = await db.owner.connect()
  await reader.query('BEGIN')
  await reader.query('SELECT count(*) FROM devices.envelope_claims')
  t.deepEqual(await maintain(), { made: 0, dropped: 0 }, 'with nothing to do it takes no lock')
  await reader.query('COMMIT')

  await drop((await partitions()).at(-1) as number)
  await reader.query('BEGIN')
  await reader.query('SELECT count(*) FROM devices.envelope_claims')
  const failing = t.throwsAsync(maintain(), { code: '55P03' })
  const behind = claimIngress(db.verifier, [claimOf(device)])
  await failing
  t.deepEqual(await behind, ['ok'])
  await reader.query('COMMIT')
  reader.release()
  t.deepEqual(await maintain(), { made: 1, dropped: 0 })
})
