/** Cuts a stream of bytes into lines, keeping at most one incomplete line of a bounded length. */
export interface LineSplitter {
  /** The lines that this chunk completes, or undefined once a line is longer than allowed. */
  readonly push: (chunk: Buffer) => string[] | undefined
  readonly isPartial: () => boolean
}

export const createLineSplitter = (maxBytes: number): LineSplitter => {
  let parts: Buffer[] = []
  let length = 0
  return {
    push: (chunk) => {
      const lines: string[] = []
      let from = 0
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
        if (length + end - from > maxBytes) return undefined
        lines.push(Buffer.concat([...parts, chunk.subarray(from, end)]).toString('utf8'))
        parts = []
        length = 0
        from = end + 1
      }
      length += chunk.length - from
      if (length > maxBytes) return undefined
      if (from < chunk.length) parts.push(chunk.subarray(from))
      return lines
    },
    isPartial: () => length > 0,
  }
}
