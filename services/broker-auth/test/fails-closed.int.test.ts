import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { asOwner, doorOnly, enter, refusalOf } from './_door.ts'

let stack: Stack
let device: Signatory

test.before(async () => {
  stack = await testStack({ replicas: doorOnly })
  device = await asOwner(stack, async (client) => makeDevice(client, { lenser: (await makeAccount(client)).lenser }))
})
test.after.always(() => stack?.stop())

const readiness = async (): Promise<{ status: number; state: string }> => {
  const file = join(stack.dir, 'health', 'broker-auth.json')
  const { port } = JSON.parse(readFileSync(file, 'utf8')) as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/readyz`)
  return { status: response.status, ...((await response.json()) as { state: string }) }
}
const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const end = Date.now() + 60_000
  while (!(await holds().catch(() => false))) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test.serial('without its database it admits nobody, says so, and goes on by itself', async (t) => {
  const inside = await enter(t, stack, device)
  await stack.postgres.stop()
  // The broker ends a wait for the answer after 5 s. A busy machine may hold up any one, but hardly each of five.
  let tookMs = Number.POSITIVE_INFINITY
  for (let tries = 0; tookMs >= 4500 && tries < 5; tries += 1) {
    const began = Date.now()
    t.is(await refusalOf(t, stack, device), 'connection_refused')
    tookMs = Date.now() - began
  }
  t.true(tookMs < 4500, 'refused, not left waiting')
  await until('it holds', async () => (await readiness()).state === 'holding')
  t.is((await readiness()).status, 503)
  t.is(await refusalOf(t, stack, device), 'connection_refused')
  t.true(inside.isConnected(), 'who is in stays in')
  await stack.postgres.restart()
  await until('it is ready', async () => (await readiness()).status === 200)
  t.is(await refusalOf(t, stack, device), undefined)
})

test.serial('while nobody judges, nobody gets in', async (t) => {
  const [worker] = stack.workers('broker-auth')
  worker?.send('SIGSTOP')
  t.is(await refusalOf(t, stack, device), 'connection_refused')
  worker?.send('SIGCONT')
  await until('it judges again', async () => (await refusalOf(t, stack, device)) === undefined)
})

test.serial('a judge killed in the midst comes back by itself', async (t) => {
  const [worker] = stack.workers('broker-auth')
  worker?.send('SIGKILL')
  await until('it judges again', async () => (await refusalOf(t, stack, device)) === undefined)
  await until('it says so', async () => (await readiness()).status === 200)
  t.pass()
})
