import { CodedError, Nullable, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'
import { meantBy, severalMeant } from './find.ts'

const Runner = Type.Object({
  runner_id: Uuid,
  name: Type.String(),
  created_at: Type.Number(),
  last_heartbeat_at: Nullable(Type.Number()),
  /** All null where it is bound to no device. */
  binding_id: Nullable(Uuid),
  bound_at: Nullable(Type.Number()),
  device_id: Nullable(Uuid),
  device_name: Nullable(Type.String()),
  device_trust_level: Nullable(Type.String()),
  open_runs: Type.Number(),
})
/** One of the owner's runners, as the gateway shows it. Times are Unix seconds. */
export type Runner = Static<typeof Runner>

interface Runners {
  readonly runners: Runner[]
  /** There are some that this answer has no room for. */
  readonly more: boolean
}

/** @throws CodedError `internal_error` where the answer is none of runners */
export const runnersOf = ({ runners, more }: Readonly<Record<string, unknown>>): Runners => {
  if (!Check(Type.Array(Runner), runners)) throw new CodedError('internal_error', 'the list is not one of runners')
  return { runners, more: more === true }
}

/** The owner's runners with the devices that they are bound to. */
export const listRunners = async (owner: Owner): Promise<Runners> => runnersOf(await owner.request('runners', {}))

const whatIsMeant = 'a name, an id, or its first 8 characters and as many more as tell it from others'

/**
 * The one runner that a name, an id, or a unique beginning of an id (8 characters or more) means.
 * @throws CodedError `unknown_runner`; `usage` where several are meant
 */
export const findRunner = async (owner: Owner, given: string): Promise<Runner> => {
  const { runners } = await listRunners(owner)
  const [found, ...others] = meantBy(runners, given, { idOf: (each) => each.runner_id, nameOf: (each) => each.name })
  if (found === undefined) throw new CodedError('unknown_runner', `${plain(given)}: ${whatIsMeant}`)
  if (others.length === 0) return found
  throw severalMeant(
    given,
    [found, ...others].map(({ runner_id, name }) => `${runner_id} ${plain(name)}`),
  )
}
