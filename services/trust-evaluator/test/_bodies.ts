import { newUuidV7 } from '@lenserfight/envelope'
import { makeSubmission, makeVersion } from '@lenserfight/testkit'
import { type Arrival, type Device, hashOf, type Outcome, type World } from './_world.ts'

type Body = Record<string, unknown>

export const heartbeat = (more: Body = {}) => ({
  kind: 'heartbeat' as const,
  daemon_version: '0.1.0',
  gateway_status: 'connected',
  ...more,
})

export const lifecycle = (more: Body = {}) => ({
  kind: 'lifecycle' as const,
  op_id: newUuidV7(),
  event: 'start',
  daemon_version: '0.1.0',
  at: Date.now(),
  ...more,
})

export const canary = (more: Body = {}) => ({ kind: 'canary' as const, sent_at: Date.now(), ...more })

export const runStart = (more: Body = {}) => ({
  kind: 'run_start' as const,
  op_id: newUuidV7(),
  command_hash: hashOf(1),
  inputs: [{ name: 'in.txt', sha256: hashOf(2), bytes: 3 }],
  ...more,
})

/** The claimed times of a run that ended then, milliseconds since 1970. */
export const ranAt = (ended: number) => ({ started_at: ended - 123, ended_at: ended })

export const runRenew = (runs: readonly unknown[]) => ({ kind: 'run_renew' as const, runs })

export const runWithdraw = (run_id: unknown) => ({ kind: 'run_withdraw' as const, op_id: newUuidV7(), run_id })

export const toolInvocation = (run_id: unknown, seq: number, more: Body = {}) => ({
  kind: 'tool_invocation' as const,
  op_id: newUuidV7(),
  run_id,
  seq,
  tool: 'mcp/files.read',
  arguments_hash: hashOf(6),
  ...more,
})

/** What an honest edge attests of a run: the hashes of its permit, and what came of it. */
export const attestation = (permit: Body, more: Body = {}) => ({
  kind: 'attestation' as const,
  op_id: newUuidV7(),
  run_id: permit.run_id,
  command_hash: hashOf(1),
  stdin_hash: null,
  stdout_hash: hashOf(3),
  inputs: [{ name: 'in.txt', sha256: hashOf(2), bytes: 3 }],
  outputs: [],
  lens_hash: permit.lens_hash ?? null,
  workflow_hash: permit.workflow_hash ?? null,
  ...ranAt(Date.now()),
  exit_code: 0,
  signal: null,
  ...more,
})

/** An account with an approved device, a runner bound to it, and a lens version with both hashes. */
export interface Setting {
  readonly lenser: string
  readonly device: Device
  readonly runner: string
  readonly version: string
}

export const addRunner = async (world: World, device: Device): Promise<string> => {
  const runner = await world.insert('execution.runners', { lenser_id: device.lenser, name: newUuidV7() })
  await world.insert('execution.runner_device_bindings', { runner_id: runner, device_id: device.id })
  return runner
}

export const addVersion = async (world: World, lenser: string): Promise<string> =>
  (await makeVersion(world.owner, lenser)).id

export const addSetting = async (world: World): Promise<Setting> => {
  const lenser = await world.addLenser()
  const device = await world.addDevice(lenser)
  return { lenser, device, runner: await addRunner(world, device), version: await addVersion(world, lenser) }
}

export const addSubmission = (world: World, lenser: string, contender: string | null = null): Promise<string> =>
  makeSubmission(world.owner, { lenser, contender })

/** A heartbeat that reports the runner alive. */
export const beatOf = ({ runner }: Pick<Setting, 'runner'>, more: Body = {}) =>
  heartbeat({ runners: [{ runner_id: runner, open_runs: 1 }], ...more })

/** A heartbeat, then a run with everything named, both stored as `arrival` says; its permit. */
export const startRun = async (
  world: World,
  setting: Setting,
  more: Body = {},
  arrival: Arrival = {},
): Promise<Body> => {
  const { device, runner, version } = setting
  await world.send(device, beatOf(setting), arrival)
  const op_id = newUuidV7(arrival.stored)
  const started = await world.send(
    device,
    runStart({ runner_id: runner, version_id: version, op_id, ...more }),
    arrival,
  )
  if (!started.ok) throw new TypeError(`run_start: ${started.code}`)
  return started.result
}

/** A run and its attestation, everything as it should be; `more` changes the attestation. */
export const runAndAttest = async (world: World, setting: Setting, more: Body = {}): Promise<Outcome> =>
  world.send(setting.device, attestation(await startRun(world, setting), more))
