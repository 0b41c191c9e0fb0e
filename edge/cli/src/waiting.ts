import { isWatched } from './terminal.ts'

/** What answers within this time needs no words, milliseconds. */
const patienceMs = 2_000

/**
 * Waits, and says for what once it takes long, where a person watches.
 * @param act is given what to call once something else is waited for
 */
export const sayIfSlow = async <T>(
  { note }: { readonly note: (line: string) => void },
  line: string,
  act: (stop: () => void) => Promise<T>,
): Promise<T> => {
  const timer = isWatched() ? setTimeout(note, patienceMs, line) : undefined
  try {
    return await act(() => clearTimeout(timer))
  } finally {
    clearTimeout(timer)
  }
}
