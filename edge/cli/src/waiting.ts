import { isWatched } from './terminal.ts'

/** What answers within this time needs no words, milliseconds. */
const patienceMs = 2_000

/** Waits, and says for what once it takes long, where a person watches. */
export const sayIfSlow = async <T>(
  { note }: { readonly note: (line: string) => void },
  line: string,
  act: () => Promise<T>,
): Promise<T> => {
  const timer = isWatched() ? setTimeout(note, patienceMs, line) : undefined
  try {
    return await act()
  } finally {
    clearTimeout(timer)
  }
}
