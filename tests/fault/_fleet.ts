import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeKey } from '@lenserfight/envelope'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import {
  type Account,
  makeAccount,
  makeDevice,
  makeRunner,
  makeSession,
  makeVersion,
  type Signatory,
  type Version,
} from '@lenserfight/testkit'
import { connectClient, type DeviceClient, type ResendTiming, type Settled } from '@lenserfight/testkit/device'

export interface FleetOptions {
  readonly lensers: number
  readonly devicesEach: number
  readonly resend: ResendTiming
}

/** A device under load: it runs, bound and pinned, so that everything it attests can be fully trusted. */
export interface Machine {
  readonly client: DeviceClient
  readonly runner: string
  readonly version: Version
}

/** Several accounts with their devices and a session each, connected as edges are. */
export interface Fleet {
  readonly accounts: readonly Account[]
  readonly machines: readonly Machine[]
  readonly sessions: readonly DeviceClient[]
  readonly clients: readonly DeviceClient[]
  readonly settled: () => Settled[]
  /** Envelopes that nothing was heard of yet. */
  readonly inFlight: () => number
  readonly close: () => Promise<void>
}

/** Comes back quickly, so that a test is about what was lost and not about waiting. */
const reconnect = { floorMs: 50, firstCeilingMs: 300, ceilingMs: 1000 }

export const createFleet = async (stack: Stack, options: FleetOptions): Promise<Fleet> => {
  const { lensers, devicesEach, resend } = options
  const connectAs = (signatory: Signatory): Promise<DeviceClient> =>
    connectClient({ descriptor: stack.descriptor, keyList: stack.gatewayKeys.list, signatory, resend, reconnect })
  const makeMachine = async (db: PgClient, lenser: string): Promise<Machine> => {
    const device = await makeDevice(db, { lenser })
    const [runner, version] = [await makeRunner(db, device), await makeVersion(db, lenser)]
    return { client: await connectAs(device), runner, version }
  }
  const accounts: Account[] = []
  const machines: Machine[] = []
  const sessions: DeviceClient[] = []
  await withClient(stack.owner, async (db) => {
    for (let n = 0; n < lensers; n += 1) {
      const account = await makeAccount(db)
      accounts.push(account)
      sessions.push(await connectAs(await makeSession(db, account.lenser)))
      for (let m = 0; m < devicesEach; m += 1) machines.push(await makeMachine(db, account.lenser))
    }
  })
  const clients = [...machines.map(({ client }) => client), ...sessions]
  const settled = (): Settled[] => clients.flatMap((client) => client.settled)
  const close = async (): Promise<void> => {
    await Promise.all(clients.map((client) => client.close()))
  }
  const inFlight = (): number => clients.reduce((sum, client) => sum + client.inFlight(), 0)
  return { accounts, machines, sessions, clients, settled, inFlight, close }
}

const hash = (): string => encodeKey(randomBytes(32))
// A log that shows this shows something of a body: the run's log scan looks for it.
const file = () => ({ name: 'LTG-CANARY.txt', sha256: hash(), bytes: 3 })

export const sendHeartbeat = ({ client, runner }: Machine): Promise<Settled> =>
  client.send({
    ...{ kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' },
    runners: [{ runner_id: runner, open_runs: 1 }],
  })

/** A run that was permitted, and what its attestation must repeat. */
export interface Permit {
  readonly machine: Machine
  readonly start: Settled
  readonly said: { readonly command_hash: string; readonly inputs: readonly object[] }
}

export const startRun = async (machine: Machine): Promise<Permit> => {
  const said = { command_hash: hash(), inputs: [file()] }
  const named = { runner_id: machine.runner, version_id: machine.version.id }
  return { machine, said, start: await machine.client.send({ kind: 'run_start', ...said, ...named }) }
}

/** Attests a permitted run as an honest edge does. */
export const attest = ({ machine, start, said }: Permit): Promise<Settled> => {
  const { lensHash, workflowHash } = machine.version
  // What a permit that came late would not have covered was not run.
  const ended_at = Math.min(Date.now(), Number(start.outcome.result?.covered_until))
  return machine.client.send({
    ...{ kind: 'attestation', run_id: start.outcome.result?.run_id, ...said },
    ...{ stdin_hash: null, stdout_hash: hash(), outputs: [file()] },
    ...{ lens_hash: lensHash.toString('base64url'), workflow_hash: workflowHash.toString('base64url') },
    ...{ started_at: ended_at - 5, ended_at, exit_code: 0, signal: null },
  })
}

/** An owner's request that changes something: a new runner on a device of the account. */
export const bindRunner = (session: DeviceClient, machine: Machine, name: string): Promise<Settled> =>
  session.send({ kind: 'runner_bind', name, device_id: machine.client.signatory.kid })

/** How many of these are over, as they come to their end. */
export const countSettled = (promises: readonly Promise<unknown>[]): (() => number) => {
  let count = 0
  for (const promise of promises) void promise.then(() => (count += 1))
  return () => count
}

/** Waits until this share of a wave is over. */
export const untilShare = async (wave: readonly Promise<unknown>[], share: number): Promise<void> => {
  const settled = countSettled(wave)
  while (settled() < share * wave.length) await sleep(2)
}

/** Waves of one fleet: each device starts so many runs, then attests them, then starts others. */
export interface Load {
  readonly fleet: Fleet
  /** How many operations and heartbeats it began. */
  readonly began: () => number
  /** Each device's heartbeat; what it attests in the five minutes after can be fully trusted. */
  readonly heartbeat: () => Promise<unknown>
  /** Counts what was begun besides. */
  readonly also: (ends: readonly Promise<Settled>[]) => readonly Promise<Settled>[]
  readonly wave: () => readonly Promise<unknown>[]
}

/** A wave is sent over this time, so that there is a moment at which everybody in its way is at work. Milliseconds. */
export const waveMs = 600

const paced = async <T>(share: number, begin: () => Promise<T>): Promise<T> => {
  await sleep(waveMs * share)
  return begin()
}

/** The first heartbeats are sent when it resolves. */
export const createLoad = async (fleet: Fleet, each: number): Promise<Load> => {
  let began = 0
  let permits: Promise<Permit>[] = []
  const also = (ends: readonly Promise<Settled>[]): readonly Promise<Settled>[] => {
    began += ends.length
    return ends
  }
  const heartbeat = () => Promise.all(also(fleet.machines.map(sendHeartbeat)))
  await heartbeat()
  const wave = (): readonly Promise<unknown>[] => {
    const attested = permits
    permits = []
    if (attested.length === 0) {
      const places = fleet.machines.flatMap((machine) =>
        Array.from({ length: each }, (_, place) => ({ machine, place })),
      )
      permits = places.map(({ machine, place }) => paced(place / each, () => startRun(machine)))
    }
    const attestations = attested.map((permit, place) => paced((place % each) / each, async () => attest(await permit)))
    const ends = attested.length === 0 ? permits : attestations
    began += ends.length
    return ends
  }
  return { fleet, began: () => began, heartbeat, also, wave }
}
