import { describeError, type Logger } from '@lenserfight/runtime'
import pg from 'pg'
import type { PoolOptions } from './pool.ts'

export interface NoticeOptions {
  readonly connection: Pick<PoolOptions, 'host' | 'port' | 'database' | 'user' | 'password'>
  readonly channel: string
  /** Told of each notice, and whenever some may have been missed: each time that listening begins. */
  readonly onNotice: () => void
  readonly logger: Logger
}

/** Hears what the database says by NOTIFY, over a connection of its own that comes back by itself. */
export interface Notices {
  readonly isListening: () => boolean
  readonly stop: () => Promise<void>
}

const connectTimeoutMs = 5000
/** A connection whose other end is gone without a word is found out by a question. */
const pingMs = 10_000
const retryMs = 250

/** Listens on a channel. A notice is a hint to look, never what is rested on: whoever listens looks at intervals too. */
export const listenToNotices = ({ connection, channel, onNotice, logger }: NoticeOptions): Notices => {
  let client: pg.Client | undefined
  let listening = false
  let stopped = false
  let wake = (): void => {}

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  /** One connection's life; ends when it is lost or nobody listens any more. */
  const live = async (): Promise<void> => {
    const one = new pg.Client({
      ...connection,
      application_name: `${String(logger.bindings().service ?? 'ltg')} listens`,
      connectionTimeoutMillis: connectTimeoutMs,
      query_timeout: connectTimeoutMs,
    })
    client = one
    let lost = false
    one.on('error', () => {})
    one.once('end', () => {
      lost = true
      wake()
    })
    one.on('notification', onNotice)
    try {
      await one.connect()
      await one.query(`LISTEN ${one.escapeIdentifier(channel)}`)
      listening = true
      logger.info({ event: 'listening', channel }, 'the database is listened to')
      onNotice()
      while (!lost && !stopped) {
        await pause(pingMs)
        if (!lost && !stopped) await one.query('SELECT 1')
      }
    } finally {
      if (listening && !stopped) logger.warn({ event: 'listening_lost', channel }, 'the database is not listened to')
      listening = false
      await one.end().catch(() => {})
    }
  }
  const run = async (): Promise<void> => {
    while (!stopped) {
      await live().catch((error: unknown) =>
        logger.debug({ event: 'listening_failed', cause: describeError(error) }, 'no connection to listen on'),
      )
      if (!stopped) await pause(retryMs)
    }
  }
  const ended = run()
  const stop = async (): Promise<void> => {
    stopped = true
    wake()
    await client?.end().catch(() => {})
    await ended
  }
  return { isListening: () => listening, stop }
}
