import { isatty } from 'node:tty'

/** Whether a person sees what is said on standard error. */
export const isWatched = (): boolean => isatty(2)

/** Whether standard output and error are a terminal that wants colours (no-color.org). */
export const wantsColours = (env: NodeJS.ProcessEnv = process.env): boolean =>
  (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb' && isatty(1) && isatty(2)

/** Whether results go to a terminal that can be redrawn. */
export const isTerminal = (): boolean => isatty(1)

/** Empties the terminal that results go to; what was scrolled out of it stays. */
export const clearScreen = (): void => {
  process.stdout.write('\u001b[H\u001b[2J')
}
