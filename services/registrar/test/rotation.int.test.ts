import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressedReceipt } from '@lenserfight/bus'
import { encodeBase64Url, encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { createVerifiedHandler } from '../src/verified/handle.ts'
import { codeOf, type Device, gatewayId, newKey, type Session, type Signed, sign, useWorld } from './_world.ts'

const world = useWorld(test)
const second = 1_000_000_000n
const now = (): bigint => BigInt(Date.now()) * 1_000_000n

/** The registrar's pipeline over the real database. */
const rig = () => {
  const receipts: AddressedReceipt[] = []
  const lines: Record<string, unknown>[] = []
  const logger = createLogger({
    service: 'registrar',
    level: 'info',
    destination: { write: (line: string) => lines.push(JSON.parse(line)) },
  })
  const { handle } = createVerifiedHandler({
    ...{ gatewayId, store: world().store, logger },
    sendReceipts: (more) => receipts.push(...more),
  })
  return { handle, receipts, lines }
}

const itemOf = (lenser: string, { signer, digest, text }: Signed, stored = now()) => ({
  ...{ kind: 'rotate' as const, lenser, kid: signer.kid, text },
  ...{ digest: encodeBase64Url(digest), stored: stored.toString() },
})

/** Through the claim and the registrar: what came of each body, signed by that key. */
const rotate = async (session: Session, signer: Device, body: object, stored = now()) => {
  const { handle, receipts } = rig()
  const signed = sign(signer, 'rotate', body)
  const verdict = await world().claimIngress(signed, stored)
  if (verdict !== 'ok') return { ok: false, code: verdict }
  await handle([itemOf(session.lenser, signed, stored)])
  return receipts[0]?.item as { ok: boolean; code?: string; result?: Record<string, unknown> }
}

/** Claims as a verifier that checked with the device's key on record, whoever signed. */
const claimAs = async (
  device: Device,
  { iat, nonce, digest, text }: Signed,
  stored: bigint,
  seq: number,
): Promise<string> => {
  const { kind } = (JSON.parse(text) as { body: { kind: string } }).body
  const { rows } = await world().verifier.query(
    'SELECT devices.fn_claim_ingress($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) AS verdicts',
    [
      [device.kid],
      [Buffer.from(device.publicKey).toString('hex')],
      'LTG_INGRESS',
      ...[[device.kid], [nonce], [iat], [kind], [Buffer.from(digest).toString('hex')], [seq], [stored.toString()]],
    ],
  )
  return (rows[0] as { verdicts: string[] }).verdicts[0] as string
}

/** Until when a device's key was good, nanoseconds. */
const endOf = async (device: Device, number: number): Promise<bigint> => {
  const [row] = await world().query<{ ns: string }>(
    'SELECT (extract(epoch FROM until) * 1000000000)::bigint AS ns FROM devices.device_keys WHERE device_id = $1 AND number = $2',
    [device.kid, number],
  )
  return BigInt(row?.ns ?? 0)
}

const setUp = async () => {
  const session = await world().newSession()
  return { session, device: await world().newDevice(session) }
}
/** The device with another of its keys. */
const under = (device: Device, { key, publicKey }: { key: Uint8Array; publicKey: Uint8Array }): Device => ({
  ...device,
  key,
  publicKey,
})
const beat = (device: Device) => sign(device, 'heartbeat', { daemon_version: '0.1.0', gateway_status: 'x' })

test('a rotation replaces the key, counts it, gives it its end, and keeps the one before', async (t) => {
  const { session, device } = await setUp()
  const to = newKey()
  const { ok, result } = await rotate(session, device, world().rotation(device, to))
  t.true(ok)
  t.like(result, { device_id: device.kid, key_number: 2, public_key: encodeKey(to.publicKey) })
  const inDays = ((result?.key_expires_at as number) - Date.now() / 1000) / 86_400
  t.true(Math.abs(inDays - limits.keyMaxAgeDays) < 0.01)
  const [first, next] = await world().keysOf(device)
  t.like(first, { number: 1, how: 'registered', public_key: Buffer.from(device.publicKey) })
  t.like(next, { number: 2, how: 'rotated', public_key: Buffer.from(to.publicKey), until: null })
  const overlap = Number(first?.until) - Number(next?.since)
  t.true(Math.abs(overlap - limits.keyOverlapSeconds * 1000) < 1000)
  t.is(await world().claimIngress(beat(under(device, to))), 'ok')
})

test('the record of a rotation names key number and fingerprints, old and new', async (t) => {
  const { session, device } = await setUp()
  const body = world().rotation(device, newKey())
  const { result } = await rotate(session, device, body)
  const [record] = await world().query<{ payload: { result: Record<string, unknown> } }>(
    "SELECT payload FROM audit.pending WHERE device_id = $1 AND event_kind = 'rotate'",
    [device.kid],
  )
  t.deepEqual(record?.payload.result, result)
  t.deepEqual(Object.keys(result ?? {}).toSorted(), [
    ...['device_id', 'fingerprint', 'former_fingerprint', 'key_expires_at', 'key_number', 'public_key'],
  ])
  t.not(result?.fingerprint, result?.former_fingerprint)
})

test('proof_mismatch: a proof that is forged, or for another operation, device, gateway or key, rotates nothing', async (t) => {
  const { session, device } = await setUp()
  const other = await world().newDevice(session)
  const [to, op_id] = [newKey(), newUuidV7()]
  const cases = {
    forged: { ...world().rotation(device, to), proof: world().rotation(device, newKey()).proof },
    'another operation': world().rotation(device, to, { op_id }),
    'another device': world().rotation(device, to, { device_id: other.kid }),
    'names another device': world().rotation({ ...device, kid: other.kid }, to),
    'another gateway': world().rotation(device, to, { aud: other.kid }),
    'over another key': world().rotation(device, to, { old_public_key: encodeKey(other.publicKey) }),
    'over no key': world().rotation(device, to, { old_public_key: null }),
    'of a reproof': world().rotation(device, to, { kind: 'reprove' }),
  }
  for (const [name, body] of Object.entries(cases))
    t.is((await rotate(session, device, body)).code, 'proof_mismatch', name)
  t.is((await world().keysOf(device)).length, 1)
  t.is((await rotate(session, device, world().rotation(device, to))).ok, true, 'and the right one does')
})

test('key_reused: a key comes back neither to its device nor to another, of whatever account', async (t) => {
  const { session, device } = await setUp()
  const to = newKey()
  t.true((await rotate(session, device, world().rotation(device, to))).ok)
  const rotated = under(device, to)
  t.is((await rotate(session, rotated, world().rotation(rotated, device))).code, 'key_reused')
  const { session: theirs, device: another } = await setUp()
  t.is((await rotate(theirs, another, world().rotation(another, device))).code, 'key_reused')
  t.is((await rotate(theirs, another, world().rotation(another, to))).code, 'key_reused')
  t.is((await rotate(theirs, another, world().rotation(another, another))).code, 'key_reused', 'its own')
  // Registering costs nothing and proves nothing; approval is where a key becomes a device's.
  const squatter = { ...(await world().register(theirs, { public_key: encodeKey(to.publicKey) })), ...to }
  const body = {
    ...squatter,
    kid: (
      await world().query<{ id: string }>(
        "SELECT id FROM devices.registered_devices WHERE lenser_id = $1 AND trust_level = 'pending'",
        [theirs.lenser],
      )
    )[0]?.id as string,
  }
  t.is(codeOf(await world().answerChallenge(body)), 'ok')
  t.is(codeOf(await world().approve(theirs, body)), 'key_reused')
})

test('what the former key signed counts by the time at which the broker stored it, however late it is verified', async (t) => {
  const { session, device } = await setUp()
  const to = newKey()
  t.true((await rotate(session, device, world().rotation(device, to))).ok)
  const until = await endOf(device, 1)
  await world().query(
    `UPDATE devices.registered_devices SET former_key_until = former_key_until - interval '5 minutes' WHERE id = $1`,
    [device.kid],
  )
  const dead = until - 300n * second
  t.is(await world().claimIngress(beat(device), dead), 'ok')
  const late = beat(device)
  t.is(await world().claimIngress(late, dead + 1000n), 'signature_mismatch')
  t.is(await world().claimIngress(late, dead + 1000n), 'signature_mismatch', 'and every time it comes')
  t.deepEqual(
    await world().query('SELECT key_number, verdict FROM devices.envelope_claims WHERE kid = $1 AND kind = $2', [
      ...[device.kid, 'heartbeat'],
    ]),
    [{ key_number: 1, verdict: 'ok' }],
    'a dead key spends no nonce',
  )
  const fresh = beat(under(device, to))
  t.is(await world().claimIngress(fresh, dead + 1000n), 'ok')
})

test('a redelivery of what was claimed under the former key keeps its verdict after that key is dead', async (t) => {
  const { session, device } = await setUp()
  const stored = now()
  const before = beat(device)
  const claim = () => claimAs(device, before, stored, 77)
  t.is(await claim(), 'ok')
  t.true((await rotate(session, device, world().rotation(device, newKey()))).ok)
  await world().query(
    `UPDATE devices.registered_devices SET former_key_until = now() - interval '1 hour' WHERE id = $1`,
    [device.kid],
  )
  t.is(await claim(), 'ok')
})

test('law 7: under claims without pause, nothing that the former key signs is claimed once the overlap is over', async (t) => {
  const { session, device } = await setUp()
  let over: bigint | undefined
  const verdicts: { verdict: string; stored: bigint }[] = []
  const claimer = async (): Promise<void> => {
    for (let i = 0; i < 40; i++) {
      // Some are stored ahead of the database's clock, as far as a claim lets them.
      const stored = now() + BigInt(i % 4) * second
      verdicts.push({ verdict: await world().claimIngress(beat(device), stored), stored })
    }
  }
  const rotator = async (): Promise<void> => {
    await sleep(30)
    // Its end comes within the second: the overlap is never longer than what the key had left.
    await world().query(
      "UPDATE devices.registered_devices SET key_expires_at = now() + interval '1 second' WHERE id = $1",
      [device.kid],
    )
    t.true((await rotate(session, device, world().rotation(device, newKey()))).ok)
    over = await endOf(device, 1)
  }
  await Promise.all([claimer(), claimer(), claimer(), rotator()])
  await claimer()
  t.true(verdicts.some(({ verdict }) => verdict === 'ok'))
  t.true(verdicts.some(({ verdict }) => verdict === 'signature_mismatch'))
  t.deepEqual(
    verdicts.filter(({ verdict, stored }) => verdict === 'signature_mismatch' && stored <= (over as bigint)),
    [],
  )
  const rows = await world().query<{ late: number }>(
    "SELECT count(*)::int AS late FROM devices.envelope_claims WHERE kid = $1 AND key_number = 1 AND verdict = 'ok' AND stored_ns > $2 AND claimed_at > (SELECT since FROM devices.device_keys WHERE device_id = $1 AND number = 2)",
    [device.kid, String(over)],
  )
  t.is(rows[0]?.late, 0)
})

test('law 7: a rotation waits for a claim in flight', async (t) => {
  const { session, device } = await setUp()
  const claim = await world().owner.connect()
  await claim.query('BEGIN')
  await claim.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
  let returned = false
  const rotation = rotate(session, device, world().rotation(device, newKey())).finally(() => {
    returned = true
  })
  await sleep(500)
  t.false(returned)
  await claim.query('COMMIT')
  claim.release()
  t.true((await rotation).ok)
})

test('two rotations at once: one wins, the other is told so, and the winner’s key works', async (t) => {
  for (let round = 0; round < 5; round++) {
    const { session, device } = await setUp()
    const keys = [newKey(), newKey()] as const
    const outcomes = await Promise.all(keys.map((to) => rotate(session, device, world().rotation(device, to))))
    t.deepEqual(outcomes.map(({ ok }) => ok).toSorted(), [false, true])
    t.is(outcomes.find(({ ok }) => !ok)?.code, 'proof_mismatch')
    const winner = keys[outcomes.findIndex(({ ok }) => ok)] as (typeof keys)[0]
    t.is(await world().claimIngress(beat(under(device, winner))), 'ok')
    t.is((await world().keysOf(device)).length, 2)
  }
})

test('law 2: the edge that crashed after the commit sends the same operation signed by the new key, and has its result', async (t) => {
  const { session, device } = await setUp()
  const to = newKey()
  const body = world().rotation(device, to)
  const first = await rotate(session, device, body)
  t.true(first.ok)
  const again = await rotate(session, under(device, to), body)
  t.deepEqual(again.result, first.result)
  t.deepEqual((await rotate(session, device, body)).result, first.result, 'and by the old one, within the overlap')
  t.is((await world().keysOf(device)).length, 2)
  const [records] = await world().query<{ n: number }>(
    "SELECT count(*)::int AS n FROM audit.pending WHERE device_id = $1 AND event_kind = 'rotate'",
    [device.kid],
  )
  t.is(records?.n, 1)
})

test('law 2: a rotation that is delivered again after the process died has one effect', async (t) => {
  const { session, device } = await setUp()
  const signed = sign(device, 'rotate', world().rotation(device, newKey()))
  t.is(await world().claimIngress(signed), 'ok')
  const { handle, receipts } = rig()
  const item = itemOf(session.lenser, signed)
  await Promise.all([handle([item]), handle([item]), handle([item, item])])
  await world().query(
    "UPDATE devices.registered_devices SET former_key_until = now() - interval '1 second' WHERE id = $1",
    [device.kid],
  )
  await handle([item])
  t.is(receipts.length, 5)
  t.is(new Set(receipts.map(({ item: { ok, result } }) => JSON.stringify([ok, result]))).size, 1)
  t.true(receipts[0]?.item.ok)
  t.is((await world().keysOf(device)).length, 2)
})

test('a key that was replaced between the registrar’s check and its commit is judged anew', async (t) => {
  const { session, device } = await setUp()
  const [to, other] = [newKey(), newKey()]
  const signed = sign(device, 'rotate', world().rotation(device, to))
  t.is(await world().claimIngress(signed), 'ok')
  // What the registrar found before another rotation took the key away.
  const found = encodeKey(device.publicKey)
  t.true((await rotate(session, device, world().rotation(device, other))).ok)
  t.deepEqual(await world().store.rotate([signed.text], [found]), [undefined])
  t.is((await world().keysOf(device)).length, 2)
  t.is((await rotate(session, device, JSON.parse(signed.text).body)).code, 'proof_mismatch')
})

test('law 5: a verifier that lets through what the key in force did not sign makes no rotation happen', async (t) => {
  const { session, device } = await setUp()
  const [thief, to] = [newKey(device.kid), newKey()]
  const forged = sign(thief, 'rotate', world().rotation(device, to))
  // All that the verifier's role can do: claim it as if the device's key had been checked, and publish it.
  t.is(await claimAs(device, forged, now(), 1), 'ok')
  const { handle, receipts, lines } = rig()
  await handle([itemOf(session.lenser, { ...forged, signer: device })])
  t.like(receipts[0]?.item, { ok: false, code: 'signature_mismatch' })
  t.like(lines[0], { event: 'verifier_disagrees', kind: 'rotate' })
  t.is((await world().keysOf(device)).length, 1)
  await t.throwsAsync(
    world().verifier.query('SELECT * FROM devices.fn_device_rotate($1, $2)', [
      [forged.text],
      [encodeKey(device.publicKey)],
    ]),
    { message: /permission denied/ },
  )
})

test('a race that a sender loses is no blame of the verifier’s', async (t) => {
  const { session, device } = await setUp()
  const signed = sign(device, 'rotate', world().rotation(device, newKey()))
  t.is(await world().claimIngress(signed), 'ok')
  t.is(codeOf(await world().ask(session, 'reprove', world().reproof(device, newKey()))), 'ok')
  const { handle, receipts, lines } = rig()
  await handle([itemOf(session.lenser, signed)])
  t.like(receipts[0]?.item, { ok: false, code: 'signature_mismatch' })
  t.deepEqual(lines, [])
})

test('which devices may rotate: the living, an unhealthy one too, but not where two hold the key', async (t) => {
  for (const [level, reason, expected] of [
    ['unhealthy', 'suspended by its owner', 'ok'],
    ['unhealthy', 'identity_forked', 'identity_forked'],
    ['revoked', 'x', 'device_revoked'],
    ['blocked', 'x', 'device_blocked'],
  ] as const) {
    const { session, device } = await setUp()
    const signed = sign(device, 'rotate', world().rotation(device, newKey()))
    t.is(await world().claimIngress(signed), 'ok')
    await world().query(
      `UPDATE devices.registered_devices SET trust_level = $2, trust_reason = $3,
              trust_actor = CASE $2 WHEN 'blocked' THEN 'platform' WHEN 'unhealthy' THEN 'server' ELSE 'owner' END WHERE id = $1`,
      [device.kid, level, reason],
    )
    const { handle, receipts } = rig()
    await handle([itemOf(session.lenser, signed)])
    const { item } = receipts[0] as AddressedReceipt
    t.is(item.ok ? 'ok' : item.code, expected, `${level}: ${reason}`)
  }
})
