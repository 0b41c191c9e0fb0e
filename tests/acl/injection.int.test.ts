import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { inboxPrefix, inSubject, serviceNames } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { headers, type NatsConnection } from '@nats-io/transport-node'
import test, { type ExecutionContext } from 'ava'
import { connectAs, connectWorker, startDoor } from './_acl.ts'
import { type Observers, placeObservers } from './_observers.ts'

const marker = 'hostile'

/** protocol.md's list: where a device would like an acknowledgement, a trace or an answer to go. */
const targetsFor = (victim: Signatory, attacker: Signatory): string[] => {
  const { lenser, kid } = victim
  return [
    ...['STREAM.PURGE.LTG_INGRESS', 'STREAM.DELETE.LTG_INGRESS', 'STREAM.PURGE.LTG_VERIFIED', 'STREAM.CREATE.EVIL'].map(
      (verb) => `$JS.API.${verb}`,
    ),
    ...[
      'CONSUMER.DELETE.LTG_INGRESS.verifier',
      'CONSUMER.MSG.NEXT.LTG_INGRESS.verifier',
      'STREAM.MSG.DELETE.LTG_INGRESS',
    ].map((verb) => `$JS.API.${verb}`),
    ...[
      '$JS.ACK.LTG_INGRESS.verifier.1.1.1.1.0',
      '$JS.FC.LTG_INGRESS.verifier.x',
      '$KV.control.flag',
      '$KV.x',
      '$O.x.y',
    ],
    ...['ltg.v1.ok.attestation', 'ltg.v1.ok.heartbeat', 'ltg.v1.ok.invented', 'ltg.v1.dead.verifier'],
    ...['ltg.v1.ctl.global', 'ltg.v1.ctl.keys', `ltg.v1.ctl.workspace.${lenser}`, `ltg.v1.ctl.device.${kid}`],
    ...['receipt', 'answer', 'lease'].map((name) => `ltg.v1.out.${lenser}.${kid}.${name}`),
    `ltg.v1.out.${attacker.lenser}.${attacker.kid}.receipt`,
    ...['heartbeat', 'attestation'].map((kind) => `ltg.v1.in.${lenser}.${kid}.${kind}`),
    ...['approve', 'login', 'status'].map((kind) => `ltg.v1.ask.${lenser}.${kid}.${kind}`),
    ...serviceNames.map((service) => `${inboxPrefix(service)}.mux.1`),
    ...[
      '_INBOX.abc.def',
      '$SYS._INBOX.abc.def',
      '$SYS.REQ.USER.AUTH',
      '$SYS.REQ.SERVER.PING',
      '$SYS.REQ.SERVER.x.KICK',
    ],
    ...['$SYS.REQ.ACCOUNT.CORE.CLAIMS.UPDATE', '$SYS.REQ.CLAIMS.DELETE', '$SRV.PING', 'anything'],
  ]
}

/** Headers on which a stream, or the server, would act if it were let. */
const hostileHeaders: Record<string, string>[] = [
  { 'Nats-Msg-Id': 'shared' },
  { 'Nats-Expected-Stream': 'LTG_VERIFIED' },
  { 'Nats-Expected-Last-Sequence': '0' },
  { 'Nats-Expected-Last-Msg-Id': 'x' },
  { 'Nats-Expected-Last-Subject-Sequence': '0' },
  { 'Nats-Rollup': 'all' },
  { 'Nats-Rollup': 'sub' },
  { 'Nats-TTL': '1s' },
  { 'Nats-Marker-Reason': 'Purge' },
  { 'Nats-Batch-Id': 'b', 'Nats-Batch-Sequence': '1', 'Nats-Batch-Commit': '1' },
  { 'Nats-Schedule': '@every 1s', 'Nats-Schedule-Target': 'ltg.v1.ok.attestation' },
  { 'Nats-Incr': '+1' },
  { 'Nats-Stream-Source': 'LTG_VERIFIED 1 > >' },
]

interface Scene {
  readonly attacker: Signatory
  readonly nc: NatsConnection
  readonly targets: readonly string[]
}

/** Fires everything on the attacker's own subjects, which is all that it can reach. */
const fire = async ({ attacker, nc, targets }: Scene): Promise<number> => {
  let sent = 0
  const own = (kind: string) => inSubject({ ...attacker, kind })
  const say = (kind: string, options: Parameters<NatsConnection['publish']>[2]) => {
    nc.publish(own(kind), `${marker} ${sent}`, options)
    sent += 1
  }
  for (const reply of targets) for (const kind of ['heartbeat', 'attestation']) say(kind, { reply })
  for (const set of hostileHeaders) {
    const head = headers()
    for (const [name, value] of Object.entries(set)) head.set(name, value)
    say('run_start', { headers: head })
    say('run_start', { headers: head, reply: 'ltg.v1.ctl.global' })
  }
  for (const only of ['', 'true']) {
    for (const destination of targets) {
      const head = headers()
      head.set('Nats-Trace-Dest', destination)
      if (only) head.set('Nats-Trace-Only', only)
      say('challenge', { headers: head })
    }
  }
  nc.publish(`ltg.v1.ask.${attacker.lenser}.${attacker.kid}.status`, `${marker} ask`, { reply: 'ltg.v1.ctl.global' })
  await nc.flush().catch(() => {})
  // What nobody may hear has no sign of having come: it gets this long, and what is heard is waited for.
  await new Promise((resolve) => setTimeout(resolve, 700))
  return sent
}

/** Waits until it holds, or for a minute: what is asserted then says what does not. */
const until = async (holds: () => unknown): Promise<void> => {
  for (const end = Date.now() + 60_000; !(await holds()) && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const subjectsIn = async (core: NatsConnection, stream: string): Promise<Record<string, number>> => {
  const manager = await jetstreamManager(core)
  return (await manager.streams.info(stream, { subjects_filter: '>' })).state.subjects ?? {}
}

for (const want of ['oldest', 'newest'] as const) {
  let stack: Stack
  let observers: Observers
  let victim: Signatory
  let attacker: Signatory

  test.before(async () => {
    stack = await startDoor(want)
    observers = await placeObservers(stack)
    const { core } = observers
    await (await jetstreamManager(core)).streams.add({ name: 'KV_control', subjects: ['$KV.control.>'] })
    await jetstream(core).publish('$KV.control.flag', 'kept')
    await withClient(stack.owner, async (client) => {
      victim = await makeDevice(client, { lenser: (await makeAccount(client)).lenser })
      attacker = await makeDevice(client, { lenser: (await makeAccount(client)).lenser })
    })
  })
  test.after.always(async () => {
    await observers?.close()
    await stack?.stop()
  })

  /** The attack, with a victim and every worker listening where it hurts. */
  const attack = async (t: ExecutionContext) => {
    const heard: string[] = []
    const hear = (nc: NatsConnection, subject: string) =>
      nc.subscribe(subject, {
        callback: (error, message) => {
          if (error === null) heard.push(message.subject)
        },
      })
    const target = await connectAs(stack, victim)
    hear(target, `ltg.v1.out.${victim.lenser}.${victim.kid}.*`)
    for (const name of ['global', 'keys', `workspace.${victim.lenser}`, `device.${victim.kid}`])
      hear(target, `ltg.v1.ctl.${name}`)
    target.publish(inSubject({ ...victim, kind: 'heartbeat' }), 'kept')
    await target.flush()
    const workers = await Promise.all(serviceNames.map((service) => connectWorker(stack, service)))
    for (const [index, nc] of workers.entries()) hear(nc, `${inboxPrefix(serviceNames[index] as 'verifier')}.mux.*`)
    await Promise.all(workers.map((nc) => nc.flush()))
    const nc = await connectAs(stack, attacker)
    t.teardown(async () => void (await Promise.all([target, nc, ...workers].map((open) => open.close()))))
    // The genuine questions about these connections are on their way to the observers.
    await new Promise((resolve) => setTimeout(resolve, 300))
    await observers.flush()
    observers.seen.length = 0
    const targets = targetsFor(victim, attacker)
    const sent = await fire({ attacker, nc, targets })
    await observers.flush()
    const own = new Set(
      ['heartbeat', 'attestation', 'run_start', 'challenge'].map((kind) => inSubject({ ...attacker, kind })),
    )
    own.add(`ltg.v1.ask.${attacker.lenser}.${attacker.kid}.status`)
    const strayed = () =>
      observers.seen.filter(
        ({ subject, text }) => targets.includes(subject) || (text.includes(marker) && !own.has(subject)),
      )
    return { sent, heard, strayed }
  }

  test.serial(
    `hostile replies and headers store and deliver nothing outside one’s own ingress [${want} server]`,
    async (t) => {
      const { core } = observers
      const { sent, heard, strayed } = await attack(t)
      t.true(sent > 200)
      t.deepEqual(heard, [], 'nobody was reached')
      t.deepEqual(strayed(), [], 'nothing came by anywhere')
      const own = inSubject({ ...attacker, kind: 'heartbeat' })
      await until(async () => ((await subjectsIn(core, 'LTG_INGRESS'))[own] ?? 0) > 20)
      const stored = await subjectsIn(core, 'LTG_INGRESS')
      const foreign = Object.keys(stored).filter((subject) => !subject.includes(attacker.kid))
      t.deepEqual(foreign, [inSubject({ ...victim, kind: 'heartbeat' })])
      t.is(stored[inSubject({ ...victim, kind: 'heartbeat' })], 1, 'what the victim had stored is there')
      t.true((stored[own] ?? 0) > 20, 'the attack did reach its own ingress')
      t.deepEqual(await subjectsIn(core, 'LTG_VERIFIED'), {})
      t.deepEqual(await subjectsIn(core, 'LTG_DEADLETTER'), {})
      t.deepEqual(await subjectsIn(core, 'KV_control'), { '$KV.control.flag': 1 })
      const manager = await jetstreamManager(core)
      t.deepEqual((await manager.streams.names().next()).toSorted(), [
        'KV_control',
        'LTG_DEADLETTER',
        'LTG_INGRESS',
        'LTG_VERIFIED',
      ])
      t.is((await manager.consumers.info('LTG_INGRESS', 'verifier')).num_ack_pending, 0)
    },
  )

  test.serial(`one device fills its own subjects and no other’s [${want} server]`, async (t) => {
    const nc = await connectAs(stack, attacker)
    t.teardown(() => nc.close())
    for (let n = 0; n < 600; n++) nc.publish(inSubject({ ...attacker, kind: 'heartbeat' }), `${marker} more`)
    await nc.flush()
    const after = await connectAs(stack, victim)
    t.teardown(() => after.close())
    after.publish(inSubject({ ...victim, kind: 'attestation' }), 'kept')
    await after.flush()
    const filled = (stored: Record<string, number>): unknown =>
      stored[inSubject({ ...attacker, kind: 'heartbeat' })] === 256 &&
      stored[inSubject({ ...victim, kind: 'attestation' })] === 1
    await until(async () => filled(await subjectsIn(observers.core, 'LTG_INGRESS')))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const stored = await subjectsIn(observers.core, 'LTG_INGRESS')
    t.is(stored[inSubject({ ...attacker, kind: 'heartbeat' })], 256)
    t.is(stored[inSubject({ ...victim, kind: 'attestation' })], 1)
  })

  test.serial(`without no_ack the same attack is seen: the traps are live [${want} server]`, async (t) => {
    stack.workers('provisioner')[0]?.send('SIGSTOP')
    t.teardown(() => stack.workers('provisioner')[0]?.send('SIGCONT'))
    const manager = await jetstreamManager(observers.core)
    const { config } = await manager.streams.info('LTG_INGRESS')
    await manager.streams.update('LTG_INGRESS', { ...config, no_ack: false, max_msgs_per_subject: 100_000 })
    const { heard, strayed } = await attack(t)
    const traps = ['ltg.v1.ok.attestation', 'ltg.v1.ctl.keys', '$KV.control.flag', '$JS.API.STREAM.PURGE.LTG_INGRESS']
    const reached = () => new Set(strayed().map(({ subject }) => subject))
    await until(() => heard.includes('ltg.v1.ctl.global') && traps.every((subject) => reached().has(subject)))
    t.true(heard.includes('ltg.v1.ctl.global'))
    for (const subject of traps) t.true(reached().has(subject), subject)
  })
}
