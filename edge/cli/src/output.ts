import { writeSync } from 'node:fs'
import { CodedError, type ReasonCode, reasonOf } from '@lenserfight/schemas'

/** Where a command speaks: results on standard output, everything else on standard error. */
export interface Output {
  readonly json: boolean
  /** The command's result: the object with `--json`, else the lines for people. */
  readonly result: (value: Readonly<Record<string, unknown>>, lines: readonly string[]) => void
  /** A line for people, on standard error. */
  readonly note: (line: string) => void
  /** Marks a text on a terminal; elsewhere the text itself. */
  readonly good: (text: string) => string
  readonly bad: (text: string) => string
  readonly faint: (text: string) => string
}

export interface OutputOptions {
  readonly json: boolean
  /** Colours are for terminals, and not where NO_COLOR is set. */
  readonly colours: boolean
  /** The descriptor that results go to. */
  readonly results: 1 | 2
}

/** Writes all of it, to a pipe that is full, too. */
const writeAll = (fd: number, text: string): void => {
  const bytes = Buffer.from(text)
  for (let from = 0; from < bytes.length; ) {
    try {
      from += writeSync(fd, bytes, from)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // Nobody reads any more: there is nobody to tell.
      if (code === 'EPIPE') return
      if (code !== 'EAGAIN') throw error
    }
  }
}

/** Control characters of what others wrote (names, reasons) must not reach a terminal, nor what turns its direction. */
const controls = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu
export const plain = (text: string): string => text.replace(controls, '\u{fffd}')

/** A name as one word of a command line that people copy, whatever is in it. */
export const wordOf = (text: string): string =>
  /^[\w.@%+:,/][\w.@%+:,/-]*$/.test(text) ? text : `'${plain(text).replaceAll("'", `'\\''`)}'`

/** The same text for programs, with nothing in it that a terminal would act upon. */
export const jsonOf = (value: object): string =>
  JSON.stringify(value).replace(controls, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** What marks a text below. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const marks = /(\u001b\[(?:3[129]|22?)m)/

/** A time of the gateway's, Unix seconds, for people. */
export const timeOf = (seconds: number): string =>
  `${new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`

export const createOutput = ({ json, colours, results }: OutputOptions): Output => {
  const paint = (open: number, close: number) => (text: string) =>
    colours ? `\u001b[${open}m${text}\u001b[${close}m` : text
  /** A line has no control characters but its own marks, whoever wrote what is in it: a gateway may be hostile too. */
  const lineOf = (line: string): string => {
    const parts = colours ? line.split(marks) : [line]
    return `${parts.map((part, index) => (index % 2 === 0 ? plain(part) : part)).join('')}\n`
  }
  return {
    json,
    result: (value, lines) => {
      writeAll(results, json ? `${jsonOf(value)}\n` : lines.map(lineOf).join(''))
    },
    note: (line) => writeAll(2, lineOf(line)),
    good: paint(32, 39),
    bad: paint(31, 39),
    faint: paint(2, 22),
  }
}

const characters = new Intl.Segmenter('en', { granularity: 'grapheme' })
const wide =
  /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u

/** How many columns of a terminal a text takes. */
const widthOf = (text: string): number =>
  Array.from(characters.segment(text), ({ segment }) => (wide.test(segment) ? 2 : 1)).reduce(
    (sum, each) => sum + each,
    0,
  )

/** Lines of a table, columns as wide as their widest cell. */
export const tableOf = (rows: readonly (readonly string[])[]): string[] => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => widthOf(row[column] ?? ''))))
  return rows.map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)))
      .join('  ')
      .trimEnd(),
  )
}

/** What shells return where a command could not be run, which is what `lf run` stands in for. */
const shellExits: Partial<Record<ReasonCode, number>> = { command_not_found: 127, command_not_executable: 126 }

/** What is said of a fault of this program's: its kind alone, since nobody foresaw what its message says. */
const ownFailure = (cause: unknown): string =>
  `lf itself failed, not the gateway (${cause instanceof Error ? cause.name : 'unknown'}). That is a fault of lf: please report it.`

/** A failure with what programs are told of it besides. */
export class FailureWith extends CodedError {
  readonly facts: Readonly<Record<string, unknown>>
  constructor({ code, detail, cause }: CodedError, facts: Readonly<Record<string, unknown>>) {
    super(code, detail, { cause })
    this.facts = facts
  }
}
/** What programs are told of a failure besides. */
export const factsOf = (error: unknown): Readonly<Record<string, unknown>> =>
  error instanceof FailureWith ? error.facts : {}

/** What a failure is told as: its code first, then the sentence that ends with what to do. */
export const failureOf = (error: unknown): { code: ReasonCode; message: string; exit: number } => {
  const code = error instanceof CodedError ? error.code : 'internal_error'
  return {
    code,
    message: error instanceof CodedError ? plain(error.message) : ownFailure(error),
    exit: shellExits[code] ?? reasonOf(code).exit ?? 1,
  }
}

/** Tells a failure and returns the exit code that it means. */
export const tellFailure = (output: Output, error: unknown): number => {
  const { code, message, exit } = failureOf(error)
  output.note(`${output.bad(code)}: ${message}`)
  if (output.json) output.result({ ok: false, code, message, ...factsOf(error) }, [])
  return exit
}
