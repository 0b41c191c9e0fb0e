import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, isIPv6 } from 'node:net'
import { CodedError, reasonOf } from '@lenserfight/schemas'
import { isLoopback } from './bind.ts'

/** Limits of the loopback listener: every program of this machine reaches it. */
export const httpLimits = {
  connections: 32,
  headerBytes: 4 * 1024,
  /** A request must be whole, and an idle connection is kept, no longer than this, milliseconds. */
  requestMs: 5_000,
  requestsPerConnection: 100,
} as const

/** What is told at a path. Anybody on this machine may read it. */
export type Pages = Readonly<Record<string, () => Readonly<Record<string, unknown>>>>

export interface HttpServer {
  /** Where it listens, `host:port`. */
  readonly address: string
  readonly close: () => Promise<void>
}

const headers = {
  'content-type': 'application/json',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'",
  'cross-origin-resource-policy': 'same-origin',
} as const

const reply = (response: ServerResponse, status: number, value: object): void => {
  const text = `${JSON.stringify(value)}\n`
  response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text) })
  response.end(response.req.method === 'HEAD' ? undefined : text)
}

const refuse = (response: ServerResponse, status: number, detail: string): void => {
  response.setHeader('connection', 'close')
  reply(response, status, { ok: false, code: 'usage', message: reasonOf('usage').message, detail })
}

const hostOf = (address: string): string => (isIPv6(address) ? `[${address}]` : address)

/** A page that a browser loaded from elsewhere reaches this listener under a name of its own (DNS rebinding). */
const isOwnHost = ({ headers: { host = '' } }: IncomingMessage, { address, port }: AddressInfo): boolean =>
  [hostOf(address), '127.0.0.1', '[::1]', 'localhost'].some((name) => host.toLowerCase() === `${name}:${port}`)

const hasBody = ({ headers: { 'content-length': length, 'transfer-encoding': encoding } }: IncomingMessage): boolean =>
  encoding !== undefined || (length !== undefined && length !== '0')

/** Why a request is not answered, or undefined where it is. */
const objectionTo = (pages: Pages, own: AddressInfo, request: IncomingMessage): [number, string] | undefined => {
  if (!isOwnHost(request, own)) return [403, 'the Host header is not this listener’s']
  if (request.headers.origin !== undefined) return [403, 'no web page is answered']
  if (request.method !== 'GET' && request.method !== 'HEAD') return [405, 'only GET']
  if (hasBody(request)) return [400, 'a request has no body']
  return Object.hasOwn(pages, request.url ?? '') ? undefined : [404, 'there is no such page']
}

const answer = (pages: Pages, own: AddressInfo, request: IncomingMessage, response: ServerResponse): void => {
  const objection = objectionTo(pages, own, request)
  if (objection === undefined) reply(response, 200, (pages[request.url ?? ''] as Pages[string])())
  else refuse(response, ...objection)
}

const listen = (server: Server, host: string, port: number): Promise<AddressInfo> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === 'EADDRINUSE'
          ? new CodedError('port_in_use', String(port), { cause })
          : new CodedError('config_invalid', `cannot listen on ${hostOf(host)}:${port}`, { cause }),
      ),
    )
    server.listen({ host, port, exclusive: true }, () => resolve(server.address() as AddressInfo))
  })

/**
 * Serves pages to programs of this machine: over loopback alone, read-only, never to a web page of elsewhere.
 * @param bind an address that `resolveBind` gave
 * @param port 0 picks a free one
 * @throws CodedError `port_in_use`, `config_invalid`, `public_bind_forbidden`
 */
export const serveHttp = async (bind: { host: string; port: number }, pages: Pages): Promise<HttpServer> => {
  const options = {
    maxHeaderSize: httpLimits.headerBytes,
    requestTimeout: httpLimits.requestMs,
    headersTimeout: httpLimits.requestMs,
    keepAliveTimeout: httpLimits.requestMs,
    connectionsCheckingInterval: 1_000,
  }
  const server = createServer(options, (request, response) =>
    answer(pages, server.address() as AddressInfo, request, response),
  )
  server.maxConnections = httpLimits.connections
  server.maxRequestsPerSocket = httpLimits.requestsPerConnection
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  const { address, port } = await listen(server, bind.host, bind.port)
  if (!isLoopback(address)) {
    await close()
    throw new CodedError('public_bind_forbidden', address)
  }
  return { address: `${hostOf(address)}:${port}`, close }
}
