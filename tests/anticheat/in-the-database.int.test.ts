import { call } from '@lenserfight/db'
import test from 'ava'
import { useDatabase } from './_database.ts'
import * as lies from './_lies.ts'
import * as policyLies from './_policy-lies.ts'
import { makeScene } from './_scene.ts'
import { told } from './_told.ts'

// Every worker passes on whatever it is given, and what is left is the database.
const world = useDatabase(test)

/** Works XP jobs, as the worker that may, until none of these accounts has any left. */
const settleXp = async (lensers: readonly string[]): Promise<void> => {
  const { db, roles } = world()
  for (const end = Date.now() + 60_000; ; ) {
    await call(roles.pool('ltg_trust_evaluator'), 'xp.fn_work_jobs', [1000])
    const pending = `SELECT FROM xp.jobs WHERE lenser_id = ANY ($1) AND state = 'pending'`
    if ((await db.query(pending, [lensers])).rowCount === 0) return
    if (Date.now() > end) throw new Error('jobs stay')
  }
}

test('AC-4 AC-5: XP and reputation know what the server derived, and no lie', async (t) => {
  const { db, road } = world()
  const told = [...lies.truth, ...lies.flagLies, ...lies.unbound.slice(0, 2), ...policyLies.toolLogs.slice(1, 3)]
  const ends = await Promise.all(
    told.map(async (lie) => {
      const scene = await makeScene(db, road)
      const { result } = await (await lie.tell(scene))()
      return { lie, result, lenser: scene.attacker.lenser }
    }),
  )
  await settleXp(ends.map(({ lenser }) => lenser))
  for (const { lie, result, lenser } of ends) {
    const earned = lie.ends[0] === 'fully_trusted' ? [{ source_id: result.run_id, amount: 50 }] : []
    const ledger = `SELECT source_id, amount FROM xp.ledger
                     WHERE lenser_id = $1 AND rule = 'VERIFIED_LOCAL_EXECUTION_COMPLETED'`
    t.deepEqual((await db.query(ledger, [lenser])).rows, earned, lie.title)
    const counted = { fully_trusted: 0, execution_verified: 0, device_verified: 0, agent_verified: 0 }
    const { rows } = await db.query('SELECT * FROM reputation.lenser_scores WHERE lenser_id = $1', [lenser])
    t.like(rows[0], { ...counted, [result.level]: 1 }, lie.title)
  }
})

test('what nobody lied about is fully trusted on this road', told(world, lies.truth))
test('AC-1 AC-2 AC-3: flags that a client sends lift nothing', told(world, lies.flagLies))
test('EA-1: a run of another account or device, or none, is attested by nobody', told(world, lies.foreignRuns))
test('a run names nothing of another account, and no submission twice', told(world, lies.foreignNames))
test('rule 5: what is attested other than permitted has not passed the policy', told(world, lies.otherThanPermitted))
test('WT-1 WT-2: hashes that are missing, invented or changed under way', told(world, lies.unpinned))
test('mistake 4: no level of a runner without its binding from permit to attestation', told(world, lies.unbound))
test('RH-4: without a heartbeat of its own a run stays at agent_verified', told(world, lies.heartbeatless))
test('a contender that is no agent, and a version that is none', told(world, lies.wrongContenders))
test('PE-3: what the policy denied is attested by nobody', told(world, lies.denied))
test('AC-3: what was withdrawn, or is not covered, has not passed the policy', told(world, policyLies.withdrawn))
test('PE-3: what awaits a person, or came to a pause, has not passed either', told(world, policyLies.unapproved))
test('WT-3: a tool log that is not whole, or not allowed, has not passed either', told(world, policyLies.toolLogs))
test('EA-1: nobody writes in another run’s tool log, or in one that is over', told(world, policyLies.foreignTools))
test('EA-1: renewals and heartbeats about what is another’s change nothing', told(world, policyLies.idleTalk))
test('RH-3: a runner whose device is unfit starts nothing anywhere', told(world, policyLies.unfitRunners))
test('RH-4: a runner that its own device does not report is not heard', told(world, policyLies.silentRunners))
test('rule 5: another runner, contender or version than the permit’s', told(world, policyLies.otherNames))
test('AC-3 RH-4: permits and heartbeats of long ago are over', told(world, policyLies.lapsed))
test('a device that fell under way attests nothing', told(world, lies.fallenDevices))
