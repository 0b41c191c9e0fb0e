import { readFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import { connectEdge } from '@lenserfight/bus'
import {
  canonicalize,
  encodeBase64Url,
  envelopeDigest,
  generateKeyPair,
  newUuidV7,
  signEnvelope,
} from '@lenserfight/envelope'
import { type PgClient, type Worker, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { encodeVerifiedLine, okSubject, type SyncEntry } from '@lenserfight/schemas'
import { actorOf, apply, digestOf, edit, emptyState, entryOf, join, linkOf, type ObjectState } from '@lenserfight/sync'
import { makeAccount, makeDevice, nextCounter, type Signatory } from '@lenserfight/testkit'
import { connectClient, type DeviceClient, type ResendTiming, speakOver } from '@lenserfight/testkit/device'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { 'sync-applier': 2, 'trust-evaluator': 0, registrar: 0 } })
})
test.after.always(() => stack?.stop())

const inDatabase = <T>(use: (db: PgClient) => Promise<T>): Promise<T> => withClient(stack.owner, use)
const className = 'agent_config'

/** A device that edits as its outbox would, and its connection. */
interface Machine {
  readonly device: Signatory
  readonly client: DeviceClient
  readonly set: (object: string, name: string) => SyncEntry
  readonly state: (object: string) => ObjectState
}
const connectMachine = async (of?: string, resend?: ResendTiming): Promise<Machine> => {
  const device = await inDatabase(async (db) => makeDevice(db, { lenser: of ?? (await makeAccount(db)).lenser }))
  const { descriptor, gatewayKeys } = stack
  const client = await connectClient({
    ...{ descriptor, keyList: gatewayKeys.list, signatory: device },
    ...(resend === undefined ? {} : { resend }),
  })
  const actor = actorOf(device.kid, 1)
  const states = new Map<string, ObjectState>()
  const links = new Map<string, string>()
  const state = (object: string): ObjectState => states.get(object) ?? emptyState
  const set = (object: string, name: string): SyncEntry => {
    const by = { actor, prev: links.get(object) ?? null }
    const delta = edit({ class: className, object }, state(object), by, { paths: { name } })
    if (delta === undefined) throw new TypeError('nothing changes')
    states.set(object, apply(state(object), delta))
    links.set(object, linkOf(delta))
    return entryOf(delta)
  }
  return { device, client, set, state }
}
const bodyOf = (entries: readonly SyncEntry[]) => ({ kind: 'sync_push' as const, epoch: 1, entries })
const storedState = (lenser: string, object: string): Promise<ObjectState | undefined> =>
  inDatabase(async (db) => {
    const text = 'SELECT state FROM devices.sync_objects WHERE (lenser_id, class, object) = ($1, $2, $3)'
    return (await db.query(text, [lenser, className, object])).rows[0]?.state
  })
const until = async <T>(look: () => T | undefined | Promise<T | undefined>): Promise<T> => {
  for (const end = Date.now() + 90_000; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error('waited 90 s')
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
/** What is written after the last line break may be half a line. */
const logLines = (): Record<string, unknown>[] =>
  stack.workers('sync-applier').flatMap(({ log }) =>
    readFileSync(log, 'utf8')
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  )
const readiness = async (name: string): Promise<Record<string, unknown>> => {
  const { port } = JSON.parse(readFileSync(joinPath(stack.dir, 'health', `${name}.json`), 'utf8')) as { port: number }
  return (await (await fetch(`http://127.0.0.1:${port}/readyz`)).json()) as Record<string, unknown>
}

test('SB-3 rule 8: what a machine pushes is merged, the other one of its account is told and pulls it, and a stranger neither', async (t) => {
  const one = await connectMachine()
  const [two, stranger] = [await connectMachine(one.device.lenser), await connectMachine()]
  const { outcome } = await one.client.send(bodyOf([one.set('a', 'x'), one.set('b', 'y')]))
  const digests = ['a', 'b'].map((object) => digestOf(one.state(object)))
  t.deepEqual(outcome.result, {
    epoch: 1,
    entries: digests.map((digest, index) => ({ status: 'applied', seq: index + 1, digest })),
  })
  t.deepEqual(await until(() => two.client.changes[0]), { epoch: 1, seq: 2 })
  const pull = {
    kind: 'sync_pull' as const,
    epoch: null,
    cursors: { [className]: 0 },
    report: { pending: 0, set_aside: 0, diverged: [] },
  }
  type Page = { rows: { object: string; state: ObjectState }[] }
  const pageOf = async ({ client }: Machine): Promise<Page> => {
    const { classes } = (await client.send(pull)).outcome.result as { classes: Record<string, Page> }
    return classes[className] as Page
  }
  const { rows } = await pageOf(two)
  t.deepEqual(
    rows.map(({ object, state }) => [object, canonicalize(state)]),
    ['a', 'b'].map((object) => [object, canonicalize(one.state(object))]),
  )
  t.deepEqual((await pageOf(stranger)).rows, [])
  t.deepEqual([one.client.changes, stranger.client.changes], [[], []])
  for (const { client } of [one, two, stranger]) {
    t.like(client.stats(), { unknown: 0, untrusted: 0 })
    await client.close()
  }
})

test('SB-2 mistake 3: a push that its device did not sign is refused by the verifier as signature_mismatch, and no entry of it is applied', async (t) => {
  const machine = await connectMachine()
  const { descriptor, gatewayKeys } = stack
  const { kid, lenser, keys } = machine.device
  const bus = await connectEdge({
    ...{ url: descriptor.url, gatewayId: descriptor.gateway_id, kid, lenser, key: keys.privateKey },
  })
  // As the device at the broker, yet with another key.
  const forger = { ...machine.device, keys: generateKeyPair() }
  const client = speakOver(bus, { descriptor, keyList: gatewayKeys.list, signatory: forger })
  void client.send(bodyOf([machine.set('forged', 'x')]))
  await until(() => ((client.stats().refused.signature_mismatch ?? 0) > 0 ? true : undefined))
  await client.close()
  t.like((await machine.client.send(bodyOf([machine.set('honest', 'x')]))).outcome, { ok: true })
  t.is(await storedState(lenser, 'forged'), undefined)
  await machine.client.close()
})

const lineOf = ({ lenser, kid, keys }: Signatory, body: object): { digest: string; line: string } => {
  const bytes = Buffer.from(
    signEnvelope({
      ...{ kid, key: keys.privateKey },
      body: { aud: stack.descriptor.gateway_id, op_id: newUuidV7(), counter: nextCounter(), ...body },
    }).bytes,
  )
  const digest = encodeBase64Url(envelopeDigest(bytes))
  const stored = String(BigInt(Date.now()) * 1_000_000n)
  return { digest, line: encodeVerifiedLine({ lenser, kid, digest, stored, text: bytes.toString() }) }
}

test('SB-2 SB-3: a verifier that lies applies nothing: forged, of another account, or never claimed; and garbage is put aside', async (t) => {
  const machine = await connectMachine()
  const victim = await connectMachine()
  const { device } = machine
  const says = (by: Signatory, object: string) => lineOf(by, bodyOf([machine.set(object, 'x')]))
  const lines = [
    says({ ...device, keys: generateKeyPair() }, 'forged'),
    says({ ...device, lenser: victim.device.lenser }, 'elsewhere'),
    says(device, 'unclaimed'),
  ]
  const verifier = await connectWorker(stack, 'verifier')
  await verifier.publish(okSubject('sync_push'), lines.map(({ line }) => line).join(''))
  const alarms = await until(() => {
    const found = logLines().filter(({ event, kid }) => event === 'verifier_disagrees' && kid === device.kid)
    return found.length >= 2 ? found : undefined
  })
  t.deepEqual(alarms.map(({ code }) => code).toSorted(), ['kid_mismatch', 'signature_mismatch'])
  await verifier.publish(okSubject('sync_push'), 'not a line\n')
  await until(() => logLines().find(({ event }) => event === 'dead_letter'))
  t.like((await machine.client.send(bodyOf([machine.set('honest', 'x')]))).outcome, { ok: true })
  for (const object of ['forged', 'elsewhere', 'unclaimed']) {
    for (const { device } of [machine, victim]) t.is(await storedState(device.lenser, object), undefined)
  }
  const figures = await Promise.all(stack.workers('sync-applier').map(({ name }) => readiness(name)))
  t.true(figures.reduce((sum, { disagreements }) => sum + Number(disagreements), 0) >= 2)
  for (const each of figures) t.is(each.state, 'consuming')
  await Promise.all([verifier.close(), machine.client.close(), victim.client.close()])
})

test.serial(
  'law 2: appliers killed while machines push: each push has one result, no edit is lost and none merged twice',
  async (t) => {
    t.timeout(240_000)
    const resend = { floorMs: 1000, ceilingMs: 4000 }
    const first = await connectMachine(undefined, resend)
    const machines = [first, await connectMachine(first.device.lenser, resend), await connectMachine(undefined, resend)]
    // Whatever fails here, no client that goes on sending keeps this process from ending.
    t.teardown(() => Promise.all(machines.map(({ client }) => client.close())).then(() => {}))
    const [rounds, mostKills] = [4, 8]
    let over = false
    const comebacks: Promise<void>[] = []
    // Whoever waits for one to be ready would take its next death for a failure to start.
    const underWay = new Set<Worker>()
    const killAndStart = async (worker: Worker): Promise<void> => {
      underWay.add(worker)
      worker.send('SIGKILL')
      await worker.stop()
      await worker.start()
      underWay.delete(worker)
    }
    const kill = async (): Promise<void> => {
      while (!over && comebacks.length < mostKills) {
        await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 400))
        const workers = stack.workers('sync-applier').filter((each) => each.state === 'ready' && !underWay.has(each))
        const worker = workers[Math.floor(Math.random() * workers.length)]
        if (worker !== undefined) comebacks.push(killAndStart(worker))
      }
      await Promise.all(comebacks)
    }
    const objects = ['a', 'b', 'c', 'd']
    const work = async ({ client, device, set }: Machine): Promise<void> => {
      for (let n = 0; n < rounds; n += 1) {
        // However quick the machine: between any two rounds somebody dies.
        while (comebacks.length < n) await new Promise((resolve) => setTimeout(resolve, 20))
        const { outcome } = await client.send(bodyOf(objects.map((object) => set(object, `${device.kid} ${n}`))))
        const entries = outcome.result?.entries as { status?: string }[]
        t.true(entries.every(({ status }) => status === 'applied'))
      }
    }
    const killing = kill()
    await Promise.all(machines.map(work))
    over = true
    await killing
    await stack.whenReady()
    for (const { client, device } of machines) {
      t.deepEqual(client.contradictions, [])
      const mates = machines.filter((each) => each.device.lenser === device.lenser)
      for (const object of objects) {
        const merged = mates.map(({ state }) => state(object)).reduce(join)
        t.is(canonicalize(await storedState(device.lenser, object)), canonicalize(merged))
      }
      const { rows } = await inDatabase((db) =>
        db.query(
          `SELECT (SELECT count(*)::int FROM devices.sync_outbox WHERE device_id = $1) AS edits,
                (SELECT count(*)::int FROM devices.operations WHERE kid = $1) AS operations`,
          [device.kid],
        ),
      )
      t.deepEqual(rows, [{ edits: rounds * objects.length, operations: rounds }])
    }
    t.log(`${comebacks.length} kills`)
    t.true(comebacks.length >= rounds - 1)
  },
)
