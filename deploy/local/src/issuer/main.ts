/**
 * The development issuer: says who somebody is to whoever knows the stack's secret. It stands in for the platform's own
 * sign-in, speaks what that speaks (a JWT and a JWKS), and listens on loopback alone. Its key lives as long as the process.
 */
import { timingSafeEqual } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { onStopRequest } from '../stop-signals.ts'

interface IssuerConfig {
  /** File with the secret that a token request must name. */
  secret_file: string
  /** Where `{port, pid}` is written once it listens. */
  health_file: string
}

interface TokenRequest {
  client_secret: string
  subject: string
  nonce: string
  audience: string
}

const largestRequest = 4096
const tokenLife = '5m'
const configFile = process.argv[process.argv.indexOf('--config') + 1] as string
const config = JSON.parse(readFileSync(configFile, 'utf8')) as IssuerConfig
const secret = readFileSync(config.secret_file, 'utf8').trim()
const { privateKey, publicKey } = await generateKeyPair('ES256')
const jwk = { ...(await exportJWK(publicKey)), kid: 'development', alg: 'ES256', use: 'sig' }

const server = createServer((request, response) => {
  answer(request).then(
    ({ status, body }) => send(response, status, body),
    () => send(response, 400, { error: 'invalid_request' }),
  )
})
server.requestTimeout = 5000
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  const next = `${config.health_file}.tmp`
  writeFileSync(next, JSON.stringify({ port, pid: process.pid }), { mode: 0o600 })
  renameSync(next, config.health_file)
})
await onStopRequest().requested
server.close()
process.exit(0)

async function answer(request: IncomingMessage): Promise<{ status: number; body: object }> {
  const route = `${request.method} ${request.url}`
  if (route === 'GET /readyz') return { status: 200, body: { state: 'ready' } }
  if (route === 'GET /.well-known/jwks.json') return { status: 200, body: { keys: [jwk] } }
  if (route !== 'POST /token') return { status: 404, body: { error: 'not_found' } }
  const { client_secret, subject, nonce, audience } = readRequest(await readBody(request))
  if (!isSecret(client_secret)) return { status: 401, body: { error: 'invalid_client' } }
  const { port } = server.address() as AddressInfo
  const token = await new SignJWT({ nonce })
    .setProtectedHeader({ alg: 'ES256', kid: jwk.kid })
    .setIssuer(`http://127.0.0.1:${port}`)
    .setSubject(subject)
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime(tokenLife)
    .sign(privateKey)
  return { status: 200, body: { id_token: token } }
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk
    if (text.length > largestRequest) throw new RangeError('request too large')
  }
  return text
}

function readRequest(text: string): TokenRequest {
  const value = JSON.parse(text) as Record<string, unknown>
  for (const name of ['client_secret', 'subject', 'nonce', 'audience']) {
    if (typeof value[name] !== 'string' || value[name] === '') throw new TypeError(`${name} is missing`)
  }
  return value as unknown as TokenRequest
}

function isSecret(given: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(secret)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
