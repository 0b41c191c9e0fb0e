import { makeBattle, makeContender, makeRunner, makeVersion, setLevel } from '@lenserfight/testkit'
import { attested, type Lie, type Members } from './_lies.ts'
import type { Outcome } from './_roads.ts'
import { attestationOf, hashOf, heartbeatOf, nobodys, type Permit, permitOf, runStartOf, type Scene } from './_scene.ts'

/** Sets members of the attacker's own policy, as its owner would. */
const setPolicy = async ({ db, attacker }: Scene, members: Members): Promise<void> => {
  const names = Object.keys(members)
  const values = names.map((_, n) => `$${n + 2}`).join(', ')
  await db.query(
    `INSERT INTO agents.workspace_settings (lenser_id, ${names.join(', ')}) VALUES ($1, ${values})
     ON CONFLICT (lenser_id) DO UPDATE SET ${names.map((name) => `${name} = EXCLUDED.${name}`).join(', ')}`,
    [attacker.lenser, ...Object.values(members)],
  )
}
const renew = ({ road, attacker }: Scene, ...runs: unknown[]): Promise<Outcome> =>
  road.say(attacker.device, { kind: 'run_renew', runs })
const useTool = ({ road, attacker }: Scene, permit: Permit, seq: number, more: Members = {}): Promise<Outcome> =>
  road.say(attacker.device, {
    ...{ kind: 'tool_invocation', run_id: permit.run_id, seq, tool: 'shell', arguments_hash: hashOf(5), ...more },
  })

const failed = ['execution_verified', 'policy_passed'] as const

/** AC-3: a verdict that never was, was another, or is over. */
export const withdrawn: readonly Lie[] = [
  {
    title: 'renewed, and denied, before its end',
    tell: attested(async (scene, permit) => {
      await setPolicy(scene, { approval_default: 'deny' })
      await renew(scene, permit.run_id)
      return { ended_at: Date.now() + 2000 }
    }),
    ends: failed,
  },
  {
    title: 'allowed again after a pause that it lived through',
    tell: attested(async (scene, permit) => {
      await setPolicy(scene, { runner_paused: true })
      await renew(scene, permit.run_id)
      await setPolicy(scene, { runner_paused: false })
      await renew(scene, permit.run_id)
      return { ended_at: Date.now() + 2000 }
    }),
    ends: failed,
  },
  {
    title: 'an end after the last covered second',
    tell: attested(() => ({ ended_at: Date.now() + 75_000 })),
    ends: failed,
  },
  {
    title: 'a start before the permit',
    tell: attested(() => ({ started_at: Date.now() - 600_000 })),
    ends: failed,
  },
  {
    title: 'an end before its start',
    tell: attested(() => ({ started_at: Date.now(), ended_at: Date.now() - 3000 })),
    ends: failed,
  },
]

/** PE-3 and what awaits a person: nothing that was not allowed has passed. */
export const unapproved: readonly Lie[] = [
  {
    title: 'attested without the approval that it awaits',
    tell: async (scene) => {
      await setPolicy(scene, { approval_default: 'require_human' })
      return attested(() => ({}))(scene)
    },
    ends: failed,
  },
  {
    title: 'awaits an approval, and its owner loosens the policy instead',
    tell: async (scene) => {
      await setPolicy(scene, { approval_default: 'require_human' })
      return attested(async (_, permit) => {
        await setPolicy(scene, { approval_default: 'allow' })
        await renew(scene, permit.run_id)
        return {}
      })(scene)
    },
    ends: failed,
  },
  {
    title: 'attested while its account is paused',
    tell: attested(async (scene) => {
      await setPolicy(scene, { runner_paused: true })
      return {}
    }),
    ends: 'workspace_paused',
  },
  {
    title: 'paused at its start, attested when the pause is over',
    tell: async (scene) => {
      await setPolicy(scene, { runner_paused: true })
      return attested(async () => {
        await setPolicy(scene, { runner_paused: false })
        return {}
      })(scene)
    },
    ends: 'policy_denied',
  },
]

const logged =
  (entries: readonly (readonly [number, Members?])[], said: number | undefined, policy: Members = {}): Lie['tell'] =>
  async (scene) => {
    if (Object.keys(policy).length > 0) await setPolicy(scene, policy)
    return attested(async (_, permit) => {
      for (const [seq, more] of entries) await useTool(scene, permit, seq, more)
      return { tool_invocations: said }
    })(scene)
  }

/** WT-3: tool logs with gaps, with what was denied, or other than attested. */
export const toolLogs: readonly Lie[] = [
  { title: 'a whole log', tell: logged([[1], [2]], 2), ends: ['fully_trusted', null] },
  {
    title: 'a tool that was denied',
    tell: logged([[1], [2, { tool: 'mcp/files' }]], 2, { denied_tools: ['mcp/*'] }),
    ends: failed,
  },
  { title: 'a gap', tell: logged([[1], [3]], 2), ends: failed },
  { title: 'a gap, counted over', tell: logged([[1], [3]], 3), ends: failed },
  { title: 'a log that does not begin at 1', tell: logged([[2]], 1), ends: failed },
  { title: 'fewer than were logged', tell: logged([[1], [2]], 1), ends: failed },
  { title: 'more than were logged', tell: logged([[1]], 2), ends: failed },
  { title: 'a log that is not spoken of', tell: logged([[1]], undefined), ends: failed },
]

type Told = (scene: Scene, permit: Permit) => Promise<() => Promise<Outcome>>
const under =
  (told: Told): Lie['tell'] =>
  async (scene) =>
    told(scene, await permitOf(scene.road, scene.attacker))

/** Entries of tool logs that are not the device's to write. */
export const foreignTools: readonly Lie[] = [
  {
    title: 'in another account’s log',
    tell: async (scene) => {
      const permit = await permitOf(scene.road, scene.victim)
      return () => useTool(scene, permit, 1)
    },
    ends: 'run_not_owned',
  },
  {
    title: 'of a run that there never was',
    tell: async (scene) => () => useTool(scene, { run_id: nobodys() }, 1),
    ends: 'unknown_run',
  },
  {
    title: 'after the run was attested',
    tell: under(async (scene, permit) => {
      await scene.road.say(scene.attacker.device, attestationOf(permit))
      return () => useTool(scene, permit, 1)
    }),
    ends: 'run_ended',
  },
  {
    title: 'in the place of another',
    tell: under(async (scene, permit) => {
      await useTool(scene, permit, 1)
      return () => useTool(scene, permit, 1, { arguments_hash: hashOf(6) })
    }),
    ends: 'tool_out_of_order',
  },
  {
    title: 'of a run that was denied',
    tell: async (scene) => {
      await setPolicy(scene, { approval_default: 'deny' })
      return under(async (_, permit) => () => useTool(scene, permit, 1))(scene)
    },
    ends: 'policy_denied',
  },
]

/** What is taken, and changes nothing of anybody's. */
export const idleTalk: readonly Lie[] = [
  {
    title: 'a renewal of another account’s run',
    tell: async (scene) => {
      const { run_id } = await permitOf(scene.road, scene.victim)
      return () => renew(scene, run_id)
    },
    ends: { runs: [{ code: 'run_not_owned' }] },
  },
  {
    title: 'a renewal of a run of the same account’s other device',
    tell: under(
      async ({ road, attacker }, { run_id }) =>
        () =>
          road.say(attacker.other, { kind: 'run_renew', runs: [run_id] }),
    ),
    ends: { runs: [{ code: 'run_not_owned' }] },
  },
  {
    title: 'a renewal of a run that was attested',
    tell: under(async (scene, permit) => {
      await scene.road.say(scene.attacker.device, attestationOf(permit))
      return () => renew(scene, permit.run_id)
    }),
    ends: { runs: [{ code: 'run_ended' }] },
  },
  {
    title: 'a renewal of a run that there never was',
    tell: async (scene) => () => renew(scene, nobodys()),
    ends: { runs: [{ code: 'unknown_run' }] },
  },
  {
    title: 'a heartbeat for another account’s runner',
    tell:
      async ({ road, attacker, victim }) =>
      () =>
        road.say(attacker.device, heartbeatOf(victim)),
    ends: { runners: [] },
  },
]

/** RH-3: a runner that works where nothing may. */
export const unfitRunners: readonly Lie[] = (['revoked', 'blocked', 'unhealthy'] as const).map((level) => ({
  title: `a runner whose device is ${level}, asked for by another device`,
  tell: async ({ db, road, attacker }) => {
    await road.say(attacker.other, heartbeatOf(attacker))
    await setLevel(db, attacker.device.kid, level)
    return () => road.say(attacker.other, runStartOf(attacker))
  },
  ends: 'runner_device_unfit',
}))

/** RH-4: heartbeats of the device that leave the runner out. */
export const silentRunners: readonly Lie[] = [
  {
    title: 'a heartbeat of the device, and none of its runner',
    tell: async ({ db, road, attacker }) => {
      const runner = await makeRunner(db, attacker.device)
      await road.say(attacker.device, heartbeatOf({ runner }))
      const { result } = await road.say(attacker.device, runStartOf(attacker))
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
  {
    title: 'a heartbeat of its runner, on another device',
    tell: async ({ road, attacker }) => {
      await road.say(attacker.other, heartbeatOf(attacker))
      const { result } = await road.say(attacker.device, runStartOf(attacker))
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
]

/** Rule 5: who ran it, for what and pinned to what, other than the permit has it. */
export const otherNames: readonly Lie[] = [
  {
    title: 'another runner',
    tell: attested(async ({ db, attacker }) => ({ runner_id: await makeRunner(db, attacker.device) })),
    ends: failed,
  },
  {
    title: 'another contender',
    tell: attested(async ({ db, attacker: { lenser } }) => ({
      contender_id: await makeContender(db, { lenser, battle: await makeBattle(db) }),
    })),
    ends: failed,
  },
  {
    title: 'another version with the same hashes',
    tell: attested(async ({ db, attacker }) => ({ version_id: (await makeVersion(db, attacker.lenser)).id })),
    ends: failed,
  },
  { title: 'no runner, where the permit names one', tell: attested(() => ({ runner_id: null })), ends: failed },
]

/** Told of a store time that is a verifier's word: what was covered once is covered no more. */
export const lapsed: readonly Lie[] = [
  {
    title: 'a permit of three minutes ago, never renewed',
    tell: async ({ road, attacker }) => {
      const at = Date.now() - 180_000
      const iat = Math.floor(at / 1000)
      await road.say(attacker.device, heartbeatOf(attacker))
      const { result } = await road.say(attacker.device, runStartOf(attacker), { at, iat })
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: failed,
  },
  {
    title: 'a heartbeat of six minutes ago',
    tell: async ({ road, attacker }) => {
      const at = Date.now() - 361_000
      await road.say(attacker.device, heartbeatOf(attacker), { at, iat: Math.floor(at / 1000) })
      const { result } = await road.say(attacker.device, runStartOf(attacker))
      return () => road.say(attacker.device, attestationOf(result))
    },
    ends: ['agent_verified', 'heartbeat_fresh'],
  },
]
