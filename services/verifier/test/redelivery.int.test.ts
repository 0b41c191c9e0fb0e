import { consume } from '@lenserfight/bus'
import { createPool } from '@lenserfight/db'
import { createLogger, InfrastructureError } from '@lenserfight/runtime'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import test from 'ava'
import { createClaimStore } from '../src/commit.ts'
import { createSignaturePool } from '../src/signatures/pool.ts'
import { createSignerCache } from '../src/signer-cache.ts'
import { createStopwatch } from '../src/stopwatch.ts'
import { createBatchVerifier, noCounts } from '../src/verify-batch.ts'
import { digestOf, eventually, startWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await startWorld()
})
test.after.always(() => world?.close())

const logger = createLogger({ service: 'verifier', level: 'silent' })

/** A verifier with every real part but one: it claims, and is gone before it publishes or acknowledges. */
const verifyUntilClaimed = async (expected: number): Promise<void> => {
  const bus = await connectWorker(world.stack, 'verifier')
  const pool = createPool({ ...world.stack.roleOf('verifier'), max: 4, logger })
  const store = createClaimStore(pool)
  const signatures = await createSignaturePool({ threads: 0 })
  const claimed = Promise.withResolvers<void>()
  const gone = Promise.withResolvers<never>()
  gone.promise.catch(() => {})
  let count = 0
  const consumption = consume({
    ...{ bus, stream: 'LTG_INGRESS', consumer: 'verifier', logger },
    decode: (delivery) => [delivery],
    handle: createBatchVerifier({
      gatewayId: world.stack.descriptor.gateway_id,
      signers: createSignerCache(store.loadSigners, 100),
      signatures,
      claim: async (batch) => {
        const verdicts = await store.claim(batch)
        count += verdicts.length
        if (count >= expected) claimed.resolve()
        return verdicts
      },
      publish: () => gone.promise,
      tell: () => {},
      allowUnproven: () => false,
      failures: { count: () => {} },
      counts: noCounts(),
      stopwatch: createStopwatch(),
    }),
    batch: { maxMessages: 64, maxWaitMs: 5 },
    concurrency: 8,
  })
  await claimed.promise
  // As if it had been killed: no word to the broker.
  await bus.nc.close()
  gone.reject(new InfrastructureError('gone'))
  await consumption.stop()
  await signatures.close()
  await pool.end()
}

test.serial(
  'DH-5: what a dead verifier claimed is verified by the next; a redelivery is no replay, and none is lost',
  async (t) => {
    const [worker] = world.stack.workers('verifier')
    await worker?.stop()
    const device = await world.device()
    const sent = Array.from({ length: 150 }, () => world.sign(device))
    for (const data of sent) world.edge.publish(world.subject(device), data)
    await verifyUntilClaimed(sent.length)
    const replayed = sent[0] as Uint8Array
    world.edge.publish(world.subject(device), replayed)
    await worker?.start()

    const digests = () => world.tap.items.map(({ digest }) => digest)
    await eventually(t, async () => sent.every((data) => digests().includes(digestOf(data))), 'every message')
    t.is(
      (await world.edge.receiptOf(digestOf(replayed))).code,
      'nonce_replay',
      'the same bytes as a message of their own',
    )
    t.is(digests().length, sent.length)
    t.is(world.edge.receipts.size, 1)
  },
)

test.serial('without its database a verifier is not ready, holds what comes and goes on by itself', async (t) => {
  const device = await world.device()
  await world.stack.postgres.stop()
  await eventually(t, async () => (await world.health()).status === 503, 'not ready, though nothing came')
  const sent = Array.from({ length: 50 }, () => world.sign(device))
  for (const data of sent) world.edge.publish(world.subject(device), data)
  await new Promise((done) => setTimeout(done, 1000))
  t.is((await world.health()).body.state, 'holding')
  t.false(world.tap.items.some(({ kid }) => kid === device.kid))
  await world.stack.postgres.restart()
  const verified = () => world.tap.items.filter(({ kid }) => kid === device.kid).length
  await eventually(t, async () => verified() === sent.length, 'every message')
  await eventually(t, async () => (await world.health()).status === 200, 'ready again')
  t.false(
    sent.some((data) => world.edge.receipts.has(digestOf(data))),
    'nobody is told of what was not their doing',
  )
})

test.serial('a broker ahead in time is a broken clock: held, not ready, and nothing refused', async (t) => {
  const device = await world.device()
  // The database's clock cannot be set, so its tolerance is: as if the broker were 10 s ahead.
  await world.owner.query(`
    CREATE OR REPLACE FUNCTION devices.fn_limit(p_name text) RETURNS bigint LANGUAGE sql STABLE AS
      $$ SELECT CASE p_name WHEN 'storeLeadSeconds' THEN -10 ELSE (devices.fn_limits() ->> p_name)::bigint END $$`)
  const data = world.sign(device)
  world.edge.publish(world.subject(device), data)
  await eventually(t, async () => (await world.health()).body.state === 'holding', 'holding')
  t.is((await world.health()).status, 503)
  await world.owner.query(`
    CREATE OR REPLACE FUNCTION devices.fn_limit(p_name text) RETURNS bigint LANGUAGE sql STABLE AS
      $$ SELECT (devices.fn_limits() ->> p_name)::bigint $$`)
  await eventually(t, async () => world.tap.items.some(({ digest }) => digest === digestOf(data)), 'the message')
  t.false(world.edge.receipts.has(digestOf(data)))
  await eventually(t, async () => (await world.health()).status === 200, 'ready again')
})
