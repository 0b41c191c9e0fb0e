import { lifePath } from '@lenserfight/schemas'
import { type Output, plain } from '../output.ts'
import type { Conflict, Conflicts, Side } from '../owner/conflicts.ts'
import { relativeTo, timeOf } from '../times.ts'
import { type DiffLine, diffOf, shortened } from './diff.ts'
import { linesOfValue } from './value.ts'
import type { Chosen } from './winner.ts'

const indent = '    '

/** `$life` says whether an object exists. */
const pathWords = (path: string): string => (path === lifePath ? 'whether it exists (true, or deleted)' : plain(path))

const paint = ({ mark, text }: DiffLine, { good, bad }: Output): string => {
  const line = `${indent}${mark} ${text}`
  if (mark === '+') return good(line)
  return mark === '-' ? bad(line) : line
}

type Compared = Pick<Conflict, 'base' | 'omitted'>

const indented = (lines: readonly string[]): string[] => lines.map((line) => `${indent}  ${line}`)

/** A value beside what it was made from; whole where that is not known. */
const valueLines = (value: unknown, { base, omitted }: Compared, output: Output): string[] => {
  if (omitted === true) return indented(['too large to be shown'])
  if (base === null) return indented(linesOfValue(value))
  return shortened(diffOf(linesOfValue(base.value), linesOfValue(value))).map((line) =>
    'left' in line
      ? output.faint(`${indent}  … ${line.left} ${line.left === 1 ? 'line' : 'lines'} as before`)
      : paint(line, output),
  )
}

/** Whose machine wrote a side. @param here this machine's device id */
export const writerOf = ({ device_id, device_name }: Side, here?: string): string => {
  if (device_id === null) return 'the gateway'
  const name = device_name === null ? device_id : `${plain(device_name)} (${device_id})`
  return device_id === here ? `${name}, this machine` : name
}

const baseLines = ({ base, omitted }: Conflict): string[] => {
  if (base === null) return ['Base       not kept any more: the sides are shown whole']
  return [
    'Base       what each side had seen',
    ...indented(omitted === true ? ['too large to be shown'] : linesOfValue(base.value)),
  ]
}

/** How a conflict that a person decided is opened again; nothing where none did. */
export const undoOf = ({ resolutions }: Pick<Conflict, 'resolutions'>): string => {
  const last = resolutions.at(-1)
  return last?.kind === 'resolve' ? `; \`lf gateway sync undo ${last.id}\` opens it again` : ''
}

/** What became of a conflict that is not open. */
const endOf = (conflict: Conflict, now: number): string[] => {
  const { closed_at } = conflict
  if (closed_at === null) return []
  const undo = undoOf(conflict)
  return [`Closed     ${timeOf(closed_at / 1000)}, ${relativeTo(closed_at / 1000, now)}${undo}`]
}

export interface Shown {
  /** This machine's device id. */
  readonly here?: string | undefined
  /** Milliseconds since 1970. */
  readonly now?: number
}

/** A conflict as a person compares it: what the sides had in common, and what each made of it, whose machine it was. */
export const describeConflict = (
  conflict: Conflict,
  output: Output,
  { here, now = Date.now() }: Shown = {},
): string[] => {
  const { id, object, path, sides, opened_at } = conflict
  return [
    `Conflict   ${id}`,
    `Object     ${plain(conflict.class)} ${plain(object)}`,
    `Path       ${pathWords(path)}`,
    `Opened     ${timeOf(opened_at / 1000)}, ${relativeTo(opened_at / 1000, now)}`,
    ...endOf(conflict, now),
    ...baseLines(conflict),
    ...sides.flatMap((side, index) => [
      `${`Side ${index + 1}`.padEnd(11)}${writerOf(side, here)}`,
      ...valueLines(side.value, conflict, output),
    ]),
    ...(conflict.edited.length === 0
      ? []
      : [`Meanwhile  edited by who had not seen the deletion: ${plain(conflict.edited.join(', '))}`]),
  ]
}

/** The commands that would end a conflict. */
export const commandsOf = ({ id, base, sides }: Conflict): string[] => {
  const resolve = `lf gateway sync resolve ${id}`
  const takes = [...sides.map((_, index) => String(index + 1)), ...(base === null ? [] : ['base'])]
  return [
    `\`${resolve} --take ${takes.join('|')}\`, or \`--value JSON\`; with \`--dry-run\` first, to see what it would write.`,
  ]
}

/** The open conflicts with both sides of each, and how to end them. */
export const conflictLines = ({ conflicts, more }: Conflicts, output: Output, shown: Shown = {}): string[] => {
  if (conflicts.length === 0) return ['No conflict is open.']
  return [
    ...conflicts.flatMap((conflict) => [
      ...describeConflict(conflict, output, shown),
      ...commandsOf(conflict).map(output.faint),
      '',
    ]),
    `${conflicts.length} ${conflicts.length === 1 ? 'conflict is' : 'conflicts are'} open${more ? ', and more' : ''}.`,
  ]
}

/** What a resolution would write, beside what the object said before the sides parted. */
export const writtenLines = (conflict: Conflict, { winner, value }: Chosen, output: Output): string[] => [
  `Would write ${plain(conflict.class)} ${plain(conflict.object)}, ${pathWords(conflict.path)}`,
  ...('value' in winner && conflict.omitted === true
    ? indented(linesOfValue(value))
    : valueLines(value, conflict, output)),
]
