import { createPool, type Pool } from '@lenserfight/db'
import { createSigner, type EnvelopeSigner, newUuidV7, signatureBytes, signingDigest } from '@lenserfight/envelope'
import type { PgConnection } from '@lenserfight/local'
import { createLogger } from '@lenserfight/runtime'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeRunner, makeVersion, nextCounter, type Signatory } from '@lenserfight/testkit'
import { type Sample, someHash } from './workload.ts'

/** A device whose runs reach the top of the ladder: with a bound runner and a pinned version. */
export interface Machine extends Signatory {
  readonly runner: string
  readonly version: string
  readonly sign: EnvelopeSigner['sign']
}

/** A database and those who work in it. */
export interface BenchWorld {
  readonly connection: PgConnection
  /** As superuser. */
  readonly owner: Pool
  readonly gatewayId: string
  readonly machines: readonly Machine[]
}

/** A permit's members that an attestation repeats. */
interface Permit {
  readonly run_id: string
  readonly lens_hash: string
  readonly workflow_hash: string
}

/** A run under way and what it was started with. */
export interface OpenRun {
  readonly machine: Machine
  readonly permit: Permit
  readonly command_hash: string
  readonly inputs: readonly unknown[]
}

type Body = { kind: string } & Record<string, unknown>

/** Envelopes that one call applies, as the trust-evaluator calls. */
export const perCall = 512

export const openWorld = async (connection: PgConnection, gatewayId: string, lensers: number): Promise<BenchWorld> => {
  const logger = createLogger({ service: 'trust-evaluator', level: 'silent' })
  const owner = createPool({ ...connection, max: 2, logger, statementTimeoutMs: 600_000 })
  const machines: Machine[] = []
  for (let i = 0; i < lensers; i++) {
    const { lenser } = await makeAccount(owner)
    const device = await makeDevice(owner, { lenser })
    const { id: version } = await makeVersion(owner, lenser)
    const { sign } = createSigner({ kid: device.kid, key: device.keys.privateKey })
    machines.push({ ...device, runner: await makeRunner(owner, device), version, sign })
  }
  return { connection, owner, gatewayId, machines }
}

export const signAs = ({ gatewayId }: BenchWorld, device: Machine, body: Body): Sample => {
  const { bytes, envelope } = device.sign({ body: { aud: gatewayId, counter: nextCounter(), ...body } })
  return {
    ...{ device, kind: body.kind, bytes, publicKey: device.keys.publicKey },
    subject: inSubject({ lenser: device.lenser, kid: device.kid, kind: body.kind }),
    digest: signingDigest(bytes),
    signature: signatureBytes(envelope),
  }
}

let sequence = 0

/** Leaves the claims that a verifier would, all at once. */
export const claimAll = async ({ owner }: BenchWorld, samples: readonly Sample[]): Promise<void> => {
  const read = samples.map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString()) as { nonce: string; iat: number })
  await owner.query(
    `INSERT INTO devices.envelope_claims
       (door, verdict, stream, kid, lenser_id, nonce, iat, kind, digest, seq, stored_ns, key_number)
     SELECT 'ingress', 'ok', 'LTG_INGRESS', c.kid, c.lenser, c.nonce, c.iat, c.kind, sha256(c.wire), c.seq, $7, 1
       FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bytea[], $8::bigint[])
         AS c (kid, lenser, nonce, iat, kind, wire, seq)`,
    [
      samples.map(({ device }) => device.kid),
      samples.map(({ device }) => device.lenser),
      read.map(({ nonce }) => nonce),
      read.map(({ iat }) => iat),
      samples.map(({ kind }) => kind),
      samples.map(({ bytes }) => Buffer.from(bytes)),
      `${BigInt(Date.now()) * 1_000_000n}`,
      samples.map(() => ++sequence),
    ],
  )
}

export const textOf = ({ bytes }: Sample): string => Buffer.from(bytes).toString()

interface Applied {
  readonly ok: boolean
  readonly code?: string
  readonly result: Permit & { readonly level?: string; readonly verdict?: string }
}

const applyAll = async (world: BenchWorld, name: string, samples: readonly Sample[]): Promise<Applied[]> => {
  await claimAll(world, samples)
  const outcomes: Applied[] = []
  for (let from = 0; from < samples.length; from += perCall) {
    const texts = samples.slice(from, from + perCall).map(textOf)
    const { rows } = await world.owner.query(`SELECT outcome FROM ${name}($1) ORDER BY idx`, [texts])
    outcomes.push(...rows.map((row: { outcome: Applied }) => row.outcome))
  }
  const failed = outcomes.find(({ ok }) => !ok)
  if (failed !== undefined) throw new Error(`${name}: ${failed.code}`)
  return outcomes
}

/** Starts so many runs of each device, by the function that starts any run, after a heartbeat of each. */
export const startRuns = async (world: BenchWorld, runsEach: number): Promise<OpenRun[]> => {
  const beats = world.machines.map((machine) =>
    signAs(world, machine, {
      ...{ kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' },
      runners: [{ runner_id: machine.runner, open_runs: runsEach }],
    }),
  )
  await applyAll(world, 'devices.fn_device_heartbeat', beats)
  const wanted = Array.from({ length: runsEach }, () => world.machines).flat()
  const started = wanted.map((machine) => {
    const body = {
      command_hash: someHash(),
      inputs: [{ name: 'prompt.txt', sha256: someHash(), bytes: 2048 }],
    }
    const named = { runner_id: machine.runner, version_id: machine.version }
    return {
      machine,
      body,
      sample: signAs(world, machine, { kind: 'run_start', op_id: newUuidV7(), ...body, ...named }),
    }
  })
  const outcomes = await applyAll(
    world,
    'execution.fn_run_start',
    started.map(({ sample }) => sample),
  )
  return started.map(({ machine, body }, index) => {
    const { verdict, ...permit } = (outcomes[index] as Applied).result
    if (verdict !== 'allow') throw new Error(`a run was not allowed: ${verdict}`)
    return { machine, permit, ...body }
  })
}

/** Signs what an honest edge attests of runs. */
export const attest = (world: BenchWorld, runs: readonly OpenRun[]): Sample[] =>
  runs.map(({ machine, permit, command_hash, inputs }) =>
    signAs(world, machine, {
      ...{ kind: 'attestation', op_id: newUuidV7(), run_id: permit.run_id, command_hash, inputs },
      ...{ stdin_hash: null, stdout_hash: someHash(), outputs: [] },
      ...{ lens_hash: permit.lens_hash, workflow_hash: permit.workflow_hash },
      ...{ started_at: Date.now() - 100, ended_at: Date.now(), exit_code: 0, signal: null },
    }),
  )

/** Attestations on record, and how many of their runs are fully trusted: less than all says that the bench measured a refusal. */
export const countTrusted = async ({ owner }: BenchWorld): Promise<{ attested: number; trusted: number }> => {
  const { rows } = await owner.query(
    `SELECT count(*)::integer AS attested, count(*) FILTER (WHERE e.trust_level = 'fully_trusted')::integer AS trusted
       FROM execution.attestations a
       LEFT JOIN LATERAL (SELECT t.trust_level FROM execution.trust_evaluations t
                           WHERE t.run_id = a.run_id ORDER BY t.id DESC LIMIT 1) e ON true`,
  )
  return rows[0] as { attested: number; trusted: number }
}
