import { isatty } from 'node:tty'

/** Whether a person sees what is said on standard error. */
export const isWatched = (): boolean => isatty(2)

/** Whether standard output and error are a terminal that wants colours (no-color.org). */
export const wantsColours = (env: NodeJS.ProcessEnv = process.env): boolean =>
  (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb' && isatty(1) && isatty(2)
