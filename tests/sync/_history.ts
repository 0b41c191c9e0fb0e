import { CodedError } from '@lenserfight/schemas'
import type { Chance } from '../fault/_random.ts'
import type { Edge } from './_edge.ts'
import { type Edit, randomEdit } from './_edits.ts'

/**
 * What one round does to a machine. `apart`: its line to the gateway is cut. `deaf`: what it says goes through, and it hears
 * nothing. `asleep`: its daemon is stopped and goes on later. `down`: its daemon ends orderly and is started again later.
 */
const conditions = ['together', 'apart', 'deaf', 'asleep', 'down'] as const
export type Condition = (typeof conditions)[number]
const isAble = (condition: Condition): boolean => condition !== 'asleep' && condition !== 'down'

/** An edit that was asked for, and what is known of it: `kept` once the daemon said so. */
export interface Made {
  readonly n: number
  readonly device: string
  readonly edit: Edit
  readonly round: number
  /** What its machine was in: who was `apart` or `deaf` could see nothing that others did in the round. */
  readonly condition: Condition
  /** `unknown`: its daemon was killed meanwhile. */
  readonly end: 'kept' | 'unknown' | 'refused'
}

const drawn = (chance: Chance): Condition => {
  const at = chance.next()
  return at < 0.4 ? 'together' : at < 0.65 ? 'apart' : at < 0.8 ? 'deaf' : at < 0.9 ? 'asleep' : 'down'
}

const become = async (edge: Edge, condition: Condition): Promise<void> => {
  if (condition === 'apart') edge.cut('drop')
  if (condition === 'deaf') edge.cut('mute')
  if (condition === 'asleep') edge.signal('SIGSTOP')
  if (condition === 'down') await edge.end('SIGTERM')
}

/** Has a machine be together with the others again, whatever was done to it. */
export const recover = async (edge: Edge, condition: Condition): Promise<void> => {
  if (condition === 'apart' || condition === 'deaf') edge.join()
  if (condition === 'asleep') edge.signal('SIGCONT')
  if (condition === 'down') await edge.serve()
}

/** What is not there cannot be deleted or brought back. */
const isNothingToDo = (error: unknown): boolean => error instanceof CodedError && error.code === 'object_not_found'
const isCutOff = (error: unknown): boolean => error instanceof CodedError && error.code === 'daemon_unreachable'

type Asked = Omit<Made, 'end' | 'device'>
const makeOne = async (edge: Edge, asked: Asked): Promise<Made> => {
  const made = { ...asked, device: edge.device }
  try {
    await edge.edit(asked.edit)
    return { ...made, end: 'kept' }
  } catch (error) {
    if (isNothingToDo(error)) return { ...made, end: 'refused' }
    if (isCutOff(error)) return { ...made, end: 'unknown' }
    throw error
  }
}

export interface Round {
  readonly edges: readonly Edge[]
  readonly chance: Chance
  readonly round: number
  /** The number of the first edit. */
  readonly from: number
  readonly edits: number
  /** Begun when half of the edits are made. */
  readonly fault: () => Promise<void>
  /** Told what is done, for who reads a failure. */
  readonly note: (line: string) => void
}

/** One round: each machine in a condition of its own, everybody who can edits at once, a daemon and something else is killed. */
export const playRound = async (options: Round): Promise<Made[]> => {
  const { edges, chance, round, from, edits, fault, note } = options
  const [first, ...others] = chance.shuffled(edges)
  // Somebody can always edit.
  const plan = new Map<Edge, Condition>([[first as Edge, chance.next() < 0.5 ? 'together' : 'apart']])
  for (const edge of others) plan.set(edge, drawn(chance))
  note([...plan].map(([edge, condition]) => `${edge.name} ${condition}`).join(', '))
  await Promise.all([...plan].map(([edge, condition]) => become(edge, condition)))
  const able = edges.filter((edge) => isAble(plan.get(edge) ?? 'down'))
  const turns = new Map(able.map((edge): [Edge, Asked[]] => [edge, []]))
  for (let n = from; n < from + edits; n += 1) {
    const edge = able[Math.floor(chance.next() * able.length)] as Edge
    const condition = plan.get(edge) as Condition
    turns.get(edge)?.push({ n, round, condition, edit: randomEdit(chance, n) })
  }
  const killed = able[Math.floor(chance.next() * able.length)] as Edge
  const half = Promise.withResolvers<void>()
  let done = 0
  const work = async (edge: Edge, turn: readonly Asked[]): Promise<Made[]> => {
    const made: Made[] = []
    for (const [index, asked] of turn.entries()) {
      if (edge === killed && index === Math.floor(turn.length / 2)) {
        // While an edit is under way.
        const [interrupted] = await Promise.all([makeOne(edge, asked), edge.end('SIGKILL')])
        made.push(interrupted)
        await edge.serve()
      } else made.push(await makeOne(edge, asked))
      done += 1
      if (done >= edits / 2) half.resolve()
    }
    return made
  }
  const works = Promise.all([...turns].map(([edge, turn]) => work(edge, turn)))
  const [made] = await Promise.all([works, half.promise.then(fault)])
  await Promise.all([...plan].map(([edge, condition]) => recover(edge, condition)))
  return made.flat()
}
