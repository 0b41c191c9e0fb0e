import { performance } from 'node:perf_hooks'

/** One thing that the demo showed. */
export interface Shown {
  readonly step: string
  readonly held: boolean
  readonly ms: number
  readonly detail: unknown
}

/** What a step shows: a line for people, lines below it, and the same for programs. */
export interface Finding {
  readonly line: string
  readonly more?: readonly string[]
  readonly data?: unknown
}

export interface Report {
  readonly shown: readonly Shown[]
  /** A heading between groups of steps. */
  chapter(title: string): void
  /** Runs a step: what it returns is shown, what it throws fails it and the demo. */
  step<T extends Finding>(title: string, run: () => Promise<T>): Promise<T>
}

/** Prints steps as they hold; with `json` it prints nothing and keeps them. */
export function createReport(options: { json: boolean; colour: boolean; write: (text: string) => void }): Report {
  const { json, colour, write } = options
  const paint = (code: number, text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
  const say = (text: string) => {
    if (!json) write(`${text}\n`)
  }
  const shown: Shown[] = []
  return {
    shown,
    chapter: (title) => say(`\n${paint(1, title)}`),
    async step(title, run) {
      const started = performance.now()
      const took = () => Math.round(performance.now() - started)
      try {
        const finding = await run()
        shown.push({ step: title, held: true, ms: took(), detail: finding.data ?? finding.line })
        say(`  ${paint(32, '✓')} ${title.padEnd(34)} ${paint(2, finding.line)}`)
        for (const line of finding.more ?? []) say(`      ${line}`)
        return finding
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        shown.push({ step: title, held: false, ms: took(), detail: reason })
        say(`  ${paint(31, '✗')} ${title.padEnd(34)} ${reason}`)
        throw error
      }
    },
  }
}
