import { renameSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import type { WorkerState } from './worker-state.ts'

/** What the health server shows. */
export interface HealthOptions {
  /** 0 takes a free port. */
  readonly port: number
  /** Written as `{port, pid}` (0600, whole or not at all) once listening; removed when closed. */
  readonly file?: string | undefined
  readonly state: () => WorkerState
  /** When the state began, milliseconds since 1970; the server's own start where absent. */
  readonly since?: () => number
  /** Further members of the answer: figures and codes, never secrets. */
  readonly details?: () => object
  readonly logger: Logger
}

export interface HealthServer {
  readonly port: number
  readonly close: () => Promise<void>
}

const writeWhole = (file: string, content: string): void => {
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, content, { mode: 0o600 })
  renameSync(draft, file)
}

/**
 * Serves `/healthz` (the process lives) and `/readyz` (200 only while `consuming`, else 503) on 127.0.0.1.
 * @throws the listening error, where the port is taken
 */
export const serveHealth = async (options: HealthOptions): Promise<HealthServer> => {
  // An import statement would load Node's HTTP client too: 14 MB that are never used.
  const { createServer } = process.getBuiltinModule('node:http')
  const started = Date.now()
  const { service } = options.logger.bindings()

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const path = request.url?.split('?')[0]
    if (request.method !== 'GET' || (path !== '/healthz' && path !== '/readyz')) {
      response.writeHead(404).end()
      return
    }
    const state = options.state()
    const since = new Date(options.since?.() ?? started).toISOString()
    const status = path === '/healthz' || state === 'consuming' ? 200 : 503
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(`${JSON.stringify({ service, state, pid: process.pid, since, ...options.details?.() })}\n`)
  }

  const server = createServer({ keepAlive: false }, answer)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, '127.0.0.1', () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  // Health alone never keeps a process alive.
  server.unref()
  const { port } = server.address() as AddressInfo
  if (options.file !== undefined) writeWhole(options.file, `${JSON.stringify({ port, pid: process.pid })}\n`)
  options.logger.info({ event: 'health', port }, 'health is served')

  const close = async (): Promise<void> => {
    if (options.file !== undefined) rmSync(options.file, { force: true })
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return { port, close }
}
