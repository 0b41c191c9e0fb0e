import type { ExecutionFact, ExecutionLevel, ReasonCode } from '@lenserfight/schemas'
import { makeBattle, makeContender, makeRunner, makeSubmission, setLevel } from '@lenserfight/testkit'
import type { Outcome } from './_roads.ts'
import { attestationOf, hashOf, heartbeatOf, nobodys, type Party, permitOf, runStartOf, type Scene } from './_scene.ts'

/** What a device says with its own key that is not so, and how that must end on every road. */
export interface Lie {
  readonly title: string
  /** What is told; the lie itself, as the last thing said. Returns what it needs of what came before. */
  readonly tell: (scene: Scene) => Promise<() => Promise<Outcome>>
  /** Refused with a code; or taken, and worth no more than this for want of that; or taken, and answered so, without effect. */
  readonly ends: ReasonCode | readonly [ExecutionLevel, ExecutionFact | null] | Members
}

export type Members = Readonly<Record<string, unknown>>

/** An honest permit of the attacker's, and an attestation under it with these members other than they should be. */
export const attested =
  (lie: (scene: Scene, permit: Members) => Members | Promise<Members>, asked: Members = {}): Lie['tell'] =>
  async (scene) => {
    const { road, attacker } = scene
    const permit = await permitOf(road, attacker, asked)
    const said = attestationOf(permit, await lie(scene, permit))
    return () => road.say(attacker.device, said)
  }
/** A run asked for with these members other than they should be. */
const asked =
  (lie: (scene: Scene) => Members | Promise<Members>): Lie['tell'] =>
  async (scene) => {
    const { road, attacker } = scene
    await road.say(attacker.device, heartbeatOf(attacker))
    const said = runStartOf(attacker, await lie(scene))
    return () => road.say(attacker.device, said)
  }
const flags = (value: boolean): Members => ({
  ...{ signed: value, gateway_verified: value, device_trusted: value, policy_passed: value },
})
const endBindings = ({ db }: Scene, runner: string) =>
  db.query(
    `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = clock_timestamp()
      WHERE runner_id = $1 AND status = 'active'`,
    [runner],
  )
const bind = ({ db }: Scene, runner: string, { kid }: Party['device']) =>
  db.query('INSERT INTO execution.runner_device_bindings (runner_id, device_id) VALUES ($1, $2)', [runner, kid])

/** What nobody lied about: else every other row here would prove nothing. */
export const truth: readonly Lie[] = [
  { title: 'an honest run', tell: attested(() => ({})), ends: ['fully_trusted', null] },
  {
    title: 'an honest run whose client denies all flags',
    tell: attested(() => flags(false)),
    ends: ['fully_trusted', null],
  },
]

/** AC-1, AC-2, AC-3: flags that a client sends; what would be short of the level stays so. */
export const flagLies: readonly Lie[] = [
  {
    title: 'all flags true, for a command that was not permitted',
    tell: attested(() => ({ ...flags(true), command_hash: hashOf(9) })),
    ends: ['execution_verified', 'policy_passed'],
  },
  {
    title: 'all flags true, without a heartbeat',
    tell: async ({ road, attacker }) => {
      const { result } = await road.say(attacker.device, runStartOf(attacker))
      return () => road.say(attacker.device, attestationOf(result, flags(true)))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
]

/** EA-1: runs that are not the device's to attest. */
export const foreignRuns: readonly Lie[] = [
  {
    title: 'another account’s run',
    tell: attested(async ({ road, victim }) => ({ run_id: (await permitOf(road, victim)).run_id })),
    ends: 'run_not_owned',
  },
  {
    title: 'a run of the same account’s other device',
    tell: async ({ road, attacker }) => {
      const permit = await permitOf(road, attacker)
      return () => road.say(attacker.other, attestationOf(permit))
    },
    ends: 'run_not_owned',
  },
  { title: 'a run that there never was', tell: attested(() => ({ run_id: nobodys() })), ends: 'unknown_run' },
]

/** A run names what is another account's, or taken. */
export const foreignNames: readonly Lie[] = [
  {
    title: 'another account’s runner',
    tell: asked(({ victim }) => ({ runner_id: victim.runner })),
    ends: 'unknown_runner',
  },
  {
    title: 'another account’s contender',
    tell: asked(({ victim }) => ({ contender_id: victim.contender, submission_id: undefined })),
    ends: 'unknown_contender',
  },
  {
    title: 'another account’s version',
    tell: asked(({ victim }) => ({ version_id: victim.version })),
    ends: 'unknown_version',
  },
  {
    title: 'another account’s submission',
    tell: asked(({ victim }) => ({ contender_id: undefined, submission_id: victim.submission })),
    ends: 'unknown_submission',
  },
  {
    title: 'a submission of another contender of its own',
    tell: asked(async ({ db, attacker: { lenser } }) => ({
      submission_id: await makeSubmission(db, { lenser, contender: await makeContender(db, { lenser }) }),
    })),
    ends: 'unknown_submission',
  },
  {
    title: 'a submission that another run backs',
    tell: async (scene) => {
      await permitOf(scene.road, scene.attacker)
      return asked(() => ({}))(scene)
    },
    ends: 'submission_taken',
  },
]

/** What was attested is not what was permitted (trust.md, rules 4, 5, 11). */
export const otherThanPermitted: readonly Lie[] = [
  {
    title: 'another command',
    tell: attested(() => ({ command_hash: hashOf(9) })),
    ends: ['execution_verified', 'policy_passed'],
  },
  {
    title: 'without its inputs',
    tell: attested(() => ({ inputs: [] })),
    ends: ['execution_verified', 'policy_passed'],
  },
  {
    title: 'an input’s other content',
    tell: attested(() => ({ inputs: [{ name: 'LTG-CANARY.txt', sha256: hashOf(9), bytes: 3 }] })),
    ends: ['execution_verified', 'policy_passed'],
  },
  {
    title: 'another lens',
    tell: attested(() => ({ lens_hash: hashOf(9) })),
    ends: ['agent_verified', 'version_unchanged'],
  },
  {
    title: 'another workflow',
    tell: attested(() => ({ workflow_hash: hashOf(9) })),
    ends: ['agent_verified', 'version_unchanged'],
  },
  {
    title: 'another content than attested before',
    tell: async (scene) => {
      const { road, attacker } = scene
      const permit = await permitOf(road, attacker)
      await road.say(attacker.device, attestationOf(permit))
      return () => road.say(attacker.device, attestationOf(permit, { stdout_hash: hashOf(9) }))
    },
    ends: 'already_attested',
  },
]

/** WT-1, WT-2: hashes that are missing, invented, or changed under way. */
export const unpinned: readonly Lie[] = [
  {
    title: 'no version, and no hashes',
    tell: attested(() => ({ lens_hash: null, workflow_hash: null }), { version_id: undefined }),
    ends: ['execution_verified', 'workflow_hash'],
  },
  {
    title: 'no version, and invented hashes',
    tell: attested(() => ({ lens_hash: hashOf(4), workflow_hash: hashOf(5) }), { version_id: undefined }),
    ends: ['agent_verified', 'version_unchanged'],
  },
  {
    title: 'a version, and no hashes of it',
    tell: attested(() => ({ lens_hash: null, workflow_hash: null })),
    ends: ['agent_verified', 'version_unchanged'],
  },
  {
    title: 'a version whose lens was changed under way',
    tell: attested(async ({ db, attacker }) => {
      await db.query('UPDATE lenses.versions SET lens_hash = $2 WHERE id = $1', [attacker.version, Buffer.alloc(32, 9)])
      return {}
    }),
    ends: ['agent_verified', 'version_unchanged'],
  },
]

/** Mistake 4: a runner that has no binding to this device from before the permit until the attestation. */
export const unbound: readonly Lie[] = [
  {
    title: 'no runner named',
    tell: attested(() => ({}), { runner_id: undefined }),
    ends: ['device_verified', 'runner_named'],
  },
  {
    title: 'a runner that was never bound',
    tell: asBound(async (scene, runner) => endBindings(scene, runner)),
    ends: ['device_verified', 'binding_active'],
  },
  {
    title: 'a runner that is bound to another device of the account',
    tell: asBound(async (scene, runner) => {
      await endBindings(scene, runner)
      await bind(scene, runner, scene.attacker.other)
    }),
    ends: ['device_verified', 'binding_active'],
  },
  {
    title: 'a runner that was bound after the permit',
    tell: asBound(
      async (scene, runner) => endBindings(scene, runner),
      async (scene, runner) => bind(scene, runner, scene.attacker.device),
    ),
    ends: ['device_verified', 'binding_active'],
  },
  {
    title: 'a runner whose binding ended under way',
    tell: asBound(undefined, async (scene, runner) => endBindings(scene, runner)),
    ends: ['device_verified', 'binding_active'],
  },
  {
    title: 'a runner that was bound elsewhere and back under way',
    tell: asBound(undefined, async (scene, runner) => {
      await endBindings(scene, runner)
      await bind(scene, runner, scene.attacker.other)
      await endBindings(scene, runner)
      await bind(scene, runner, scene.attacker.device)
    }),
    ends: ['device_verified', 'binding_active'],
  },
]

type Rebind = (scene: Scene, runner: string) => Promise<unknown>
/** What happens to the runner's bindings before the permit, and between permit and attestation. */
function asBound(before?: Rebind, under?: Rebind): Lie['tell'] {
  return async (scene) => {
    const { db, road, attacker } = scene
    const runner = await makeRunner(db, attacker.device)
    await before?.(scene, runner)
    await road.say(attacker.device, heartbeatOf({ runner }))
    const { result } = await road.say(attacker.device, runStartOf(attacker, { runner_id: runner }))
    await under?.(scene, runner)
    return () => road.say(attacker.device, attestationOf(result))
  }
}

/** RH-4: heartbeats that are missing, or of others. */
export const heartbeatless: readonly Lie[] = [
  {
    title: 'no heartbeat at all',
    tell: async ({ road, attacker }) => {
      const { result } = await road.say(attacker.device, runStartOf(attacker))
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
  {
    title: 'the heartbeat of another device of the account',
    tell: async ({ road, attacker }) => {
      await road.say(attacker.other, heartbeatOf(attacker))
      const { result } = await road.say(attacker.device, runStartOf(attacker, { runner_id: undefined }))
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
]

/** Whose contender it is, and what kind it says it is. */
export const wrongContenders: readonly Lie[] = [
  {
    title: 'a person’s contender',
    tell: async (scene) => {
      const { db, attacker } = scene
      const battle = await makeBattle(db)
      const contender = await makeContender(db, { lenser: attacker.lenser, kind: 'human', battle })
      return attested(() => ({}), { contender_id: contender, submission_id: undefined })(scene)
    },
    ends: ['account_verified', 'contender_is_agent'],
  },
  {
    title: 'a version of its own that nobody made',
    tell: asked(() => ({ version_id: nobodys() })),
    ends: 'unknown_version',
  },
]

/** PE-3: after a verdict that permits nothing. */
export const denied: readonly Lie[] = [
  {
    title: 'a run that the policy denied, attested all the same',
    tell: async (scene) => {
      const { db, attacker } = scene
      await db.query(
        `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'deny')
         ON CONFLICT (lenser_id) DO UPDATE SET approval_default = 'deny'`,
        [attacker.lenser],
      )
      return attested(() => flags(true))(scene)
    },
    ends: 'policy_denied',
  },
]

/** Brings the attacker's device to a level between its permit and its attestation; only where no broker is in between. */
export const fallenDevices: readonly Lie[] = (['revoked', 'blocked', 'unhealthy'] as const).map((level) => ({
  title: `a device that was ${level} under way`,
  tell: attested(async ({ db, attacker }) => {
    await setLevel(db, attacker.device.kid, level)
    return flags(true)
  }),
  ends: `device_${level}` as const,
}))
