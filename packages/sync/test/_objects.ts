import {
  type Actor,
  actorOf,
  apply,
  type Change,
  type Delta,
  edit,
  emptyState,
  linkOf,
  type ObjectState,
} from '../src/index.ts'

export const deviceA = '00000000-0000-7000-8000-00000000000a'
export const deviceB = '00000000-0000-7000-8000-00000000000b'
export const [a, b] = [actorOf(deviceA, 1), actorOf(deviceB, 1)] as const
export const agent = { class: 'agent_config', object: 'reviewer' }
export const workflow = { class: 'workflow_definition', object: 'release' }
export const graph = { class: 'agent_team_graph', object: 'team' }

/** An edit that changes something. */
export const must = (
  name: typeof agent,
  state: ObjectState,
  actor: Actor,
  change: Change | Record<string, unknown>,
  prev: string | null = null,
): Delta => {
  const asked = typeof change === 'string' ? change : ({ paths: change } as Change)
  const delta = edit(name, state, { actor, prev }, asked)
  if (delta === undefined) throw new Error('changes nothing')
  return delta
}

/** A state after edits, one after another. */
export const after = (
  name: typeof agent,
  edits: readonly (readonly [Actor, Change | Record<string, unknown>])[],
  start: ObjectState = emptyState,
): ObjectState => edits.reduce((state, [actor, change]) => apply(state, must(name, state, actor, change)), start)

/** An actor's edits one after another, as its outbox holds them. */
export const chain = (name: typeof agent, actor: Actor, changes: readonly Record<string, unknown>[]): Delta[] => {
  let state = emptyState
  let prev: string | null = null
  return changes.map((change) => {
    const delta = must(name, state, actor, change, prev)
    state = apply(state, delta)
    prev = linkOf(delta)
    return delta
  })
}
