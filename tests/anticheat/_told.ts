import type { OwnerDatabase } from '@lenserfight/testkit'
import type { ExecutionContext, Implementation } from 'ava'
import { evidenceOf } from './_evidence.ts'
import type { Lie } from './_lies.ts'
import type { Road } from './_roads.ts'
import { makeScene } from './_scene.ts'

/** Tells one lie on one road: it ends as it must, and where it is refused, nothing more is stored of anybody concerned. */
const tell = async (t: ExecutionContext, db: OwnerDatabase, road: Road, lie: Lie): Promise<void> => {
  const name = `${lie.title} [${road.name}]`
  const scene = await makeScene(db, road)
  const concerned = [scene.attacker.lenser, scene.victim.lenser]
  const last = await lie.tell(scene)
  const before = await evidenceOf(db, concerned)
  const outcome = await last()
  if (typeof lie.ends === 'string') {
    t.is(outcome.code ?? 'ok', lie.ends, name)
    t.deepEqual(await evidenceOf(db, concerned), before, name)
    return
  }
  const [level, reason] = lie.ends
  t.is(outcome.code, undefined, name)
  t.like(outcome.result, { level, reason }, name)
  const after = await evidenceOf(db, concerned)
  t.is(after['execution.attestations'], (before['execution.attestations'] ?? 0) + 1, name)
}

/** A test that tells these lies on each of these roads. */
export const told =
  (
    world: () => { readonly db: OwnerDatabase; readonly roads: readonly Road[] },
    lies: readonly Lie[],
  ): Implementation<[]> =>
  async (t) => {
    const { db, roads } = world()
    for (const road of roads) await Promise.all(lies.map((lie) => tell(t, db, road, lie)))
  }
