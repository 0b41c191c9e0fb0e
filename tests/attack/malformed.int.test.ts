import { readFileSync } from 'node:fs'
import { createPool } from '@lenserfight/db'
import { encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { openRawEdge, tapVerified } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { attackNames, attacks, goodText, seeded } from './_malformed.ts'

const seed = 20_261_121
const total = 10_000
/** Messages between two looks at how far the verifier is; below what the stream takes of one subject. */
const stride = 250
/** How much a verifier may be larger after the second half than after the first, which warmed it up. */
const growthBytes = 64 * 1024 * 1024

type Stack = Awaited<ReturnType<typeof testStack>>

const healthOf = async (stack: Stack): Promise<Record<string, unknown>> => {
  const { port } = JSON.parse(readFileSync(`${stack.dir}/health/verifier.json`, 'utf8')) as { port: number }
  return (await (await fetch(`http://127.0.0.1:${port}/readyz`)).json()) as Record<string, unknown>
}
const digestOf = (bytes: Uint8Array): string => encodeBase64Url(envelopeDigest(bytes))
const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

test('10,000 malformed messages leave the verifier up, its memory flat, and their neighbours verified', async (t) => {
  t.timeout(300_000)
  const stack = await testStack({
    callout: false,
    replicas: { 'broker-auth': 0, registrar: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 },
  })
  t.teardown(() => stack.stop())
  const owner = createPool({ ...stack.owner, max: 2, logger: createLogger({ service: 'verifier', level: 'silent' }) })
  t.teardown(() => owner.end())
  const edge = await openRawEdge(stack)
  t.teardown(edge.close)
  const tap = await tapVerified(stack)
  t.teardown(tap.close)

  const devices: Signatory[] = []
  for (let i = 0; i < 32; i++) {
    const { lenser } = await makeAccount(owner)
    devices.push(await makeDevice(owner, { lenser }))
  }
  const [worker] = stack.workers('verifier')
  const pid = worker?.pid as number
  const random = seeded(seed)
  const gatewayId = stack.descriptor.gateway_id
  const neighbours: string[] = []
  let published = 0
  const pairs: string[][] = []

  const publish = (device: Signatory, data: Uint8Array, kind = 'heartbeat'): void => {
    edge.publish(inSubject({ lenser: device.lenser, kid: device.kid, kind }), data)
    published += 1
  }
  const caughtUp = async (): Promise<void> => {
    await edge.flush()
    for (const end = Date.now() + 120_000; Date.now() < end; ) {
      if (Number((await healthOf(stack)).received) >= published) return
      await new Promise((done) => setTimeout(done, 20))
    }
    t.fail(`the verifier received ${(await healthOf(stack)).received} of ${published}`)
  }
  const attack = (turn: number): void => {
    const device = devices[turn % devices.length] as Signatory
    const attacker = { device, gatewayId }
    // Every eleventh attack is a good envelope whose nonce is spent by another one.
    if (turn % 11 === 10) {
      const nonce = encodeBase64Url(Buffer.from(Array.from({ length: 16 }, () => Math.floor(random() * 256))))
      // Batches overlap, so either may come first; one of them is verified.
      const two = [goodText(attacker, {}, nonce), goodText(attacker, { gateway_status: 'doubled' }, nonce)]
      for (const text of two) publish(device, Buffer.from(text))
      pairs.push(two.map((text) => digestOf(Buffer.from(text))))
      return
    }
    const name = attackNames[turn % attackNames.length] as (typeof attackNames)[number]
    const data = attacks[name](random, attacker)
    const kind = name === 'unknownKind' && random() < 0.5 ? JSON.parse(data.toString()).body.kind : 'heartbeat'
    publish(device, data, kind)
    if (turn % 20 === 0) {
      const good = Buffer.from(goodText(attacker))
      neighbours.push(digestOf(good))
      publish(device, good)
    }
  }

  const sizes: number[] = []
  for (let turn = 0; turn < total; turn++) {
    attack(turn)
    if (turn % stride === stride - 1) {
      await caughtUp()
      sizes.push(residentBytes(pid))
    }
  }
  await caughtUp()
  const expected = neighbours.length + pairs.length
  const verified = await tap.whenThere(expected)

  t.is(worker?.pid, pid)
  t.is(worker?.restarts, 0)
  t.is(verified.length, expected)
  const digests = new Set(verified.map(({ digest }) => digest))
  t.deepEqual(
    neighbours.filter((digest) => !digests.has(digest)),
    [],
  )
  t.true(pairs.every((two) => two.filter((digest) => digests.has(digest)).length === 1))
  const refusalsOf = ({ refused }: Record<string, unknown>): number =>
    Object.values(refused as Record<string, number>).reduce((sum, count) => sum + count, 0)
  // What is received is not yet refused.
  let health = await healthOf(stack)
  for (const end = Date.now() + 60_000; refusalsOf(health) + expected < published && Date.now() < end; ) {
    await new Promise((done) => setTimeout(done, 50))
    health = await healthOf(stack)
  }
  t.is(health.state, 'consuming')
  const refused = health.refused as Record<string, number>
  t.is(refusalsOf(health) + expected, published, 'every message was refused or verified')
  t.is(refused.nonce_replay, pairs.length)
  t.true((refused.unsupported_kind ?? 0) > 100)
  t.is((health.consumption as { dead: number }).dead, 0)
  t.is(edge.untrusted(), 0)

  const half = sizes.length >> 1
  const [first, second] = [Math.max(...sizes.slice(0, half)), Math.max(...sizes.slice(half))]
  t.log(`resident: ${first >> 20} MiB at most in the first half, ${second >> 20} MiB in the second`)
  t.log(refused)
  t.true(second - first < growthBytes, `grew by ${(second - first) >> 20} MiB`)
})
