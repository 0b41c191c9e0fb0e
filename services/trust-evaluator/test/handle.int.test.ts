import type { AddressedReceipt } from '@lenserfight/bus'
import { createPool } from '@lenserfight/db'
import { encodeBase64Url, envelopeDigest, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { createLogger, InfrastructureError } from '@lenserfight/runtime'
import { CodedError, checkBody } from '@lenserfight/schemas'
import test from 'ava'
import { createStore } from '../src/commit.ts'
import type { AppliedKind, Item } from '../src/decode.ts'
import { createHandler } from '../src/handle.ts'
import {
  addSetting,
  attestation,
  heartbeat,
  lifecycle,
  ranAt,
  runRenew,
  runStart,
  startRun,
  toolInvocation,
} from './_bodies.ts'
import { createWorld, type Device, gatewayId, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const itemOf = (kind: AppliedKind, device: Device, text: string): Item => ({
  kind,
  lenser: device.lenser,
  kid: device.id,
  digest: encodeBase64Url(envelopeDigest(Buffer.from(text))),
  stored: String(BigInt(Date.now()) * 1_000_000n),
  text,
})
/** The service's pipeline over the real database, and what it says and logs. */
const createRig = () => {
  const receipts: AddressedReceipt[] = []
  const lines: Record<string, unknown>[] = []
  const logger = createLogger({
    service: 'trust-evaluator',
    level: 'info',
    destination: { write: (line: string) => lines.push(JSON.parse(line)) },
  })
  const handler = createHandler({
    gatewayId,
    store: createStore(world.evaluator),
    sendReceipts: (more) => receipts.push(...more),
    logger,
  })
  return { ...handler, receipts, lines }
}

test('a batch of several kinds: each envelope has its receipt, in the form of the contract', async (t) => {
  const { handle, receipts } = createRig()
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const items = [
    itemOf('attestation', setting.device, await world.seal(setting.device, attestation(permit))),
    itemOf('run_start', setting.device, await world.seal(setting.device, runStart({ runner_id: newUuidV7() }))),
    itemOf('heartbeat', setting.device, await world.seal(setting.device, heartbeat())),
    itemOf('heartbeat', setting.device, await world.seal(setting.device, heartbeat(), { verdict: 'none' })),
  ]
  t.is((await handle(items)).length, 4)
  const byDigest = new Map(receipts.map((receipt) => [receipt.item.digest, receipt]))
  const codes = items.map(({ digest }) => byDigest.get(digest)?.item.code)
  t.deepEqual(codes, [undefined, 'unknown_runner', undefined, 'claim_expired'])
  t.is(byDigest.get(items[0]?.digest ?? '')?.item.result?.level, 'fully_trusted')
  for (const { lenser, kid } of receipts) t.deepEqual([lenser, kid], [setting.lenser, setting.device.id])
  const body = {
    kind: 'receipt',
    aud: gatewayId,
    to: setting.device.id,
    time: 0,
    items: receipts.map(({ item }) => item),
  }
  t.is(checkBody('receipt', body), null)
  t.true(receipts.every(({ item }) => item.ok || item.code !== 'unknown_runner' || item.op_id !== undefined))
})

test('renewals and tool logs that come with their run’s attestation are applied before it, each with its receipt', async (t) => {
  const { handle, receipts } = createRig()
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const { device } = setting
  // In the broker's order; what comes in one batch is applied by kind.
  const logging = itemOf('tool_invocation', device, await world.seal(device, toolInvocation(permit.run_id, 1)))
  const renewal = itemOf('run_renew', device, await world.seal(device, runRenew([permit.run_id, newUuidV7()])))
  const body = attestation(permit, { ...ranAt(Date.now()), tool_invocations: 1 })
  const items = [itemOf('attestation', device, await world.seal(device, body)), logging, renewal]
  await handle(items)
  await handle(items.slice(1))
  const [attested, logged, renewed] = items.map(({ digest }) => receipts.filter(({ item }) => item.digest === digest))
  t.like(attested?.[0]?.item.result, { level: 'fully_trusted', reason: null })
  t.deepEqual(logged?.[0]?.item.result, { run_id: permit.run_id, seq: 1, verdict: 'allow', denied_by: null })
  const runs = renewed?.[0]?.item.result?.runs as Record<string, unknown>[]
  t.like(runs[0], { run_id: permit.run_id, verdict: 'allow' })
  t.like(runs[1], { code: 'unknown_run' })
  // The run is over since: what comes again has the result that it had all the same.
  t.deepEqual(logged?.[1], logged?.[0])
  t.deepEqual(renewed?.[1], renewed?.[0])
  const told = { kind: 'receipt', aud: gatewayId, to: device.id, time: 0, items: receipts.map(({ item }) => item) }
  t.is(checkBody('receipt', told), null)
})

test('EA-2: an envelope whose signature is forged stores nothing though a claim for it exists, and raises an alarm', async (t) => {
  const { handle, receipts, lines, figures } = createRig()
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const forger: Device = { ...setting.device, keys: generateKeyPair() }
  const body = attestation(permit)
  const forged = itemOf('attestation', setting.device, await world.seal(forger, body))
  await handle([forged, itemOf('heartbeat', setting.device, await world.seal(setting.device, heartbeat()))])
  t.is(
    (await world.owner.query('SELECT FROM execution.attestations WHERE run_id = $1', [permit.run_id])).rows.length,
    0,
  )
  t.deepEqual(receipts[0]?.item, { digest: forged.digest, ok: false, code: 'signature_mismatch', op_id: body.op_id })
  t.true(receipts[1]?.item.ok, 'its neighbour is applied')
  t.deepEqual(figures(), { applied: 1, disagreements: 1 })
  const [alarm] = lines
  t.like(alarm, { level: 'error', event: 'verifier_disagrees', code: 'signature_mismatch', kind: 'attestation' })
  t.is(String(alarm?.digest).length, 8)
})

test('law 2: a batch that comes again after the process died gives the same results', async (t) => {
  const { handle, receipts } = createRig()
  const setting = await addSetting(world)
  const items = [
    itemOf('run_start', setting.device, await world.seal(setting.device, runStart())),
    itemOf('heartbeat', setting.device, await world.seal(setting.device, heartbeat())),
  ]
  await handle(items)
  await handle(items)
  t.deepEqual(receipts.slice(2), receipts.slice(0, 2))
})

test('a large batch is applied in parts, in order', async (t) => {
  const { handle, receipts } = createRig()
  const { device } = await addSetting(world)
  const texts = await Promise.all(Array.from({ length: 600 }, () => world.seal(device, heartbeat())))
  const items = texts.map((text) => itemOf('heartbeat', device, text))
  await handle(items)
  t.deepEqual(
    receipts.map(({ item }) => [item.digest, item.ok]),
    items.map(({ digest }) => [digest, true]),
  )
})

test('law 2: a forged batch that names an envelope of a device ends nothing of that device’s', async (t) => {
  const { handle, deadLetter, receipts } = createRig()
  const { device } = await addSetting(world)
  const genuine = itemOf('run_start', device, await world.seal(device, runStart()))
  // Whoever writes into the verified stream, a hostile broker even, chooses all of a line.
  const forged = ['{}', '{"a":1}', `${genuine.text} `].map((text) => ({ ...genuine, text }))
  await handle(forged)
  const delivery = { subject: '', data: new Uint8Array(), stream: '', seq: 1, stored: '1', deliveries: 1 }
  deadLetter({ ...genuine, text: '{}' }, { incidentId: newUuidV7(), cause: undefined, delivery })
  t.is(receipts.length, 4)
  t.deepEqual(
    receipts.filter(({ item }) => item.digest === genuine.digest),
    [],
  )
  await handle([genuine])
  t.true(receipts.at(-1)?.item.ok)
})

test('what is put aside is told its sender, with the incident', (t) => {
  const { deadLetter, receipts } = createRig()
  const device: Device = { id: newUuidV7(), lenser: newUuidV7(), keys: generateKeyPair() }
  const delivery = { subject: '', data: new Uint8Array(), stream: '', seq: 1, stored: '1', deliveries: 1 }
  deadLetter(itemOf('heartbeat', device, 'no envelope'), {
    incidentId: device.id,
    cause: new CodedError('internal_error'),
    delivery,
  })
  deadLetter(undefined, { incidentId: device.id, cause: undefined, delivery })
  t.is(receipts.length, 1)
  t.like(receipts[0], { kid: device.id, item: { ok: false, code: 'internal_error', incident_id: device.id } })
})

test('without a database the batch is held: InfrastructureError, and nothing is said', async (t) => {
  const { owner } = world.database
  const pool = world.connect({ ...owner, host: '/nonexistent' })
  const said: unknown[] = []
  const logger = createLogger({ service: 'trust-evaluator', level: 'silent' })
  const { handle } = createHandler({
    gatewayId,
    store: createStore(pool),
    sendReceipts: (more) => said.push(more),
    logger,
  })
  const device: Device = { id: newUuidV7(), lenser: newUuidV7(), keys: generateKeyPair() }
  await t.throwsAsync(handle([itemOf('heartbeat', device, '{}')]), { instanceOf: InfrastructureError })
  t.deepEqual(said, [])
  await pool.end()
})

test('renewals and starts are applied a few at a time, whatever a batch holds', async (t) => {
  const { device } = await addSetting(world)
  const calls: [AppliedKind, number][] = []
  const store = createStore(world.evaluator)
  const { handle } = createHandler({
    gatewayId,
    store: {
      ...store,
      apply: (kind, items) => {
        calls.push([kind, items.length])
        return store.apply(kind, items)
      },
    },
    sendReceipts: () => {},
    logger: createLogger({ service: 'trust-evaluator', level: 'silent' }),
  })
  const seal = (body: Parameters<typeof world.seal>[1]) => world.seal(device, body, { verdict: 'none' })
  const items = await Promise.all([
    ...Array.from({ length: 150 }, async () => itemOf('run_start', device, await seal(runStart()))),
    ...Array.from({ length: 100 }, async () => itemOf('run_renew', device, await seal(runRenew([newUuidV7()])))),
    ...Array.from({ length: 150 }, async () => itemOf('heartbeat', device, await seal(heartbeat()))),
  ])
  await handle(items)
  t.deepEqual(calls, [
    ['heartbeat', 150],
    ['run_start', 128],
    ['run_start', 22],
    ['run_renew', 64],
    ['run_renew', 36],
  ])
})

test('what takes the database too long is applied in halves; what is too long by itself is tried further', async (t) => {
  const slow = await createWorld()
  const sleeping = (seconds: number) =>
    slow.owner.query(
      `CREATE OR REPLACE FUNCTION public.fn_sleep() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(${seconds}); RETURN NEW; END'`,
    )
  await sleeping(0.1)
  await slow.owner.query(
    'CREATE TRIGGER slow BEFORE INSERT ON devices.operations FOR EACH ROW EXECUTE FUNCTION public.fn_sleep()',
  )
  const logger = createLogger({ service: 'trust-evaluator', level: 'silent' })
  const pool = createPool({
    ...{ ...slow.database.as('ltg_trust_evaluator'), max: 1, logger },
    statementTimeoutMs: 1000,
  })
  const device = await slow.addDevice(await slow.addLenser())
  const seal = async () => itemOf('lifecycle', device, await slow.seal(device, lifecycle()))
  const items = await Promise.all(Array.from({ length: 20 }, seal))
  const receipts = await createStore(pool).apply('lifecycle', items)
  t.deepEqual(
    receipts.map(({ ok, digest }) => [ok, digest]),
    items.map(({ digest }) => [true, digest]),
  )
  await sleeping(2)
  const tooLong = [await seal(), await seal()]
  await t.throwsAsync(createStore(pool).apply('lifecycle', tooLong), { instanceOf: InfrastructureError })
  await pool.end()
  await slow.close()
})
