/** One line of a comparison: in both, in the former alone, or in the latter alone. */
export interface DiffLine {
  readonly mark: ' ' | '-' | '+'
  readonly text: string
}

/** Comparisons of lines beyond which a whole middle part is told as replaced: a person reads no such diff, and nobody waits for one. */
const mostCells = 1_000_000

const commonStart = (a: readonly string[], b: readonly string[]): number => {
  const most = Math.min(a.length, b.length)
  let count = 0
  while (count < most && a[count] === b[count]) count += 1
  return count
}

const marked = (mark: DiffLine['mark'], lines: readonly string[]): DiffLine[] => lines.map((text) => ({ mark, text }))

/** Of each beginning of `a` left and `b` left, how many lines they have in common at most, one below the other. */
const commonLengths = (a: readonly string[], b: readonly string[]): Uint32Array[] => {
  const rows = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1))
  for (let i = a.length - 1; i >= 0; i -= 1) {
    const [row, below] = [rows[i] as Uint32Array, rows[i + 1] as Uint32Array]
    for (let j = b.length - 1; j >= 0; j -= 1) {
      row[j] = a[i] === b[j] ? (below[j + 1] as number) + 1 : Math.max(below[j] as number, row[j + 1] as number)
    }
  }
  return rows
}

const diffOfMiddle = (a: readonly string[], b: readonly string[]): DiffLine[] => {
  if (a.length * b.length > mostCells) return [...marked('-', a), ...marked('+', b)]
  const rows = commonLengths(a, b)
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0
  const lines: DiffLine[] = []
  let [i, j] = [0, 0]
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      lines.push({ mark: ' ', text: a[i] as string })
      i += 1
      j += 1
    } else if (at(i + 1, j) >= at(i, j + 1)) lines.push({ mark: '-', text: a[i++] as string })
    else lines.push({ mark: '+', text: b[j++] as string })
  }
  return [...lines, ...marked('-', a.slice(i)), ...marked('+', b.slice(j))]
}

/** What became of the lines of `a` in `b`. */
export const diffOf = (a: readonly string[], b: readonly string[]): DiffLine[] => {
  const start = commonStart(a, b)
  const [restOfA, restOfB] = [a.slice(start), b.slice(start)]
  const end = commonStart(restOfA.toReversed(), restOfB.toReversed())
  return [
    ...marked(' ', a.slice(0, start)),
    ...diffOfMiddle(restOfA.slice(0, restOfA.length - end), restOfB.slice(0, restOfB.length - end)),
    ...marked(' ', a.slice(a.length - end)),
  ]
}

/** Lines that are told around what differs. */
const around = 3

/** The same without what is the same far and wide: of that, how many lines are left out. */
export const shortened = (lines: readonly DiffLine[]): readonly (DiffLine | { readonly left: number })[] => {
  const isNear = lines.map((_, index) =>
    lines.slice(Math.max(0, index - around), index + around + 1).some(({ mark }) => mark !== ' '),
  )
  const shown: (DiffLine | { left: number })[] = []
  for (const [index, line] of lines.entries()) {
    const last = shown.at(-1)
    if (isNear[index]) shown.push(line)
    else if (last !== undefined && 'left' in last) last.left += 1
    else shown.push({ left: 1 })
  }
  return shown
}
