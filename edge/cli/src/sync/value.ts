import { plain } from '../output.ts'

/** What stands where a path or an object was deleted. */
const deleted = '(deleted)'

/** A text as lines that do nothing to a terminal. */
const linesOfText = (text: string): string[] => text.split(/\r?\n/).map((line) => plain(line.replaceAll('\t', '    ')))

/** A value as people read it: a text line by line, what else it is as JSON; null is what was deleted. */
export const linesOfValue = (value: unknown): string[] => {
  if (value === null) return [deleted]
  return linesOfText(typeof value === 'string' ? value : JSON.stringify(value, null, 2))
}
