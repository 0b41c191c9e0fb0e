import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateKeyPair } from '@lenserfight/envelope'
import type { Worker } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { codeOf, Edge, operation, type Reply, resultOf, type Signer } from './_edge.ts'

const setUp = async (t: ExecutionContext, registrars: number): Promise<{ stack: Stack; edge: Edge }> => {
  t.timeout(240_000)
  const replicas = { 'broker-auth': 0, 'trust-evaluator': 0, 'sync-applier': 0, registrar: registrars }
  const stack = await testStack({ callout: false, replicas })
  t.teardown(stack.stop)
  const edge = await Edge.connect(stack)
  t.teardown(() => edge.close())
  return { stack, edge }
}

const readiness = async (stack: Stack, name: string): Promise<{ status: number; state: string }> => {
  const { port } = JSON.parse(readFileSync(join(stack.dir, 'health', `${name}.json`), 'utf8')) as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/readyz`)
  return { status: response.status, state: ((await response.json()) as { state: string }).state }
}

const eventually = async (isSo: () => Promise<boolean>, timeoutMs = 60_000): Promise<boolean> => {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(50)) {
    if (await isSo().catch(() => false)) return true
  }
  return false
}

test('law 6: the database gone, it is not ready, says unavailable, and goes on by itself', async (t) => {
  const { stack, edge } = await setUp(t, 1)
  const session = await edge.session('patient')
  const device = await edge.register(session, 'patient device')
  const pid = stack.workers('registrar')[0]?.pid
  await stack.postgres.stop()
  t.true(await eventually(async () => (await readiness(stack, 'registrar')).status === 503))
  t.is((await readiness(stack, 'registrar')).state, 'holding')
  const refusal = await edge.ask(session, 'list')
  t.is(codeOf(refusal), 'unavailable')
  t.is(refusal?.retry_after, 2)
  // Its answer waits on the ingress stream, and has one result afterwards.
  const answered = edge.answerChallenge(device)
  await sleep(1000)
  await stack.postgres.restart()
  t.true(await eventually(async () => (await readiness(stack, 'registrar')).status === 200))
  t.is(codeOf(await answered), 'ok')
  t.is(codeOf(await edge.ask(session, 'approve', operation({ device_id: device.kid }))), 'ok')
  t.is(stack.workers('registrar')[0]?.pid, pid, 'the same process')
})

test('one that has just started takes no request before it knows whether the database answers', async (t) => {
  const { stack, edge } = await setUp(t, 1)
  const session = await edge.session('early')
  const registrar = stack.workers('registrar')[0] as Worker
  await registrar.stop()
  const health = join(stack.dir, 'health', 'registrar.json')
  // New connections wait, neither made nor refused.
  process.kill(stack.postgres.pid, 'SIGSTOP')
  const back = registrar.start()
  try {
    t.true(await eventually(async () => existsSync(health)))
    for (const end = Date.now() + 1500; Date.now() < end; ) {
      const reply = await edge.send(
        `ltg.v1.ask.${session.lenser}.${session.kid}.list`,
        edge.sign(session, 'list', {}),
        100,
      )
      t.is(codeOf(reply), 'nothing')
    }
  } finally {
    process.kill(stack.postgres.pid, 'SIGCONT')
  }
  await back
  t.is(codeOf(await edge.ask(session, 'list')), 'ok')
})

/** Asks until there is a final answer, as an edge does: signed anew each time. */
const askUntilDone = async (edge: Edge, session: Signer, body: object): Promise<Reply> => {
  for (;;) {
    const bytes = edge.sign(session, 'register', body)
    const reply = await edge.send(`ltg.v1.ask.${session.lenser}.${session.kid}.register`, bytes, 1000)
    if (reply !== undefined && !['unavailable', 'rate_limited'].includes(codeOf(reply))) return reply
  }
}

test('law 2: killed at any moment, every registration asked for has one result and one device', async (t) => {
  const { stack, edge } = await setUp(t, 2)
  const sessions = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => edge.session(name)))
  let over = false
  let kills = 0
  const killer = async (): Promise<void> => {
    // The other replica lives: what a killed one had in hand is asked of it.
    while (!over && kills < 8) {
      const worker = stack.workers('registrar')[kills % 2]
      await worker?.whenReady(30_000)
      await sleep(Math.random() * 100)
      worker?.send('SIGKILL')
      kills += 1
    }
  }
  const killing = killer()
  const bodies = sessions.flatMap((session) =>
    Array.from({ length: 15 }, (_, n) => ({ session, body: edge.registration(generateKeyPair().publicKey, `d${n}`) })),
  )
  // One after another for each account, so that there is always something under way while processes die.
  const inTurn = sessions.map(async (session) => {
    const done: [object, Reply][] = []
    for (const { body } of bodies.filter((one) => one.session === session)) {
      done.push([body, await askUntilDone(edge, session, body)])
      await sleep(50)
    }
    // Until there were kills enough: what was asked for last is asked for again, and has the result that it had.
    while (kills < 3) {
      const [body, reply] = done.at(-1) as [object, Reply]
      t.deepEqual(resultOf(await askUntilDone(edge, session, body)), resultOf(reply))
      await sleep(50)
    }
    return done
  })
  const told = new Map((await Promise.all(inTurn)).flat())
  const replies = bodies.map(({ body }) => told.get(body))
  over = true
  await killing
  t.true(kills > 2, `${kills} kills`)
  t.deepEqual(new Set(replies.map(codeOf)), new Set(['ok']))
  await stack.whenReady(30_000)
  for (const session of sessions) {
    const { devices } = resultOf(await edge.ask(session, 'list')) as { devices: { device_id: string }[] }
    const ids = bodies.flatMap((one, index) => (one.session === session ? [resultOf(replies[index]).device_id] : []))
    t.deepEqual(devices.map(({ device_id }) => device_id).sort(), ids.sort())
  }
})
