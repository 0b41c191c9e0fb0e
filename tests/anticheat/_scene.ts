import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import {
  type Account,
  makeAccount,
  makeBattle,
  makeContender,
  makeDevice,
  makeRunner,
  makeSession,
  makeSubmission,
  makeVersion,
  type OwnerDatabase,
  type Signatory,
} from '@lenserfight/testkit'
import type { Road } from './_roads.ts'
import type { Said } from './_seal.ts'

/** An account with all that a run can name, its own throughout. */
export interface Party extends Account {
  readonly device: Signatory
  /** Another approved device of the account. */
  readonly other: Signatory
  readonly session: Signatory
  /** Bound to `device`. */
  readonly runner: string
  readonly version: string
  readonly contender: string
  readonly submission: string
}

export const makeParty = async (db: OwnerDatabase): Promise<Party> => {
  const account = await makeAccount(db)
  const { lenser } = account
  const device = await makeDevice(db, { lenser })
  const battle = await makeBattle(db)
  const contender = await makeContender(db, { lenser, battle })
  return {
    ...{ ...account, device, contender },
    other: await makeDevice(db, { lenser }),
    session: await makeSession(db, lenser),
    runner: await makeRunner(db, device),
    version: (await makeVersion(db, lenser)).id,
    submission: await makeSubmission(db, { lenser, contender }),
  }
}

type Members = Readonly<Record<string, unknown>>
/** What a run_start came back with. */
export type Permit = Members

export const hashOf = (byte: number): string => encodeKey(new Uint8Array(32).fill(byte))
const inputs = [{ name: 'LTG-CANARY.txt', sha256: hashOf(2), bytes: 3 }]

export const heartbeatOf = ({ runner }: Pick<Party, 'runner'>): Said => ({
  kind: 'heartbeat',
  daemon_version: '0.1.0',
  gateway_status: 'connected',
  runners: [{ runner_id: runner, open_runs: 0 }],
})
/** Names all that the account has, so that an honest run of it can be fully trusted; undefined leaves a member out. */
export const runStartOf = ({ runner, version, contender, submission }: Party, more: Members = {}): Said =>
  without({
    ...{ kind: 'run_start', command_hash: hashOf(1), inputs, runner_id: runner, version_id: version },
    ...{ contender_id: contender, submission_id: submission, ...more },
  })
/** What an honest edge says of a run under this permit. */
export const attestationOf = (permit: Permit, more: Members = {}): Said =>
  without({
    ...{ kind: 'attestation', run_id: permit.run_id, command_hash: hashOf(1), inputs, outputs: [] },
    ...{ stdin_hash: null, stdout_hash: hashOf(3), lens_hash: permit.lens_hash, workflow_hash: permit.workflow_hash },
    ...{ started_at: Date.now() - 5, ended_at: Date.now(), exit_code: 0, signal: null, ...more },
  })
const without = (members: Members): Said =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Said

/** The stage of one lie: who tells it, whom it would hurt, and the road that it takes. */
export interface Scene {
  readonly db: OwnerDatabase
  readonly road: Road
  readonly attacker: Party
  readonly victim: Party
}

export const makeScene = async (db: OwnerDatabase, road: Road): Promise<Scene> => ({
  ...{ db, road },
  attacker: await makeParty(db),
  victim: await makeParty(db),
})

/** A heartbeat, then an honest run_start of the party's device; its permit. */
export const permitOf = async (road: Road, party: Party, more: Members = {}): Promise<Permit> => {
  await road.say(party.device, heartbeatOf(party))
  const { result, code } = await road.say(party.device, runStartOf(party, more))
  if (result === undefined) throw new Error(`run_start was refused: ${code}`)
  return result
}

/** An id that nothing has. */
export const nobodys = newUuidV7
