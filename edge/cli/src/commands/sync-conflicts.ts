import { enrolledOf } from '@lenserfight/daemon/client'
import { newUuidV7 } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { confirm } from '../devices/confirm.ts'
import { readInput, readValue, refuseTooLarge } from '../objects/assignments.ts'
import { refuseSecrets } from '../objects/secrets.ts'
import { plain } from '../output.ts'
import { type Conflict, findConflict, listConflicts, type Resolution, resolutionOf } from '../owner/conflicts.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { readSyncStatus } from '../owner/sync-status.ts'
import {
  commandsOf,
  conflictLines,
  describeConflict,
  type Shown,
  undoOf,
  writtenLines,
} from '../sync/describe-conflict.ts'
import { devicesLines } from '../sync/describe-devices.ts'
import { type Chosen, type Decision, type Take, winnerOf } from '../sync/winner.ts'

/** Whose machine this is, where it is one. */
const shownHere = (context: Context): Shown => ({ here: enrolledOf(context.settings().get('identity'))?.device_id })

/** `lf gateway sync status --conflicts`: what a person has to decide, with both sides and their base (SC-3). */
export const showConflicts = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listConflicts(owner)
    context.output.result({ ok: true, ...list }, conflictLines(list, context.output, shownHere(context)))
  })

/** `lf gateway sync status --all`: how far each machine of the account has come. */
export const showDevices = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const status = await readSyncStatus(owner)
    context.output.result({ ok: true, ...status }, devicesLines(status, context.output))
  })

export interface ResolveArguments {
  readonly id: string
  /** Of these one, or none: then the conflict is only looked at. */
  readonly take?: Take | undefined
  readonly value?: string | undefined
  readonly valueFile?: string | undefined
  readonly dryRun: boolean
  readonly yes: boolean
}

/** What the command line decides; undefined where nothing. A value is read as `lf gateway objects set` does. */
const decisionOf = (conflict: Conflict, { take, value, valueFile }: ResolveArguments): Decision | undefined => {
  if (take !== undefined) return { take }
  const text = valueFile === undefined ? value : readInput(valueFile)
  return text === undefined ? undefined : { value: readValue(conflict.class, conflict.path, text) }
}

const refuseValue = (paths: Readonly<Record<string, unknown>>): void => {
  refuseSecrets(paths)
  refuseTooLarge(paths)
}

const nameOf = ({ class: className, object, path }: Resolution): string =>
  `${plain(path)} of ${plain(className)} ${plain(object)}`

/** Another edit came between: the sides are shown as they are by now, and nothing was decided of them. */
const showChanged = async (context: Context, owner: Owner, { id }: Conflict, error: unknown): Promise<void> => {
  if (!(error instanceof CodedError) || error.code !== 'conflict_changed') return
  const conflict = await findConflict(owner, id)
  for (const line of describeConflict(conflict, context.output, shownHere(context))) context.output.note(line)
}

const send = async (context: Context, owner: Owner, conflict: Conflict, { winner }: Chosen): Promise<Resolution> => {
  const { id: conflict_id, sides_digest } = conflict
  try {
    return resolutionOf(await owner.request('sync_resolve', { op_id: newUuidV7(), conflict_id, sides_digest, winner }))
  } catch (error) {
    await showChanged(context, owner, conflict, error)
    throw error
  }
}

/** Looks at a conflict, and decides nothing. */
const look = (context: Context, conflict: Conflict): void => {
  const { output } = context
  const isOpen = conflict.closed_at === null
  output.result({ ok: true, resolution_id: null, conflict }, [
    ...describeConflict(conflict, output, shownHere(context)),
    ...(isOpen ? commandsOf(conflict).map(output.faint) : []),
  ])
}

/**
 * `lf gateway sync resolve`: shows the sides beside what they had in common, and writes what a person decided of them (SC-4). Exit
 * code 1 where the person thought better of it.
 * @throws CodedError `unknown_conflict`, `conflict_closed`, `conflict_changed`, `usage`, `secret_in_object`, `object_too_large`
 */
export const resolveConflict = (context: Context, given: ResolveArguments): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const conflict = await findConflict(owner, given.id)
    const decision = decisionOf(conflict, given)
    if (decision === undefined) {
      look(context, conflict)
      return undefined
    }
    if (conflict.closed_at !== null) throw new CodedError('conflict_closed', `${conflict.id}${undoOf(conflict)}`)
    const chosen = winnerOf(conflict, decision)
    if ('value' in decision) refuseValue({ [conflict.path]: decision.value })
    const written = writtenLines(conflict, chosen, output)
    if (given.dryRun) {
      output.result({ ok: true, resolution_id: null, conflict, value: chosen.value }, [
        ...describeConflict(conflict, output, shownHere(context)),
        ...written,
        'Nothing was changed: it is a dry run.',
      ])
      return undefined
    }
    for (const line of [...describeConflict(conflict, output, shownHere(context)), ...written]) output.note(line)
    if (!given.yes && !(await confirm(context, 'Write it?'))) {
      output.result({ ok: false, conflict_id: conflict.id, resolution_id: null }, ['Nothing was decided.'])
      return 1
    }
    const resolution = await send(context, owner, conflict, chosen)
    output.result({ ok: true, ...resolution }, [
      `${output.good('resolved')}: ${nameOf(resolution)}. Every machine has it once it pulls.`,
      `To take it back: \`lf gateway sync undo ${resolution.resolution_id}\`.`,
    ])
    return undefined
  })

/** `lf gateway sync undo`: opens again what was resolved, with the sides that stood there. */
export const undoResolution = (context: Context, resolution_id: string): Promise<void> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const undone = resolutionOf(await owner.request('sync_undo', { op_id: newUuidV7(), resolution_id }))
    output.result({ ok: true, ...undone }, [
      `${output.good('opened again')}: ${nameOf(undone)}.`,
      `Decide it anew: \`lf gateway sync resolve ${undone.conflict_id}\`.`,
    ])
  })
