import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { type AddressInfo, isIPv6 } from 'node:net'
import { CodedError, type ReasonCode, reasonOf } from '@lenserfight/schemas'
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
/** @throws CodedError why it was not done */
type Action = () => Promise<Readonly<Record<string, unknown>>>

/** What is told at a path, and to whom. */
export interface Pages {
  /** To every program of this machine, whoever its user is. */
  readonly everybodys: Readonly<Record<string, Page>>
  /** To those that show the token. */
  readonly owners: Readonly<Record<string, Page>>
  /** What those that show the token have done, by POST without a body. */
  readonly actions: Readonly<Record<string, Action>>
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

interface Failure {
  readonly code: ReasonCode
  readonly detail?: string | undefined
}

const reply = (response: ServerResponse, status: number, value: object): void => {
  const text = `${JSON.stringify(value)}\n`
  response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text) })
  response.end(response.req.method === 'HEAD' ? undefined : text)
}

const replyFailure = (response: ServerResponse, status: number, { code, detail }: Failure): void =>
  reply(response, status, {
    ...{ ok: false, code, message: reasonOf(code).message },
    ...(detail === undefined ? {} : { detail }),
  })

const refuse = (response: ServerResponse, status: number, detail: string): void => {
  response.setHeader('connection', 'close')
  if (status === 401) response.setHeader('www-authenticate', 'Bearer')
  if (status === 405) response.setHeader('allow', detail.replace('only ', ''))
  replyFailure(response, status, { code: 'usage', detail })
}

const hostOf = (address: string): string => (isIPv6(address) ? `[${address}]` : address)

/** A page that a browser loaded from elsewhere reaches this listener under a name of its own (DNS rebinding). */
const isOwnHost = ({ headers: { host = '' } }: IncomingMessage, { address, port }: AddressInfo): boolean =>
  [hostOf(address), '127.0.0.1', '[::1]', 'localhost'].some((name) => host.toLowerCase() === `${name}:${port}`)

/** Methods that something may be asked for with. */
const methods = ['GET', 'HEAD', 'POST']

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
  const { url = '', method = '' } = request
  if (!methods.includes(method)) return [405, 'only GET, HEAD, POST']
  if (hasBody(request)) return [400, 'a request has no body']
  const isRead = method !== 'POST'
  if (isRead && Object.hasOwn(pages.everybodys, url)) return undefined
  // Told before whether there is such a page: without the token there is one.
  if (!token.isIn(request.headers.authorization)) return [401, 'it takes the token in the daemon’s state folder']
  const isPage = Object.hasOwn(pages.owners, url) || Object.hasOwn(pages.everybodys, url)
  const isAction = Object.hasOwn(pages.actions, url)
  if (!isPage && !isAction) return [404, 'there is no such page']
  if (isRead) return isPage ? undefined : [405, 'only POST']
  return isAction ? undefined : [405, 'only GET, HEAD']
}

const act = async (response: ServerResponse, action: Action): Promise<void> => {
  try {
    reply(response, 200, await action())
  } catch (error) {
    const isCoded = error instanceof CodedError
    replyFailure(response, isCoded ? 503 : 500, isCoded ? error : { code: 'internal_error' })
  }
}

const answer = (served: Served, own: AddressInfo, request: IncomingMessage, response: ServerResponse): void => {
  const objection = objectionTo(served, own, request)
  const { everybodys, owners, actions } = served.pages
  const { url = '' } = request
  if (objection !== undefined) refuse(response, ...objection)
  else if (request.method === 'POST') void act(response, actions[url] as Action)
  else reply(response, 200, ({ ...owners, ...everybodys }[url] as Page)())
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
 * Serves pages to programs of this machine: over loopback alone, never to a web page of elsewhere, and to programs of
 * other users nothing but `everybodys`. Nothing is changed but by POST, and by whoever shows the token.
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
