import { chmodSync, renameSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { codeOf, type Logger } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import { rememberFile } from '../own-file.ts'
import { RunRefused } from '../runs/refused.ts'
import { createLineSplitter } from './lines.ts'
import { type MethodName, type MethodParams, parseRequest, type SocketResponse, socketLimits } from './protocol.ts'

/** What each method does. The signal aborts when nobody waits for the answer any more. */
export type Methods = {
  readonly [N in MethodName]: (
    params: MethodParams<N>,
    signal: AbortSignal,
  ) => Promise<Readonly<Record<string, unknown>>>
}

export interface SocketServer {
  readonly close: () => Promise<void>
}

/** What the socket is called until it can be reached: no longer than its own name, so that there is room for it wherever that fits. */
const unreadyName = 'daemon.new'
/** Where the socket at a path is made. */
export const unreadySocketOf = (path: string): string => join(dirname(path), unreadyName)

/** The longest path that a Unix socket may have, with the end mark (Linux; elsewhere it is 104). */
const pathBytes = 104

/**
 * Serves the local socket: one JSON object a line, requests of one connection answered as each is ready. Only this user
 * reaches it (0600, in a folder of 0700). Call it with the instance lock held: a socket left by a dead daemon is replaced. Closing takes
 * away this one alone, not that of a daemon that has another folder of this name by then.
 * @throws CodedError `config_invalid` where the path is too long, `state_unwritable`
 */
export const serveSocket = async (path: string, methods: Methods, logger: Logger): Promise<SocketServer> => {
  if (Buffer.byteLength(path) >= pathBytes) throw new CodedError('config_invalid', `${path} is too long for a socket`)
  const connections = new Set<Socket>()
  const server = createServer((socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
    serveConnection(socket, methods, logger)
  })
  server.maxConnections = socketLimits.connections
  const unready = unreadySocketOf(path)
  rmSync(unready, { force: true })
  await listen(server, unready)
  chmodSync(unready, 0o600)
  // Node takes away what it listened on by that name, whoever's it is by then: nothing has it from now on.
  renameSync(unready, path)
  const isOwn = rememberFile(path)
  return {
    close: async () => {
      if (isOwn()) rmSync(path, { force: true })
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of connections) socket.destroy()
      await closed
    },
  }
}

const listen = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(new CodedError('state_unwritable', path, { cause })))
    server.listen(path, resolve)
  })

const serveConnection = (socket: Socket, methods: Methods, logger: Logger): void => {
  const splitter = createLineSplitter(socketLimits.lineBytes)
  const gone = new AbortController()
  let pending = 0

  const send = (response: SocketResponse): void => {
    if (socket.destroyed) return
    socket.write(`${JSON.stringify(response)}\n`)
    if (socket.writableLength > socketLimits.unreadBytes) socket.destroy()
  }
  const answer = async (line: string): Promise<SocketResponse> => {
    const parsed = parseRequest(line)
    if ('refusal' in parsed) return parsed.refusal
    const { id, method, params } = parsed.request
    if (pending > socketLimits.requestsPerConnection) return { id, ok: false, code: 'rate_limited' }
    try {
      return { id, ok: true, result: await methods[method](params as never, gone.signal) }
    } catch (error) {
      const code = codeOf(error)
      if (code === 'internal_error') logger.error({ event: 'request_failed', method, err: error }, 'a request failed')
      const detail = error instanceof CodedError ? error.detail : undefined
      const run = error instanceof RunRefused ? { run_id: error.runId, reason: error.reason } : {}
      return { id, ok: false, code, ...(detail === undefined ? {} : { detail }), ...run }
    }
  }

  socket.on('data', (chunk: Buffer) => {
    const lines = splitter.push(chunk)
    if (lines === undefined) {
      send({ id: null, ok: false, code: 'usage', detail: 'a line is too long' })
      socket.destroySoon()
      return
    }
    // Only a line that was begun has a deadline; who waits for an answer is silent.
    socket.setTimeout(splitter.isPartial() ? socketLimits.lineMs : 0)
    for (const line of lines) {
      pending += 1
      void answer(line).then((response) => {
        pending -= 1
        send(response)
      })
    }
  })
  socket.on('timeout', () => socket.destroy())
  socket.on('error', () => socket.destroy())
  socket.on('close', () => gone.abort())
}
