import { randomBytes } from 'node:crypto'
import { canonicalize, encodeBase64Url, generateKeyPair, newUuidV7, signingDigest, sodium } from '@lenserfight/envelope'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeSession, nextCounter, type Signatory, setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { digestOf, eventually, startWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await startWorld()
})
test.after.always(() => world?.close())

/** Publishes a message; the code of its receipt. */
const codeOf = async (subject: string, data: Uint8Array): Promise<string | undefined> => {
  world.edge.publish(subject, data)
  const { ok, code } = await world.edge.receiptOf(digestOf(data))
  return ok ? 'ok' : code
}
const now = () => Math.floor(Date.now() / 1000)

/** An envelope put together by hand, with its members changed before it is signed. */
const forge = (device: Signatory, members: object = {}, body: object = {}): Buffer => {
  const envelope = {
    alg: 'ed25519',
    body: {
      kind: 'heartbeat',
      aud: world.stack.descriptor.gateway_id,
      counter: nextCounter(),
      daemon_version: '1',
      gateway_status: 'x',
      ...body,
    },
    iat: now(),
    kid: device.kid,
    nonce: encodeBase64Url(randomBytes(16)),
    v: 1,
    ...members,
  }
  const signed = envelope.v === 1 && envelope.alg === 'ed25519'
  const digest = signed
    ? signingDigest(Buffer.from(canonicalize({ ...envelope, sig: 'A'.repeat(86) })))
    : randomBytes(32)
  const { secretKey } = sodium.expand(device.keys.privateKey)
  return Buffer.from(canonicalize({ ...envelope, sig: encodeBase64Url(sodium.sign(digest, secretKey)) }))
}

test('RP-1 RP-2 DH-1 DH-5: every code of the verifier is reached over the bus, in a receipt that the gateway signed', async (t) => {
  const device = await world.device()
  const other = await world.device()
  const subject = world.subject(device)
  const good = forge(device)
  const wrongKey = { ...device, keys: other.keys }
  const opId = newUuidV7()

  t.is(await codeOf(subject, randomBytes(300)), 'malformed_envelope')
  t.is(await codeOf(subject, Buffer.from('{"kind":"heartbeat"}')), 'malformed_envelope', 'DH-1: unsigned')
  t.is(await codeOf(subject, Buffer.concat([Buffer.from(' '), forge(device)])), 'not_canonical')
  t.is(await codeOf(subject, forge(device, { v: 2 })), 'unsupported_version')
  t.is(await codeOf(subject, forge(device, { alg: 'none' })), 'unsupported_algorithm')
  t.is(await codeOf(world.subject({ lenser: device.lenser, kid: other.kid }), forge(device)), 'kid_mismatch')
  t.is(await codeOf(subject, forge(device, {}, { kind: 'attestation' })), 'kind_mismatch')
  t.is(await codeOf(subject, forge(device, {}, { aud: other.kid })), 'audience_mismatch')
  const login = inSubject({ lenser: device.lenser, kid: device.kid, kind: 'login' })
  t.is(await codeOf(login, forge(device, {}, { kind: 'login' })), 'unsupported_kind')
  t.is(await codeOf(subject, forge(device, {}, { signed: true })), 'malformed_body')
  t.is(await codeOf(subject, forge(device, {}, { ['🧀'.repeat(200)]: 1 })), 'malformed_body', 'never put aside')
  const nobody = { ...device, kid: crypto.randomUUID() }
  t.is(await codeOf(world.subject(nobody), forge(nobody)), 'unknown_device')
  t.is(
    await codeOf(world.subject({ kid: device.kid, lenser: other.lenser }), forge(device)),
    'kid_mismatch',
    'of accounts',
  )
  t.is(await codeOf(subject, forge(wrongKey)), 'signature_mismatch')
  t.is(await codeOf(subject, forge(device, { iat: now() - 400 })), 'iat_window')
  t.is(await codeOf(subject, forge(device, { iat: now() + 400 })), 'iat_window')
  for (const state of ['pending', 'revoked', 'blocked'] as const) {
    const one = await world.device(state)
    t.is(await codeOf(world.subject(one), forge(one)), `device_${state}`)
  }
  const ill = await world.device('unhealthy')
  const runStart = { kind: 'run_start', op_id: opId, command_hash: encodeBase64Url(Buffer.alloc(32)), inputs: [] }
  const refused = world.sign(ill, runStart)
  t.is(await codeOf(world.subject(ill, 'run_start'), refused), 'device_unhealthy')
  t.is((await world.edge.receiptOf(digestOf(refused))).op_id, opId)

  world.edge.publish(subject, good)
  world.edge.publish(subject, good)
  t.is((await world.edge.receiptOf(digestOf(good))).code, 'nonce_replay')
  t.is(world.edge.receipts.get(digestOf(good))?.length, 1, 'the first is accepted, and its applier tells')
  const { nonce } = JSON.parse(good.toString())
  t.is(await codeOf(subject, forge(device, { nonce, iat: now() - 60 })), 'nonce_replay', 'under another iat')
  await eventually(t, async () => world.tap.items.some(({ digest }) => digest === digestOf(good)), 'the first of them')
  t.is(world.tap.items.filter(({ digest }) => digest === digestOf(good)).length, 1)
  t.is(world.edge.untrusted(), 0)
})

test('a session is nobody at this door', async (t) => {
  const { lenser } = await makeAccount(world.owner)
  const session = await makeSession(world.owner, lenser)
  t.is(await codeOf(world.subject(session), forge(session)), 'unknown_device')
})

test('what is verified is published as received, under its own kind, with its digest and store time', async (t) => {
  const device = await world.device()
  const before = Date.now()
  const data = world.sign(device)
  world.edge.publish(world.subject(device), data)
  const look = () => world.tap.items.find(({ digest }) => digest === digestOf(data))
  await eventually(t, async () => look() !== undefined, 'the verified envelope')
  const item = look()
  t.like(item, { lenser: device.lenser, kid: device.kid, text: Buffer.from(data).toString() })
  const stored = Number(BigInt(item?.stored ?? 0) / 1_000_000n)
  t.true(stored >= before - 1000 && stored <= Date.now() + 1000)
  t.true(world.tap.subjects.has('ltg.v1.ok.heartbeat'))
})

test('a message that the database chokes on is put aside with a receipt; its neighbours are verified', async (t) => {
  const device = await world.device()
  const poison = world.sign(device)
  const { nonce } = JSON.parse(Buffer.from(poison).toString())
  await world.owner.query(`
    CREATE FUNCTION public.fn_choke() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.nonce = '${nonce}' THEN RAISE EXCEPTION 'choked' USING ERRCODE = '22000'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER choke BEFORE INSERT ON devices.envelope_claims FOR EACH ROW EXECUTE FUNCTION public.fn_choke()`)
  const neighbours = Array.from({ length: 20 }, () => world.sign(device))
  const batch = [...neighbours.slice(0, 10), poison, ...neighbours.slice(10)]
  for (const data of batch) world.edge.publish(world.subject(device), data)
  const receipt = await world.edge.receiptOf(digestOf(poison))
  t.like(receipt, { ok: false, code: 'internal_error' })
  t.regex(receipt.incident_id ?? '', /^[0-9a-f-]{36}$/)
  const verified = () => new Set(world.tap.items.map(({ digest }) => digest))
  await eventually(t, async () => neighbours.every((data) => verified().has(digestOf(data))), 'the neighbours')
  t.false(verified().has(digestOf(poison)))
  await world.owner.query('DROP TRIGGER choke ON devices.envelope_claims; DROP FUNCTION public.fn_choke()')
})

test('law 7: after a revoke nothing of the device is verified, however full the stream', async (t) => {
  const device = await world.device()
  const subject = world.subject(device)
  const early = Array.from({ length: 100 }, () => world.sign(device))
  for (const data of early) world.edge.publish(subject, data)
  await setLevel(world.owner, device.kid, 'revoked')
  const late = Array.from({ length: 20 }, () => world.sign(device))
  for (const data of late) world.edge.publish(subject, data)
  const receipts = await Promise.all(late.map((data) => world.edge.receiptOf(digestOf(data))))
  t.true(receipts.every(({ code }) => code === 'device_revoked'))
  const { rows } = await world.owner.query(
    `SELECT count(*)::int AS n FROM devices.envelope_claims c JOIN devices.registered_devices d ON d.id = c.kid
      WHERE c.kid = $1 AND c.verdict = 'ok' AND c.claimed_at > d.revoked_at`,
    [device.kid],
  )
  // revoked_at is when the revoking transaction began: claims that it waited for may be later than that, but no more than those.
  t.true(rows[0].n <= early.length)
})

test('law 8: signature failures are counted where subject and envelope both name the device, and nowhere else', async (t) => {
  const [device, other] = [await world.device(), await world.device()]
  const failuresOf = async (kid: string): Promise<number> => {
    const { body } = await world.health()
    const { devices } = body.signature_failures as { devices: { kid: string; failures: number }[] }
    return devices.find((one) => one.kid === kid)?.failures ?? 0
  }
  t.is(await codeOf(world.subject(device), forge({ ...device, keys: other.keys })), 'signature_mismatch')
  t.is(await codeOf(world.subject(other), forge({ ...device, keys: other.keys })), 'kid_mismatch')
  t.is(await codeOf(world.subject(other), randomBytes(50)), 'malformed_envelope')
  await eventually(t, async () => (await failuresOf(device.kid)) === 1, 'one failure')
  t.is(await failuresOf(other.kid), 0)
})

test('a key that changed after it was cached is read anew before anything is refused', async (t) => {
  const device = await world.device()
  const subject = world.subject(device)
  const isVerified = async (data: Uint8Array) => world.tap.items.some(({ digest }) => digest === digestOf(data))
  const first = world.sign(device)
  world.edge.publish(subject, first)
  await eventually(t, () => isVerified(first), 'the first key')
  const fresh = { ...device, keys: generateKeyPair() }
  await world.owner.query(
    'UPDATE devices.registered_devices SET public_key = $2, key_number = key_number + 1 WHERE id = $1',
    [device.kid, Buffer.from(fresh.keys.publicKey)],
  )
  const [old, second] = [world.sign(device), world.sign(fresh)]
  t.is(await codeOf(subject, old), 'signature_mismatch')
  world.edge.publish(subject, second)
  await eventually(t, () => isVerified(second), 'the second key')
  t.false(await isVerified(old))
})
