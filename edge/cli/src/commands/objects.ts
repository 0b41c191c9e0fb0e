import { isDeepStrictEqual } from 'node:util'
import type { DaemonClient } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { asDaemon } from '../daemon.ts'
import { type Listed, listOf, type ObjectView, objectOf } from '../objects/answers.ts'
import { type Assignments, readAssignments, refuseTooLarge } from '../objects/assignments.ts'
import { classRows, describeObject, listLines, setAsideLines, waitLine } from '../objects/describe.ts'
import { refuseSecrets } from '../objects/secrets.ts'
import { plain } from '../output.ts'

type Name = Pick<ObjectView, 'class' | 'object'>

/** So many answers of the daemon are asked for at most: more objects than an account may have. */
const mostAnswers = 100

interface Which {
  readonly className?: string | undefined
  readonly deleted: boolean
}

const allObjects = async (daemon: DaemonClient, { className, deleted }: Which) => {
  const objects: Listed[] = []
  for (let asked = 0; asked < mostAnswers; asked += 1) {
    const last = objects.at(-1)
    const page = listOf(
      await daemon.request('objects.list', {
        deleted,
        ...(className === undefined ? {} : { class: className }),
        ...(last === undefined ? {} : { after: `${last.class}/${last.object}` }),
      }),
    )
    objects.push(...page.objects)
    if (!page.more || page.objects.length === 0) return { objects, more: false }
  }
  return { objects, more: true }
}

/** `lf gateway objects list`: what there is here; without a class, also which classes there are. */
export const listObjects = (context: Context, which: Which): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const list = await allObjects(daemon, which)
    const isOneClass = which.className !== undefined
    const classes = isOneClass ? {} : { classes: classRows(list.objects) }
    context.output.result({ ok: true, ...classes, ...list }, listLines({ ...list, isOneClass }, context.output))
  })

/** `lf gateway objects get`: one of them as it reads here. @throws CodedError `object_not_found` */
export const getObject = (context: Context, name: Name): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const view = objectOf(await daemon.request('objects.get', name))
    context.output.result({ ok: true, ...view }, describeObject(view, context.output))
  })

/** What it was before; undefined where there was none. */
const findObject = async (daemon: DaemonClient, name: Name): Promise<ObjectView | undefined> => {
  try {
    return objectOf(await daemon.request('objects.get', name))
  } catch (error) {
    if (error instanceof CodedError && error.code === 'object_not_found') return undefined
    throw error
  }
}

/** Whether a path reads otherwise than it did: deleted, made, or with another value. */
const differsAt = (path: string, before: ObjectView | undefined, after: ObjectView): boolean => {
  const valueIn = (view: ObjectView | undefined): unknown =>
    view !== undefined && Object.hasOwn(view.paths, path) ? view.paths[path] : null
  const wasParted = before?.conflicts.some((each) => each.path === path) ?? false
  return wasParted || !isDeepStrictEqual(valueIn(before), valueIn(after))
}

/** What became of an object; what its paths say is `objects get`'s to tell. */
const tell = ({ output }: Context, view: ObjectView, line: string, changed: readonly string[]): void => {
  const { class: className, object, alive, pending, set_aside, conflicts } = view
  output.result(
    { ok: true, class: className, object, alive, changed, pending, set_aside, conflicts: conflicts.length },
    [line, waitLine(view), ...(set_aside === null ? [] : setAsideLines(view, set_aside, output))],
  )
}

const called = ({ class: className, object }: Name): string => `${plain(className)} ${plain(object)}`

export interface SetArguments extends Assignments {
  readonly object: string
}

/**
 * `lf gateway objects set`: writes what is named; the rest stays. It is kept here at once, and sent when the gateway is there.
 * @throws CodedError `secret_in_object`, `object_too_large`, the daemon's refusals, and what `readAssignments` throws
 */
export const setObject = async (context: Context, given: SetArguments): Promise<void> => {
  const name = { class: given.className, object: given.object }
  const paths = readAssignments(given)
  // Before anybody is told: a secret goes nowhere.
  refuseSecrets(paths)
  refuseTooLarge(paths)
  await asDaemon(context, async (daemon) => {
    const before = await findObject(daemon, name)
    const after = objectOf(await daemon.request('objects.set', { ...name, paths: { ...paths } }))
    const changed = Object.keys(paths).filter((path) => differsAt(path, before, after))
    const { good } = context.output
    const what = changed.length === 0 ? 'it said so already' : plain(changed.join(', '))
    const how = before?.alive === true ? 'changed' : 'made'
    tell(
      context,
      after,
      `${good(changed.length === 0 && before?.alive === true ? 'as before' : how)}: ${called(after)}: ${what}.`,
      changed,
    )
  })
}

const change = (
  context: Context,
  {
    name,
    method,
    word,
  }: { name: Name; method: 'objects.delete' | 'objects.undelete' | 'objects.discard'; word: string },
): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const view = objectOf(await daemon.request(method, name))
    tell(context, view, `${context.output.good(word)}: ${called(view)}.`, [])
  })

/** `lf gateway objects delete`: on every machine of the account, once they pull. */
export const deleteObject = (context: Context, name: Name): Promise<void> =>
  change(context, { name, method: 'objects.delete', word: 'deleted' })

/** `lf gateway objects undelete`: with what it said last, and what was edited meanwhile. */
export const undeleteObject = (context: Context, name: Name): Promise<void> =>
  change(context, { name, method: 'objects.undelete', word: 'brought back' })

/** `lf gateway objects discard`: gives up edits of this machine that the gateway refused. */
export const discardObject = (context: Context, name: Name): Promise<void> =>
  change(context, { name, method: 'objects.discard', word: 'given up' })
