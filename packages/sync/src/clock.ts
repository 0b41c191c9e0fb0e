import { nilUuid } from '@lenserfight/schemas'
import type { Actor, Clock } from './types.ts'

/** The gateway itself as a writer: cloud-authoritative objects, resolutions (rules 12, 13). No device has that id. */
export const reservedActor = (incarnation = 1): Actor => `${nilUuid}~${incarnation}`
export const actorOf = (deviceId: string, incarnation: number): Actor => `${deviceId}~${incarnation}`
export const isReserved = (actor: Actor): boolean => actor.startsWith(`${nilUuid}~`)

/** The device and the incarnation of an actor. */
export const partsOf = (actor: Actor): { deviceId: string; incarnation: number } => {
  const at = actor.indexOf('~')
  return { deviceId: actor.slice(0, at), incarnation: Number(actor.slice(at + 1)) }
}

export const emptyClock: Clock = Object.freeze({})

/** How many edits of an actor a clock has seen. Safe for any name. */
export const countOf = (clock: Clock, actor: Actor): number => (Object.hasOwn(clock, actor) ? clock[actor] : 0) ?? 0

/** The least clock that has seen what either has. */
export const joinClocks = (a: Clock, b: Clock): Clock => {
  const joined = new Map(Object.entries(a))
  for (const [actor, count] of Object.entries(b)) joined.set(actor, Math.max(count, joined.get(actor) ?? 0))
  return Object.fromEntries(joined)
}

/** What both have seen. */
export const meetClocks = (a: Clock, b: Clock): Clock =>
  Object.fromEntries(
    Object.entries(a)
      .map(([actor, count]): [Actor, number] => [actor, Math.min(count, countOf(b, actor))])
      .filter(([, count]) => count > 0),
  )

/** Whether `b` has seen everything that `a` has. */
export const covers = (b: Clock, a: Clock): boolean => {
  for (const actor of Object.keys(a)) {
    if (countOf(b, actor) < countOf(a, actor)) return false
  }
  return true
}

/** Whether `a` came strictly before `b`. */
export const isBefore = (a: Clock, b: Clock): boolean => covers(b, a) && !covers(a, b)

/** The clock of this actor's next edit after a clock. */
export const tick = (clock: Clock, actor: Actor): Clock => ({ ...clock, [actor]: countOf(clock, actor) + 1 })

export const sumOf = (clock: Clock): number => Object.values(clock).reduce((sum, count) => sum + count, 0)
