import { createConnection, type Socket } from 'node:net'
import { CodedError } from '@lenserfight/schemas'
import { RunRefused } from '../runs/refused.ts'
import { createLineSplitter } from './lines.ts'
import { type MethodName, type MethodParams, parseResponse, type SocketResponse, socketLimits } from './protocol.ts'

const connectMs = 2_000
/** What the daemon may take beyond the time that a request asks it to wait. */
const answerMs = 5_000

/** A conversation with this machine's daemon. */
export interface DaemonClient {
  /**
   * @throws CodedError the daemon's code, or `daemon_unreachable` where it does not answer in time or at all
   */
  readonly request: <N extends MethodName>(
    method: N,
    params: MethodParams<N>,
  ) => Promise<Readonly<Record<string, unknown>>>
  /** Whether a request could still be sent. */
  readonly isOpen: () => boolean
  readonly close: () => void
}

const unreachable = (detail: string, cause?: unknown): CodedError =>
  new CodedError('daemon_unreachable', detail, cause === undefined ? undefined : { cause })

const errorOf = ({ code, detail, run_id: runId, reason }: SocketResponse & { ok: false }): CodedError =>
  typeof runId === 'string' && typeof reason === 'string'
    ? new RunRefused(code, { runId, reason }, detail)
    : new CodedError(code, detail)

const open = (path: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = createConnection(path)
    const fail = (cause?: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(unreachable(path, cause))
    }
    const timer = setTimeout(fail, connectMs)
    socket.once('error', fail)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', fail)
      resolve(socket)
    })
  })

/**
 * Connects to the daemon of a state folder.
 * @throws CodedError `daemon_unreachable`
 */
export const connectDaemon = async (path: string): Promise<DaemonClient> => {
  const socket = await open(path)
  const splitter = createLineSplitter(socketLimits.lineBytes)
  const waiting = new Map<number, (response: SocketResponse | CodedError) => void>()
  let lastId = 0

  const failAll = (detail: string): void => {
    socket.destroy()
    for (const settle of waiting.values()) settle(unreachable(detail))
    waiting.clear()
  }
  socket.on('error', () => failAll('the connection broke'))
  socket.on('close', () => failAll('the connection ended'))
  socket.on('data', (chunk: Buffer) => {
    const lines = splitter.push(chunk)
    if (lines === undefined) return failAll('an answer is too long')
    for (const line of lines) {
      const response = parseResponse(line)
      if (response === undefined) return failAll('an answer is not one')
      if (typeof response.id === 'number') waiting.get(response.id)?.(response)
    }
  })

  const send = (id: number, line: string, deadlineMs: number): Promise<SocketResponse | CodedError> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => settle(unreachable('no answer in time')), deadlineMs)
      const settle = (response: SocketResponse | CodedError): void => {
        clearTimeout(timer)
        waiting.delete(id)
        resolve(response)
      }
      waiting.set(id, settle)
      socket.write(line)
    })

  return {
    request: async (method, params) => {
      if (socket.destroyed) throw unreachable('the connection ended')
      lastId += 1
      const { timeout_ms = 0, approval_timeout_ms = 0 } = params as {
        timeout_ms?: number
        approval_timeout_ms?: number
      }
      const line = `${JSON.stringify({ id: lastId, method, params })}\n`
      const response = await send(lastId, line, timeout_ms + approval_timeout_ms + answerMs)
      if (response instanceof CodedError) throw response
      if (!response.ok) throw errorOf(response)
      return response.result
    },
    isOpen: () => !socket.destroyed,
    close: () => socket.destroy(),
  }
}
