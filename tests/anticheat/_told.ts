import type { OwnerDatabase } from '@lenserfight/testkit'
import type { ExecutionContext, Implementation } from 'ava'
import { type Evidence, evidenceOf } from './_evidence.ts'
import type { Lie } from './_lies.ts'
import type { Road } from './_roads.ts'
import { makeScene } from './_scene.ts'

/** Tells one lie on one road: it ends as it must, and where it is refused, nothing more is stored of anybody concerned. */
const tell = async (t: ExecutionContext, db: OwnerDatabase, road: Road, lie: Lie): Promise<void> => {
  const name = `${lie.title} [${road.name}]`
  const scene = await makeScene(db, road)
  const { attacker, victim } = scene
  const last = await lie.tell(scene)
  const concerned = [attacker.lenser, victim.lenser]
  const before = await evidenceOf(db, concerned)
  const outcome = await last()
  const after = await evidenceOf(db, concerned)
  if (!Array.isArray(lie.ends)) {
    if (typeof lie.ends === 'string') t.is(outcome.code ?? 'ok', lie.ends, name)
    else t.like(outcome.result, lie.ends, `${name}: ${outcome.code}`)
    t.deepEqual(after, before, name)
    return
  }
  const [level, reason] = lie.ends
  t.like(outcome.result, { level, reason }, `${name}: ${outcome.code}`)
  const countOf = (found: Evidence): number => found['execution.attestations of 1']?.count ?? 0
  t.is(countOf(after), countOf(before) + 1, name)
  t.deepEqual(ofVictim(after), ofVictim(before), name)
}
const ofVictim = (found: Evidence): unknown =>
  Object.fromEntries(Object.entries(found).filter(([name]) => name.endsWith(' of 2')))

/** Scenes under way at once: each looks through every table of evidence. */
const most = 6
let free = most
const waiting: (() => void)[] = []
const inTurn = async (act: () => Promise<void>): Promise<void> => {
  if (free > 0) free -= 1
  else await new Promise<void>((go) => waiting.push(go))
  try {
    await act()
  } finally {
    const next = waiting.shift()
    if (next === undefined) free += 1
    else next()
  }
}

/** A test that tells these lies on each of these roads. */
export const told =
  (
    world: () => { readonly db: OwnerDatabase; readonly roads: readonly Road[] },
    lies: readonly Lie[],
  ): Implementation<[]> =>
  async (t) => {
    const { db, roads } = world()
    for (const road of roads) await Promise.all(lies.map((lie) => inTurn(() => tell(t, db, road, lie))))
  }
