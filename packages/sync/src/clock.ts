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

/** The least clock that has seen what either has. */
export const joinClocks = (a: Clock, b: Clock): Clock => {
  const joined: Record<Actor, number> = { ...a }
  for (const [actor, count] of Object.entries(b)) {
    if (count > (joined[actor] ?? 0)) joined[actor] = count
  }
  return joined
}

/** Whether `b` has seen everything that `a` has. */
export const covers = (b: Clock, a: Clock): boolean =>
  Object.entries(a).every(([actor, count]) => (b[actor] ?? 0) >= count)

/** Whether `a` came strictly before `b`. */
export const isBefore = (a: Clock, b: Clock): boolean => covers(b, a) && !covers(a, b)

/** The clock of this actor's next edit after a clock. */
export const tick = (clock: Clock, actor: Actor): Clock => ({ ...clock, [actor]: (clock[actor] ?? 0) + 1 })

export const sumOf = (clock: Clock): number => Object.values(clock).reduce((sum, count) => sum + count, 0)
