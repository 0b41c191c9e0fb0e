import { isatty } from 'node:tty'

/** Whether standard output and error are a terminal that wants colours (no-color.org). */
export const wantsColours = (env: NodeJS.ProcessEnv = process.env): boolean =>
  (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb' && isatty(1) && isatty(2)
