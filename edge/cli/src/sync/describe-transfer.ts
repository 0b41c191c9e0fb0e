import { lifePath } from '@lenserfight/schemas'
import { type Output, plain, tableOf } from '../output.ts'
import type { Pulled, Pushed, Waiting } from './answers.ts'

const counted = (count: number, one: string): string => `${count} ${count === 1 ? one : `${one}s`}`

/** What a pull brought. */
export const pulledLine = ({ rows, objects, done }: Pulled, { good, bad }: Output): string => {
  const what = rows === 0 ? 'nothing new' : `${counted(rows, 'change')} of ${counted(objects, 'object')}`
  if (done) return `${good('pulled')}: ${what}.`
  return rows === 0 ? `${bad('pulled nothing')}.` : `${bad('not all')}: ${what}, and there may be more.`
}

/** What became of the edits that waited. */
export const pushedLines = ({ applied, duplicate, refused, pending }: Pushed, { good, bad }: Output): string[] => [
  applied + duplicate + refused + pending === 0
    ? 'Nothing waited to be sent.'
    : `${good('sent')}: ${counted(applied + duplicate, 'edit')}.`,
  ...(refused === 0
    ? []
    : [`${bad('refused')}: ${counted(refused, 'edit')}. \`lf gateway sync status\` says why, and what to do.`]),
  ...(pending === 0
    ? []
    : [`${bad('waiting')}: ${counted(pending, 'edit')}. They go out by themselves once they can.`]),
]

/** What would be sent: where it is and how large, never what it says. */
export const waitingLines = (entries: readonly Waiting[]): string[] => {
  if (entries.length === 0) return ['Nothing waits to be sent.']
  return [
    ...tableOf([
      ['CLASS', 'OBJECT', 'BYTES', 'PATHS'],
      ...entries.map((each) => [
        plain(each.class),
        plain(each.object),
        String(each.bytes),
        plain(each.paths.map((path) => (path === lifePath ? 'whether it exists' : path)).join(', ')),
      ]),
    ]),
    'Nothing was sent: it is a dry run.',
  ]
}
