import { checkForm, readEnvelope, type Sodium, signingDigest } from '@lenserfight/envelope'
import { checkBody, parseDoorSubject } from '@lenserfight/schemas'
import { assemble, claimArguments, decideForm, decideSigners, type Received, withDigest } from '@lenserfight/verifier'
import type { Sample } from './workload.ts'

/** Microseconds of CPU an envelope, each stage alone in one thread over the same envelopes. */
export interface StageCosts {
  readonly parse: number
  readonly form: number
  readonly body: number
  readonly signature: number
  /** Digests and the arguments of the claim call; what the database does is in `cpu_us_per_envelope`. */
  readonly claim: number
  /** Putting verified batches together. */
  readonly publish: number
}

const rounds = 5

/** The best of a few rounds: noise only ever adds. */
const timeEach = (count: number, work: () => unknown): number => {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    work()
    best = Math.min(best, performance.now() - start)
  }
  return (best * 1000) / count
}

const inBatches = <T>(items: readonly T[], size: number): T[][] => {
  const batches: T[][] = []
  for (let at = 0; at < items.length; at += size) batches.push(items.slice(at, at + size))
  return batches
}

export const measureStages = (samples: readonly Sample[], gatewayId: string, sodium: Sodium): StageCosts => {
  const count = samples.length
  const received = samples.map(
    ({ subject, bytes }, index): Received => ({
      ...{ subject, data: bytes, stream: 'LTG_INGRESS', seq: index },
      stored: `${BigInt(Date.now()) * 1_000_000n}`,
    }),
  )
  const keys = new Map(samples.map(({ device }) => [device.kid, device]))
  const signerOf = (kid: string) => {
    const device = keys.get(kid)
    return device === undefined ? undefined : { kid, lenserId: device.lenser, publicKey: device.keys.publicKey }
  }
  const bodies = samples.map(({ kind, bytes }) => ({ kind, value: JSON.parse(Buffer.from(bytes).toString()).body }))
  const { candidates } = decideForm(received, gatewayId)
  const proven = inBatches(decideSigners(candidates, signerOf).signed.map(withDigest), 512)
  if (candidates.length !== count) throw new Error('a good envelope was refused')

  const parse = timeEach(count, () => {
    for (const { bytes } of samples) readEnvelope(bytes)
  })
  const body = timeEach(count, () => {
    for (const { kind, value } of bodies) checkBody(kind, value)
  })
  const form = timeEach(count, () => {
    for (const { subject, data } of received) {
      const door = parseDoorSubject(subject)
      const names = { kid: door?.kid ?? null, kind: door?.kind ?? '' }
      checkForm(data, { ...names, gatewayId, isSupported: () => true, checkBody })
    }
  })
  return {
    parse,
    form: Math.max(0, form - parse - body),
    body,
    signature: timeEach(count, () => {
      for (const { bytes, signature, publicKey } of samples) sodium.verify(signature, signingDigest(bytes), publicKey)
    }),
    claim: timeEach(count, () => proven.map((batch) => claimArguments(batch.map(withDigest)))),
    publish: timeEach(count, () => proven.map(assemble)),
  }
}
