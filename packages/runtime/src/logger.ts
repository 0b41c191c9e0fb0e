import { type DestinationStream, pino } from 'pino'
import type { LogLevel } from './common-config.ts'
import { redact, secretKeys } from './redact.ts'

export type { Logger } from 'pino'

/** What a logger is made from. */
export interface LoggerOptions {
  readonly service: string
  readonly replica?: string | undefined
  readonly level: LogLevel
  /** Where lines go; standard output, written synchronously, where absent. */
  readonly destination?: DestinationStream
}

/** Lines that could not be written yet are kept up to this many bytes. */
const unwrittenBytes = 1024 * 1024

/** Standard output. A log that cannot be written, its disk being full, ends nobody's work: lines are lost instead. */
const standardOutput = (): DestinationStream => {
  const output = pino.destination({ fd: 1, sync: true, maxLength: unwrittenBytes }).on('error', () => {})
  // Each line is written as it comes; what could not be would be waited for, by a process that is about to end, for ever.
  return Object.assign(output, { flushSync: () => {} })
}

/**
 * A logger of JSON lines: a constant message, the data in keys, an `event` key. Secrets and bodies are never handed to
 * it; should one be, it is blanked (SH-3).
 */
export const createLogger = ({ service, replica, level, destination }: LoggerOptions) =>
  pino(
    {
      level,
      base: { service, ...(replica === undefined ? {} : { replica }), pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'message',
      formatters: {
        level: (label) => ({ level: label }),
        log: (data) => redact(data) as Record<string, unknown>,
      },
      // The formatter above describes errors; pino's own serializer would print messages that quote data.
      serializers: { err: (value: unknown) => value },
      // A child's bindings do not pass the formatter.
      redact: { paths: [...secretKeys], censor: '[redacted]' },
    },
    destination ?? standardOutput(),
  )
