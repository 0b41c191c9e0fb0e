import { createHash } from 'node:crypto'
import { type Connection, call } from '@lenserfight/db'
import { loadSodium, signingDigest } from '@lenserfight/envelope'
import pg from 'pg'
import type { Timed } from './figures.ts'
import type { Sample } from './workload.ts'
import { type BenchWorld, textOf } from './world.ts'

export const baselineConnections = 16

/** As the audit-chain worker links, with less of a rest. */
const linkBatch = 2000
const linkPauseMs = 50

/** The plain way: connections that each check a signature themselves and then call, one envelope after the other. */
export interface Baseline {
  /** Takes all samples to their end: claimed, recorded, linked. */
  readonly run: (samples: readonly Sample[]) => Promise<Timed>
  readonly close: () => Promise<void>
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/**
 * Opens it. The functions are those of the services, prepared on each connection and called with one envelope; each call
 * is a transaction of its own, as it would be of a server that answers a request. In its favour: of the form and the body
 * nothing is checked, and one more connection links in batches, since linkers take turns: links one by one take several
 * times as long as all the rest, and would measure that lock alone.
 */
export const openBaseline = async ({ connection }: BenchWorld): Promise<Baseline> => {
  const sodium = await loadSodium('native')
  const open = async (): Promise<pg.Client> => {
    const client = new pg.Client(connection)
    await client.connect()
    return client
  }
  const linker = await open()
  const clients = await Promise.all(Array.from({ length: baselineConnections }, open))
  let sequence = 0

  const claim = async (db: Connection, sample: Sample): Promise<void> => {
    const { device, kind, bytes, publicKey } = sample
    const { nonce, iat } = JSON.parse(textOf(sample)) as { nonce: string; iat: number }
    const digest = createHash('sha256').update(bytes).digest('hex')
    const stored = `${BigInt(Date.now()) * 1_000_000n}`
    const [row] = await call<{ fn_claim_ingress: string[] }>(db, 'devices.fn_claim_ingress', [
      ...[[device.kid], [hexOf(publicKey)], 'LTG_INGRESS'],
      ...[[device.kid], [nonce], [iat], [kind], [digest], [++sequence], [stored]],
    ])
    if (row?.fn_claim_ingress[0] !== 'ok') throw new Error('the baseline could not claim')
  }
  const take = async (db: Connection, sample: Sample): Promise<void> => {
    const { bytes, signature, publicKey } = sample
    if (!sodium.verify(signature, signingDigest(bytes), publicKey)) throw new Error('a good signature did not verify')
    await claim(db, sample)
    const [row] = await call<{ outcome: { ok: boolean; code?: string } }>(
      db,
      'execution.fn_record_execution_attestation',
      [[textOf(sample)]],
    )
    if (row?.outcome.ok !== true) throw new Error(`the baseline could not attest: ${row?.outcome.code}`)
  }
  /** Links until `isOver` and nothing is left. */
  const link = async (isOver: () => boolean): Promise<void> => {
    for (let over = false, linked = 0; !over || linked > 0; ) {
      over = isOver()
      const [row] = await call<{ fn_chain_link: number }>(linker, 'audit.fn_chain_link', [linkBatch])
      linked = row?.fn_chain_link ?? 0
      if (!over && linked < linkBatch) await new Promise((done) => setTimeout(done, linkPauseMs))
    }
  }
  const run = async (samples: readonly Sample[]): Promise<Timed> => {
    const start = performance.now()
    let next = 0
    let isOver = false
    const linking = link(() => isOver)
    await Promise.all(
      clients.map(async (db) => {
        for (let at = next++; at < samples.length; at = next++) await take(db, samples[at] as Sample)
      }),
    )
    isOver = true
    await linking
    return { count: samples.length, seconds: (performance.now() - start) / 1000 }
  }
  return { run, close: async () => void (await Promise.all([linker, ...clients].map((client) => client.end()))) }
}
