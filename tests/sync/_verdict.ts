import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { until } from '../e2e/_machine.ts'
import type { Edge } from './_edge.ts'
import type { Made } from './_history.ts'
import { type Expected, type Logged, sortedJson } from './_oracle.ts'
import { isAtRest } from './_server.ts'

/** All objects of a machine that edges write, as people see them, by `class object`. */
export const viewOf = async (edge: Edge, classes: readonly string[]): Promise<Record<string, Expected>> => {
  const view: Record<string, Expected> = {}
  for (const name of await edge.names()) {
    const [className, object] = name.split(' ') as [string, string]
    if (!classes.includes(className)) continue
    const { alive, paths, conflicts } = await edge.get(className, object)
    const sides = conflicts.map(({ path, sides: of }): [string, string[]] => [
      path,
      of.map(({ value }) => sortedJson(value)).sort(),
    ])
    view[name] = { alive, paths, conflicts: Object.fromEntries(sides) }
  }
  return view
}

/** Waits until every machine has flushed and pulled, and the gateway has nothing under way. */
export const allQuiet = async (stack: Stack, edges: readonly Edge[]): Promise<void> => {
  for (const edge of edges) await edge.flushed()
  await until(() => isAtRest(stack), 'the gateway at rest')
  await Promise.all(edges.map((edge) => edge.pull()))
}

/** How often each edit's own value was logged for its device and object; only those that differ from what must be. */
export const miscounted = (made: readonly Made[], logged: readonly Logged[]): readonly string[] => {
  const byObject = Map.groupBy(logged, ({ device, class: name, object }) => `${device} ${name} ${object}`)
  return made.flatMap(({ n, device, edit, end }) => {
    if (edit.act !== 'set') return []
    const own = byObject.get(`${device} ${edit.class} ${edit.object}`) ?? []
    const [path = ''] = Object.keys(edit.paths)
    const value = sortedJson(edit.paths[path])
    const times = own.filter(({ paths }) => sortedJson(paths[path]) === value).length
    const isRight = end === 'kept' ? times === 1 : times <= 1
    return isRight ? [] : [`edit ${n} of ${device} (${end}): ${times} times`]
  })
}

/** The logged edit of what was asked for, found by the value that it alone wrote. */
const entryOf = ({ device, edit }: Made, logged: readonly Logged[]): Logged | undefined => {
  if (edit.act !== 'set') return undefined
  const [path = ''] = Object.keys(edit.paths)
  const value = sortedJson(edit.paths[path])
  const isIt = (each: Logged): boolean =>
    each.device === device &&
    each.class === edit.class &&
    each.object === edit.object &&
    sortedJson(each.paths[path]) === value
  return logged.find(isIt)
}

/**
 * Edits whose clock is not what their machine could know: it has not seen what that machine did before; or who was cut off claims
 * to have seen what others did in that round; or who came after everybody was quiet has not seen all that was there before.
 * @param quietAfter rounds after which everybody was quiet
 */
export const misinformed = (
  made: readonly Made[],
  logged: readonly Logged[],
  quietAfter: readonly number[],
): readonly string[] => {
  const known = made.flatMap((each) => {
    const entry = entryOf(each, logged)
    return entry === undefined ? [] : [{ ...each, entry }]
  })
  const byObject = Map.groupBy(known, ({ edit }) => `${edit.class} ${edit.object}`)
  return [...byObject.values()].flatMap((own) =>
    own.flatMap((later) =>
      own.flatMap((earlier) => {
        const hasSeen = (later.entry.clock[earlier.entry.actor] ?? 0) >= earlier.entry.n
        if (later.device === earlier.device) {
          return later.n > earlier.n && !hasSeen ? [`edit ${later.n} has not seen its own machine’s ${earlier.n}`] : []
        }
        const isCutOff =
          later.round === earlier.round &&
          (later.condition === 'apart' || later.condition === 'deaf' || earlier.condition === 'apart')
        const mustHaveSeen = quietAfter.some((round) => earlier.round <= round && round < later.round)
        if (isCutOff && hasSeen) return [`edit ${later.n} claims to have seen ${earlier.n}`]
        return mustHaveSeen && !hasSeen ? [`edit ${later.n} has not seen ${earlier.n}`] : []
      }),
    ),
  )
}

/** AU-4, as the account's owner. */
export const isChainWhole = (stack: Stack, lenser: string): Promise<boolean> =>
  withClient(stack.owner, async (client) => {
    const { rows } = await client.query('SELECT user_id FROM lensers.profiles WHERE id = $1', [lenser])
    await client.query('BEGIN')
    await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: rows[0].user_id })])
    await client.query('SET LOCAL ROLE authenticated')
    const verdict = await client.query(`SELECT ok FROM audit.fn_chain_verify($1, 'gateway')`, [lenser])
    await client.query('ROLLBACK')
    return verdict.rows[0]?.ok === true
  })
