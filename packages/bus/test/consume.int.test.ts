import { InfrastructureError } from '@lenserfight/runtime'
import { inSubject, limits } from '@lenserfight/schemas'
import { connect, headers, type NatsConnection, nkeyAuthenticator } from '@nats-io/transport-node'
import test, { type ExecutionContext } from 'ava'
import {
  type Burial,
  type Bus,
  type Consumption,
  consume,
  type Delivery,
  type Disposition,
  done,
} from '../src/index.ts'
import { type Broker, silent, startBroker, until } from './_broker.ts'

const door = { lenser: '0193a6b0-0000-7000-8000-00000000000a', kid: '0193a6b0-0000-7000-8000-00000000000b' }
const subject = inSubject({ ...door, kind: 'heartbeat' })

/** What the broker says of a stream or a consumer; asked again, as a broker that has just been killed says nothing. */
const infoOf = async <T>(nc: NatsConnection, what: string): Promise<T> => {
  for (const end = Date.now() + 60_000; ; ) {
    try {
      return (await nc.request(`$JS.API.${what}`, '', { timeout: 5000 })).json<T>()
    } catch (error) {
      if (Date.now() > end) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
/** How many messages the ingress ever took in. */
const lastSequence = async (nc: NatsConnection): Promise<number> =>
  (await infoOf<{ state: { last_seq: number } }>(nc, 'STREAM.INFO.LTG_INGRESS')).state.last_seq
/** Publishes, and waits until the stream has it: the broker answers a flush before that. */
const sayAt = async (broker: Broker, edge: NatsConnection, words: readonly (readonly [at: string, word: string])[]) => {
  const { nc } = await broker.connect('provisioner')
  const before = await lastSequence(nc)
  for (const [at, word] of words) edge.publish(at, word)
  await edge.flush()
  await until('it is stored', async () => (await lastSequence(nc)) >= before + words.length)
}
const say = (broker: Broker, edge: NatsConnection, ...words: string[]): Promise<void> =>
  sayAt(
    broker,
    edge,
    words.map((word) => [subject, word]),
  )

const isBack = (edge: NatsConnection) =>
  until('the publisher is back', () =>
    edge.flush().then(
      () => true,
      () => false,
    ),
  )

/** A consumption of the ingress whose handler notes what it was given. */
const watch = (
  t: ExecutionContext,
  bus: Bus,
  handle: (words: readonly string[]) => Promise<readonly Disposition[]> | readonly Disposition[],
  more: Partial<Parameters<typeof consume<string>>[0]> = {},
) => {
  const states: string[] = []
  const deadWords: (string | undefined)[] = []
  const burials: Burial[] = []
  const seen: string[] = []
  const running: Consumption = consume<string>({
    bus,
    stream: 'LTG_INGRESS',
    consumer: 'verifier',
    decode: ({ data }: Delivery) => new TextDecoder().decode(data).split(' '),
    handle: async (items) => {
      const result = await handle(items)
      seen.push(...items)
      return result
    },
    batch: { maxMessages: 64, maxWaitMs: 20 },
    deadLetter: (item, burial) => {
      deadWords.push(item)
      burials.push(burial)
    },
    logger: silent,
    onState: (state) => states.push(state),
    timing: { lookMs: 50, retryFloorMs: 20, retryCeilingMs: 100, workingMs: 500, heartbeatMs: 1000 },
    ...more,
  })
  t.teardown(() => running.stop())
  return { running, states, seen, deadWords, burials }
}
const allDone = (items: readonly string[]) => items.map(() => done)
const ackPending = async (bus: Bus): Promise<{ pending: number; unacked: number; redelivered: number }> => {
  const info = await infoOf<{ num_pending: number; num_ack_pending: number; num_redelivered: number }>(
    bus.nc,
    'CONSUMER.INFO.LTG_INGRESS.verifier',
  )
  return { pending: info.num_pending, unacked: info.num_ack_pending, redelivered: info.num_redelivered }
}
const drained = (bus: Bus) =>
  until('the work queue is empty', async () => {
    const { pending, unacked } = await ackPending(bus)
    return pending === 0 && unacked === 0
  })

for (const want of ['oldest', 'newest'] as const) {
  const suite = (title: string) => `${title} [${want} server]`
  // One after another on one broker, whose streams they share; the two brokers have nothing in common but time.
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = (title: string, run: (t: ExecutionContext) => Promise<void>): void =>
    test(title, (t) => {
      const turn = last.then(() => run(t))
      last = turn.catch(() => {})
      return turn
    })
  let broker: Broker
  test.before(async () => {
    broker = await startBroker(want)
    await broker.provision()
  })
  test.after.always(() => broker?.stop())

  inTurn(suite('a message is acknowledged once all its items are done, and no sooner'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const gate = Promise.withResolvers<void>()
    const { running, seen, states } = watch(t, bus, async (items) => {
      await gate.promise
      return allDone(items)
    })
    await say(broker, edge, 'one two three')
    await until('the message is held', () => running.stats().held === 1)
    // Longer than ack_wait: it is told to be worked on, and does not come again.
    await new Promise((resolve) => setTimeout(resolve, 6000))
    t.deepEqual(await ackPending(bus), { pending: 0, unacked: 1, redelivered: 0 })
    gate.resolve()
    await drained(bus)
    t.deepEqual(seen, ['one', 'two', 'three'])
    t.true(states.includes('consuming'))
    await running.stop()
    t.is(states.at(-1), 'stopping')
  })

  inTurn(
    suite('a message with an item that waits for infrastructure is not acknowledged for the others'),
    async (t) => {
      const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
      let broken = true
      const { running, seen, states } = watch(t, bus, (items) => {
        if (items.length > 1) throw new RangeError('one by one')
        if (broken && items[0] === 'second') throw new InfrastructureError('gone')
        return allDone(items)
      })
      await say(broker, edge, 'first second third')
      await until('it holds', () => states.at(-1) === 'holding')
      t.deepEqual(seen, ['first'])
      await new Promise((resolve) => setTimeout(resolve, 300))
      t.is((await ackPending(bus)).unacked, 1)
      broken = false
      await drained(bus)
      t.deepEqual(seen, ['first', 'second', 'third'])
      await running.stop()
    },
  )

  inTurn(suite('failing infrastructure holds what came, stops pulling, and goes on by itself'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    let broken = true
    const { running, seen, states } = watch(t, bus, (items) => {
      if (broken) throw new InfrastructureError('the database is gone')
      return allDone(items)
    })
    await say(broker, edge, 'a')
    await until('it holds', () => states.at(-1) === 'holding')
    const kindOf = (n: number) => (n % 2 ? 'run_start' : 'challenge')
    const many = Array.from({ length: 200 }, (_, n) => [inSubject({ ...door, kind: kindOf(n) }), `m${n}`] as const)
    await sayAt(broker, edge, many)
    await new Promise((resolve) => setTimeout(resolve, 6000))
    const { unacked, pending } = await ackPending(bus)
    t.true(unacked + pending === 201, 'everything is still there')
    t.is(running.stats().held, 1, 'nothing more was asked for')
    broken = false
    await drained(bus)
    t.is(new Set(seen).size, 201)
    t.is(states.at(-1), 'consuming')
    t.true(running.stats().holds >= 1)
    await running.stop()
  })

  inTurn(suite('a poisonous item is bisected and put aside; its neighbours are done'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const calls: number[] = []
    const { running, seen, deadWords, burials } = watch(t, bus, (items) => {
      calls.push(items.length)
      if (items.includes('poison')) throw new RangeError('cannot be done')
      return allDone(items)
    })
    const before = await deadLetters(broker)
    await say(broker, edge, 'a b', 'c', 'poison d', 'e f g', 'h')
    await drained(bus)
    t.deepEqual(seen.toSorted(), ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])
    t.deepEqual(deadWords, ['poison'])
    const [burial] = burials
    t.regex(burial?.incidentId ?? '', /^[0-9a-f-]{36}$/)
    t.true(burial?.cause instanceof RangeError)
    t.is((await deadLetters(broker)) - before, 1)
    t.is(calls.filter((size) => size === 1).length >= 2, true, 'alone it is tried twice')
    await running.stop()
  })

  inTurn(suite('an item that the handler calls dead, and a message that cannot be read, are put aside'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const { running, deadWords, seen } = watch(
      t,
      bus,
      (items) => items.map((item) => (item === 'bad' ? { dead: new Error('bad') } : done)),
      {
        decode: ({ data }) => {
          const text = new TextDecoder().decode(data)
          if (text === 'garbage') throw new SyntaxError('no')
          return [text]
        },
      },
    )
    await say(broker, edge, 'good', 'bad', 'garbage', 'fine')
    await drained(bus)
    t.deepEqual(deadWords.toSorted(), ['bad', undefined])
    t.deepEqual(seen.toSorted(), ['bad', 'fine', 'good'])
    t.is(running.stats().dead, 2)
    await running.stop()
  })

  inTurn(suite('stopping finishes what is in flight and gives the rest back at once'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const gate = Promise.withResolvers<void>()
    const { running, seen } = watch(
      t,
      bus,
      async (items) => {
        await gate.promise
        return allDone(items)
      },
      { batch: { maxMessages: 2, maxWaitMs: 50 } },
    )
    await say(broker, edge, 'a', 'b', 'c', 'd')
    await until('all are held', () => running.stats().held === 4)
    const stopped = running.stop()
    gate.resolve()
    await stopped
    t.is(seen.length, 2, 'the batch in flight was finished')
    const next = watch(t, bus, allDone)
    const began = Date.now()
    await drained(bus)
    // What was held was told to be worked on half a second before it was given back, at most.
    t.true(Date.now() - began < 4400, 'the others came to the next worker without waiting for ack_wait')
    t.is(next.seen.length, 2)
    await next.running.stop()
  })

  inTurn(suite('a worker stopped while it holds gives its messages back'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const { running, states } = watch(t, bus, () => {
      throw new InfrastructureError('gone')
    })
    await say(broker, edge, 'kept')
    await until('it holds', () => states.at(-1) === 'holding')
    await running.stop()
    const next = watch(t, bus, allDone)
    await until('the next worker has it', () => next.seen.includes('kept'), 4400)
    await drained(bus)
    t.deepEqual(next.seen, ['kept'])
    await next.running.stop()
  })

  inTurn(suite('a status written into headers by a publisher is a message like any other'), async (t) => {
    const edge = await connect({
      servers: broker.nats.url,
      authenticator: nkeyAuthenticator(new TextEncoder().encode(broker.seeds.edge)),
    })
    const bus = await broker.connect('verifier')
    const { running, seen, states } = watch(t, bus, allDone, { decode: ({ data }) => [`<${data.length}>`] })
    await until('it consumes', () => states.includes('consuming'))
    for (const [code, text] of [
      [409, 'Consumer Deleted'],
      [503, 'No Responders'],
      [100, 'Idle Heartbeat'],
    ] as const) {
      edge.publish(subject, '', { headers: headers(code, text) })
    }
    await until('all came through', () => seen.length === 3)
    await drained(bus)
    t.deepEqual(states, ['connecting', 'consuming'])
    await running.stop()
    await edge.close()
  })

  inTurn(suite('a message as large as any is put aside, and its neighbours go on'), async (t) => {
    const [bus, verifier] = await Promise.all([broker.connect('trust-evaluator'), broker.connect('verifier')])
    const before = await deadLetters(broker)
    const { running, seen, burials } = watch(t, bus, allDone, {
      stream: 'LTG_VERIFIED',
      consumer: 'trust-evaluator',
      decode: ({ data }) => {
        if (data.length > 100) throw new SyntaxError('no batch')
        return [new TextDecoder().decode(data)]
      },
      batch: { maxMessages: 64, maxWaitMs: 300 },
    })
    const large = new Uint8Array(limits.brokerPayloadBytes - 100)
    for (const data of ['one', large, 'two']) await verifier.publish('ltg.v1.ok.heartbeat', data)
    await until('its neighbours are done', () => seen.length === 2)
    await until('nothing is held', () => running.stats().held === 0)
    t.is(burials.length, 1)
    t.is(await deadLetters(broker), before + 1)
    await running.stop()
  })

  inTurn(suite('a batch that failed for a mistake of ours comes again'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    let mistakes = 0
    const { running, deadWords } = watch(
      t,
      bus,
      () => {
        throw new RangeError('never')
      },
      {
        deadData: (item) => {
          mistakes += 1
          if (mistakes === 1) throw new TypeError('a mistake')
          return item
        },
      },
    )
    await say(broker, edge, 'word')
    await until('it was put aside after all', () => deadWords.length === 1)
    await drained(bus)
    t.is(running.stats().held, 0)
    await running.stop()
  })

  inTurn(suite('a broker killed and restarted: nothing is lost'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const { running, seen, states } = watch(t, bus, allDone)
    await say(broker, edge, ...Array.from({ length: 100 }, (_, n) => `k${n}`))
    await until('some are done', () => seen.length > 0)
    await broker.nats.kill9()
    await broker.nats.restart()
    await until('it is back', () => states.at(-1) === 'consuming')
    await isBack(edge)
    await say(broker, edge, 'after')
    await until('work goes on', () => seen.includes('after'))
    await drained(bus)
    t.is(new Set(seen).size, 101)
    await running.stop()
  })

  inTurn(suite('a broker back empty: waits for the streams, and acknowledges nothing of the old ones'), async (t) => {
    const [bus, edge] = await Promise.all([broker.connect('verifier'), broker.edge()])
    const [oldGate, newGate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const { running, seen, states } = watch(
      t,
      bus,
      async (items) => {
        await (items.some((item) => item.startsWith('old')) ? oldGate : newGate).promise
        return allDone(items)
      },
      { concurrency: 8, batch: { maxMessages: 4, maxWaitMs: 5 } },
    )
    await say(broker, edge, 'old0', 'old1', 'old2', 'old3')
    await until('the old ones are held', () => running.stats().held === 4)
    await broker.nats.restart({ emptyStore: true })
    await until('it waits', () => states.at(-1) === 'connecting')
    await broker.provision()
    await until('it consumes again', () => states.at(-1) === 'consuming')
    // The new messages get the sequence numbers of the old ones, which end while the new ones are worked on.
    await isBack(edge)
    await say(broker, edge, 'new0', 'new1', 'new2', 'new3')
    await until('the new ones are held', () => running.stats().held === 8)
    oldGate.resolve()
    await until('the old ones are over', () => running.stats().held === 4)
    // The broker works acknowledgements off beside its answers.
    await new Promise((resolve) => setTimeout(resolve, 300))
    t.is((await ackPending(bus)).unacked, 4, 'no acknowledgement of an old message removed a new one')
    newGate.resolve()
    await until('the new ones are over', () => running.stats().held === 0)
    await drained(bus)
    t.deepEqual(seen.toSorted(), ['new0', 'new1', 'new2', 'new3', 'old0', 'old1', 'old2', 'old3'])
    await running.stop()
  })
}

const deadLetters = async (broker: Broker): Promise<number> => {
  const { nc } = await broker.connect('provisioner')
  return (await infoOf<{ state: { messages: number } }>(nc, 'STREAM.INFO.LTG_DEADLETTER')).state.messages
}
