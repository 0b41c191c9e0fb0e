import { readFileSync } from 'node:fs'
import type { Bus } from '@lenserfight/bus'
import { loadSodium, type Sodium, type SodiumBuild } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { limits } from '@lenserfight/schemas'
import { connectWorker, openRawEdge, type RawEdge } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import { bareChecksPerSecond } from './bare.ts'
import { type CpuTimes, cpuTimes } from './processes.ts'
import { measureStages, type StageCosts } from './stages.ts'
import { makeDevices, type Sample, signSamples } from './workload.ts'

export interface BenchOptions {
  readonly build: SodiumBuild
  /** Rounds that count; one more warms up. */
  readonly rounds: number
  /** Members of the verifier's configuration, in place of its defaults. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly say: (sentence: string) => void
}

export interface VerifierFigures {
  readonly build: SodiumBuild
  readonly threads: number
  readonly envelopes: number
  readonly envelope_bytes: number
  readonly envelopes_per_second: number
  /** One thread of sodium-native, measured between the rounds. */
  readonly bare_checks_per_second: number
  readonly verifier_ratio: number
  readonly round_ratios: readonly number[]
  readonly cpu_us_per_envelope: CpuTimes
  readonly where_time_goes: StageCosts & { readonly bus_and_rest: number }
  readonly envelopes_per_batch: number
  readonly waits_ms_per_batch: Readonly<Record<string, number>>
}

const deviceCount = 64
/** Runs a device and round: what the ingress stream holds of one subject, so that a round is a full stream. */
const runsEach = limits.ingressPerSubject

interface Round {
  readonly seconds: number
  readonly cpu: CpuTimes
  readonly bare: number
}

interface Bench {
  readonly stack: Stack
  readonly edge: RawEdge
  readonly provisioner: Bus
  readonly native: Sodium
}

/** Messages that the ingress stream still holds: it lets go of one when it is acknowledged. */
const ingressLeft = async (bus: Bus): Promise<number> => {
  const answer = await bus.nc.request('$JS.API.STREAM.INFO.LTG_INGRESS', '', { timeout: 5000 })
  return answer.json<{ state: { messages: number } }>().state.messages
}

const untilLeft = async (bus: Bus, wanted: (left: number) => boolean, pollMs: number): Promise<void> => {
  for (const end = Date.now() + 120_000; !wanted(await ingressLeft(bus)); ) {
    if (Date.now() > end) throw new Error('the verifier does not get through')
    await new Promise((done) => setTimeout(done, pollMs))
  }
}

const healthOf = async (stack: Stack): Promise<Record<string, unknown>> => {
  const { port } = JSON.parse(readFileSync(`${stack.dir}/health/verifier.json`, 'utf8')) as { port: number }
  return (await (await fetch(`http://127.0.0.1:${port}/healthz`)).json()) as Record<string, unknown>
}

/** Fills the stream while the verifier sleeps, then takes the time until all of it is verified, published and acknowledged. */
const runRound = async ({ stack, edge, provisioner, native }: Bench, samples: readonly Sample[]): Promise<Round> => {
  const [verifier] = stack.workers('verifier')
  const pids = { verifier: verifier?.pid as number, nats: stack.nats.pid, postgres: stack.postgres.pid }
  const bare = bareChecksPerSecond(samples, native)
  verifier?.send('SIGSTOP')
  for (const { subject, bytes } of samples) edge.publish(subject, bytes)
  await edge.flush()
  await untilLeft(provisioner, (left) => left === samples.length, 5)
  const before = cpuTimes(pids)
  const start = performance.now()
  verifier?.send('SIGCONT')
  await untilLeft(provisioner, (left) => left === 0, 10)
  const seconds = (performance.now() - start) / 1000
  const after = cpuTimes(pids)
  const spent = (name: keyof CpuTimes): number => after[name] - before[name]
  const cpu = { verifier: spent('verifier'), nats_server: spent('nats_server'), postgres: spent('postgres') }
  return { seconds, cpu, bare }
}

const sumOf = <T>(items: readonly T[], read: (item: T) => number): number =>
  items.reduce((sum, item) => sum + read(item), 0)

/** One verifier process, from received bytes to a published batch and committed nonces, everything else real, fsync on. */
export const benchVerifier = async ({ build, rounds, config, say }: BenchOptions): Promise<VerifierFigures> => {
  say(`starting the stack (${build})`)
  const stack = await testStack({
    callout: false,
    fsync: true,
    replicas: { 'broker-auth': 0, registrar: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 },
    extra: { verifier: { sodium: build, ...config } },
  })
  const edge = await openRawEdge(stack)
  const provisioner = await connectWorker(stack, 'provisioner')
  try {
    const devices = await makeDevices(stack, deviceCount)
    const gatewayId = stack.descriptor.gateway_id
    const native = await loadSodium('native')
    const bench = { stack, edge, provisioner, native }
    const sign = () => signSamples(devices, runsEach, gatewayId)
    say('warming up')
    await runRound(bench, sign())
    const before = await healthOf(stack)
    const measured: Round[] = []
    for (let round = 1; round <= rounds; round++) {
      say(`round ${round} of ${rounds}`)
      measured.push(await runRound(bench, sign()))
    }
    const after = await healthOf(stack)
    const samples = sign()
    const stages = measureStages(samples, gatewayId, await loadSodium(build))
    return figuresOf({ build, samples, measured, stages, before, after })
  } finally {
    await edge.close()
    await provisioner.close()
    await stack.stop()
  }
}

interface Gathered {
  readonly build: SodiumBuild
  readonly samples: readonly Sample[]
  readonly measured: readonly Round[]
  readonly stages: StageCosts
  readonly before: Record<string, unknown>
  readonly after: Record<string, unknown>
}

const figuresOf = ({ build, samples, measured, stages, before, after }: Gathered): VerifierFigures => {
  const envelopes = samples.length * measured.length
  const verified = Number(after.verified) - Number(before.verified)
  if (verified < envelopes) throw new Error(`${verified} of ${envelopes} envelopes were verified`)
  const perEnvelope = (name: keyof CpuTimes): number => sumOf(measured, ({ cpu }) => cpu[name]) / envelopes
  const cpu = {
    verifier: perEnvelope('verifier'),
    nats_server: perEnvelope('nats_server'),
    postgres: perEnvelope('postgres'),
  }
  const rate = envelopes / sumOf(measured, ({ seconds }) => seconds)
  const bare = sumOf(measured, (round) => round.bare) / measured.length
  const own = sumOf(Object.values(stages), (cost) => cost)
  const batches = (state: Record<string, unknown>): number => (state.consumption as { batches: number }).batches
  const waited = (state: Record<string, unknown>) => state.stages_ms as Record<string, number>
  const count = batches(after) - batches(before)
  return {
    build,
    threads: (after.signatures as { threads: number }).threads,
    envelopes,
    envelope_bytes: Math.round(sumOf(samples, ({ bytes }) => bytes.length) / samples.length),
    envelopes_per_second: rate,
    bare_checks_per_second: bare,
    verifier_ratio: rate / bare,
    round_ratios: measured.map((round) => samples.length / round.seconds / round.bare),
    cpu_us_per_envelope: cpu,
    where_time_goes: { ...stages, bus_and_rest: Math.max(0, cpu.verifier - own) },
    envelopes_per_batch: envelopes / count,
    waits_ms_per_batch: Object.fromEntries(
      Object.entries(waited(after)).map(([stage, ms]) => [stage, (ms - (waited(before)[stage] ?? 0)) / count]),
    ),
  }
}
