import { isDeepStrictEqual } from 'node:util'
import type { DaemonClient } from '@lenserfight/daemon/client'
import { CodedError, checkPath, classRefusal, lifePath, objectIdPattern, pathFormsOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { asDaemon } from '../daemon.ts'
import { type Listed, listOf, type ObjectView, objectOf } from '../objects/answers.ts'
import { type Assignments, readAssignments, refuseTooLarge } from '../objects/assignments.ts'
import { classRows, describeObject, listLines, setAsideLines, waitLine, wordsOf } from '../objects/describe.ts'
import { refuseSecrets } from '../objects/secrets.ts'
import { writersOf } from '../objects/writers.ts'
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
    const { className } = which
    // The daemon has none of what each machine keeps alone.
    const isNone = className !== undefined && classRefusal(className) === 'local_only_class'
    const list = isNone ? { objects: [], more: false } : await allObjects(daemon, which)
    const classes = className === undefined ? { classes: classRows(list.objects) } : {}
    context.output.result({ ok: true, ...classes, ...list }, listLines({ ...list, className }, context.output))
  })

const idPattern = new RegExp(objectIdPattern)

/** @throws CodedError `usage` where an object can have no such id */
const checkId = ({ object }: Name): void => {
  if (idPattern.test(object)) return
  throw new CodedError('usage', `${plain(object)}: an id is letters, digits and . _ : -, 128 at most, no sign first`)
}

/** @throws CodedError `invalid_object`, with the paths that there are, where the class has not one of these */
const refuseUnknownPaths = (className: string, paths: Readonly<Record<string, unknown>>): void => {
  if (classRefusal(className) !== null) return
  const objection = Object.keys(paths)
    .map((path) => checkPath(className, path, null))
    .find((each) => each !== null)
  if (objection === undefined) return
  throw new CodedError('invalid_object', `${plain(objection)}; it has ${pathFormsOf(className).join(', ')}`)
}

/** `lf gateway objects get`: one of them as it reads here. @throws CodedError `object_not_found` */
export const getObject = (context: Context, name: Name): Promise<void> =>
  asDaemon(context, async (daemon) => {
    checkId(name)
    const view = objectOf(await daemon.request('objects.get', name))
    const writers = await writersOf(context, daemon, view)
    context.output.result({ ok: true, ...view }, describeObject(view, context.output, { writers }))
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
  const wasParted = [...(before?.conflicts ?? []), ...(before?.beside ?? [])].some((each) => each.path === path)
  return wasParted || !isDeepStrictEqual(valueIn(before), valueIn(after))
}

interface Became {
  readonly before: ObjectView | undefined
  readonly after: ObjectView
  readonly lines: readonly string[]
  readonly changed: readonly string[]
}

/** The conflicts that an edit went over: a person decided them by it. */
const endedBy = ({ before, after }: Pick<Became, 'before' | 'after'>) =>
  (before?.conflicts ?? [])
    .filter(({ path }) => !after.conflicts.some((each) => each.path === path))
    .map(({ path, sides }) => ({ path, sides: sides.length }))

const endedLine = ({ path, sides }: { readonly path: string; readonly sides: number }): string =>
  `${path === lifePath ? 'Whether it exists' : plain(path)} was in conflict: this goes over its ${sides} sides on every machine, and \`lf gateway sync status --conflicts\` shows them no more.`

/** What became of an object; what its paths say is `objects get`'s to tell. */
const tell = ({ output }: Context, became: Became): void => {
  const { class: className, object, alive, pending, set_aside, conflicts } = became.after
  const ended = endedBy(became)
  output.result(
    {
      ...{ ok: true, class: className, object, alive, changed: became.changed, pending, set_aside },
      ...{ conflicts: conflicts.length, ended_conflicts: ended },
    },
    [
      ...became.lines,
      ...ended.map(endedLine),
      waitLine(became.after),
      ...(set_aside === null ? [] : setAsideLines(became.after, set_aside, output)),
    ],
  )
}

const called = ({ class: className, object }: Name): string => `${plain(className)} ${plain(object)}`

/** In a word, what an edit did. */
const howSet = (before: ObjectView | undefined, changed: readonly string[]): string => {
  if (before === undefined) return 'made'
  if (!before.alive) return 'brought back'
  return changed.length === 0 ? 'as before' : 'changed'
}

export interface SetArguments extends Assignments {
  readonly object: string
}

/** What a deleted object has again besides what was just written. */
const formerLines = (before: ObjectView | undefined, { paths }: ObjectView, changed: readonly string[]): string[] => {
  if (before === undefined || before.alive) return []
  const former = Object.keys(paths).filter((path) => !changed.includes(path))
  return [
    `It was deleted${former.length === 0 ? '' : `, and has what it had: ${plain(former.join(', '))}`}. \`lf gateway objects delete ${wordsOf(before)}\` deletes it again.`,
  ]
}

/** Nothing is made, and nothing brought back, by taking away what it does not have. */
const refuseNothing = (name: Name, before: ObjectView | undefined, paths: Readonly<Record<string, unknown>>): void => {
  if (before?.alive === true || Object.values(paths).some((value) => value !== null)) return
  const why = before === undefined ? 'nothing to unset' : 'it is deleted, nothing to unset'
  throw new CodedError('object_not_found', `${called(name)}: ${why}`)
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
  checkId(name)
  refuseUnknownPaths(name.class, paths)
  await asDaemon(context, async (daemon) => {
    const before = classRefusal(name.class) === null ? await findObject(daemon, name) : undefined
    if (classRefusal(name.class) === null) refuseNothing(name, before, paths)
    const after = objectOf(await daemon.request('objects.set', { ...name, paths: { ...paths } }))
    const changed = Object.keys(paths).filter((path) => differsAt(path, before, after))
    const line = `${context.output.good(howSet(before, changed))}: ${called(after)}`
    const what =
      changed.length > 0 ? `: ${plain(changed.join(', '))}` : before?.alive === true ? ': it said so already' : ''
    tell(context, { before, after, lines: [`${line}${what}.`, ...formerLines(before, after, changed)], changed })
  })
}

interface Act {
  readonly name: Name
  readonly method: 'objects.delete' | 'objects.undelete' | 'objects.discard'
  readonly word: string
  /** Why there is nothing to do, of what it was before; undefined where there is. */
  readonly idle: (before: ObjectView) => string | undefined
}

/** Whether machines differ over whether it exists: then to say it decides it. */
const isLifeParted = ({ conflicts, beside }: ObjectView): boolean =>
  [...conflicts, ...beside].some(({ path }) => path === lifePath)

const change = (context: Context, { name, method, word, idle }: Act): Promise<void> =>
  asDaemon(context, async (daemon) => {
    checkId(name)
    const before = classRefusal(name.class) === null ? await findObject(daemon, name) : undefined
    const after = objectOf(await daemon.request(method, name))
    const why = before && idle(before)
    const line =
      why === undefined ? `${context.output.good(word)}: ${called(after)}.` : `as before: ${called(after)}: ${why}.`
    tell(context, { before, after, lines: [line], changed: [] })
  })

/** `lf gateway objects delete`: on every machine of the account, once they pull. */
export const deleteObject = (context: Context, name: Name): Promise<void> =>
  change(context, {
    ...{ name, method: 'objects.delete', word: 'deleted' },
    idle: (before) => (before.alive || isLifeParted(before) ? undefined : 'it was deleted already'),
  })

/** `lf gateway objects undelete`: with what it said last, and what was edited meanwhile. */
export const undeleteObject = (context: Context, name: Name): Promise<void> =>
  change(context, {
    ...{ name, method: 'objects.undelete', word: 'brought back' },
    idle: (before) => (!before.alive || isLifeParted(before) ? undefined : 'it was not deleted'),
  })

/** `lf gateway objects discard`: gives up edits of this machine that the gateway refused. */
export const discardObject = (context: Context, name: Name): Promise<void> =>
  change(context, {
    ...{ name, method: 'objects.discard', word: 'given up' },
    idle: (before) => (before.set_aside === null ? 'nothing of it was refused' : undefined),
  })
