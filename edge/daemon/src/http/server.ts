import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { type AddressInfo, isIPv6 } from 'node:net'
import { CodedError, reasonOf } from '@lenserfight/schemas'
import { isLoopback } from './bind.ts'
import type { PageToken } from './token.ts'

/** Limits of the loopback listener: every program of this machine reaches it. */
export const httpLimits = {
  connections: 32,
  headerBytes: 4 * 1024,
  /** A request must be whole, and an idle connection is kept, no longer than this, milliseconds. */
  requestMs: 5_000,
  requestsPerConnection: 100,
} as const

type Page = () => Readonly<Record<string, unknown>>

/** What is told at a path, and to whom. */
export interface Pages {
  /** To every program of this machine, whoever its user is. */
  readonly everybodys: Readonly<Record<string, Page>>
  /** To those that show the token. */
  readonly owners: Readonly<Record<string, Page>>
}

/** What is served, and who is told all of it. */
export interface Served {
  readonly pages: Pages
  readonly token: Pick<PageToken, 'isIn'>
}

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
  if (status === 401) response.setHeader('www-authenticate', 'Bearer')
  reply(response, status, { ok: false, code: 'usage', message: reasonOf('usage').message, detail })
}

const hostOf = (address: string): string => (isIPv6(address) ? `[${address}]` : address)

/** A page that a browser loaded from elsewhere reaches this listener under a name of its own (DNS rebinding). */
const isOwnHost = ({ headers: { host = '' } }: IncomingMessage, { address, port }: AddressInfo): boolean =>
  [hostOf(address), '127.0.0.1', '[::1]', 'localhost'].some((name) => host.toLowerCase() === `${name}:${port}`)

const hasBody = ({ headers: { 'content-length': length, 'transfer-encoding': encoding } }: IncomingMessage): boolean =>
  encoding !== undefined || (length !== undefined && length !== '0')

/** Browsers say where a request comes from: in one header or the other, and of an image or a link in the second alone. */
const isOfWebPage = ({ headers: { origin, 'sec-fetch-site': site = 'none' } }: IncomingMessage): boolean =>
  origin !== undefined || site !== 'none'

/** Why a request is not answered, or undefined where it is. */
const objectionTo = (
  { pages, token }: Served,
  own: AddressInfo,
  request: IncomingMessage,
): [number, string] | undefined => {
  if (!isOwnHost(request, own)) return [403, 'the Host header is not this listener’s']
  if (isOfWebPage(request)) return [403, 'no web page is answered']
  if (request.method !== 'GET' && request.method !== 'HEAD') return [405, 'only GET']
  if (hasBody(request)) return [400, 'a request has no body']
  const { url = '' } = request
  if (Object.hasOwn(pages.everybodys, url)) return undefined
  // Told before whether there is such a page: without the token there is one.
  if (!token.isIn(request.headers.authorization)) return [401, 'it takes the token in the daemon’s state folder']
  return Object.hasOwn(pages.owners, url) ? undefined : [404, 'there is no such page']
}

const answer = (served: Served, own: AddressInfo, request: IncomingMessage, response: ServerResponse): void => {
  const objection = objectionTo(served, own, request)
  const { everybodys, owners } = served.pages
  if (objection === undefined) reply(response, 200, ({ ...owners, ...everybodys }[request.url ?? ''] as Page)())
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
 * Serves pages to programs of this machine: over loopback alone, read-only, never to a web page of elsewhere, and to
 * programs of other users nothing but `everybodys`.
 * @param bind an address that `resolveBind` gave
 * @param port 0 picks a free one
 * @throws CodedError `port_in_use`, `config_invalid`, `public_bind_forbidden`
 */
export const serveHttp = async (bind: { host: string; port: number }, served: Served): Promise<HttpServer> => {
  // An import statement would load Node's HTTP client too: 14 MB that are never used.
  const { createServer } = process.getBuiltinModule('node:http')
  const options = {
    maxHeaderSize: httpLimits.headerBytes,
    requestTimeout: httpLimits.requestMs,
    headersTimeout: httpLimits.requestMs,
    keepAliveTimeout: httpLimits.requestMs,
    connectionsCheckingInterval: 1_000,
  }
  const server = createServer(options, (request, response) =>
    answer(served, server.address() as AddressInfo, request, response),
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
