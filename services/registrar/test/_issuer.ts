import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from 'jose'

type Algorithm = 'EdDSA' | 'ES256' | 'RS256' | 'ES384' | 'HS256'

/** An issuer of tokens with real keys and a real key set over HTTP. */
export interface TestIssuer {
  readonly url: string
  readonly fetches: () => number
  /** What the key set's address answers from now on. */
  answerWith(answer: 'keys' | 'error' | 'nothing' | 'flood' | 'rubbish' | 'redirect'): void
  /** A token with these claims over good defaults; `undefined` takes a claim away. */
  token(claims?: JWTPayload, header?: { alg?: Algorithm; kid?: string; secret?: Uint8Array }): Promise<string>
  /** The bytes under which the key set shows the public key of an algorithm, as somebody could take them for a secret. */
  publicKeyBytes(alg: Algorithm): Promise<Uint8Array[]>
  stop(): Promise<void>
}

const audience = 'a-gateway'
const everybodys = new TextEncoder().encode('a secret that everybody may know!')
const algorithms = ['EdDSA', 'ES256', 'RS256', 'ES384'] as const

export async function startIssuer(): Promise<TestIssuer> {
  const pairs = new Map(
    await Promise.all(
      algorithms.map(async (alg) => [alg as string, await generateKeyPair(alg, { extractable: true })] as const),
    ),
  )
  const keys = await Promise.all(
    [...pairs].map(async ([alg, pair]) => ({ ...(await exportJWK(pair.publicKey)), kid: alg, alg, use: 'sig' })),
  )
  let mode = 'keys'
  let fetches = 0
  const server: Server = createServer((_, response) => {
    fetches += 1
    if (mode === 'nothing') return
    if (mode === 'error') response.writeHead(500).end()
    else if (mode === 'redirect') response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()
    else if (mode === 'rubbish') response.end('{"keys":')
    else if (mode === 'flood') response.end(`${JSON.stringify({ keys })}${' '.repeat(1024 * 1024)}`)
    else response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys }))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const token: TestIssuer['token'] = async (claims = {}, header = {}) => {
    const { alg = 'ES256', kid = alg } = header
    const now = Math.floor(Date.now() / 1000)
    const payload = { iss: url, aud: audience, sub: 'somebody', iat: now, exp: now + 300, ...claims }
    const given = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))
    const key = header.secret ?? pairs.get(alg)?.privateKey ?? everybodys
    return new SignJWT(given).setProtectedHeader({ alg, kid }).sign(key)
  }
  return {
    url,
    fetches: () => fetches,
    answerWith: (answer) => {
      mode = answer
    },
    token,
    publicKeyBytes: async (alg) => {
      const key = pairs.get(alg)?.publicKey
      if (key === undefined) throw new TypeError(`no key of ${alg}`)
      const text = new TextEncoder()
      return [text.encode(await exportSPKI(key)), text.encode(JSON.stringify(await exportJWK(key)))]
    },
    stop: async () => {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

export const issuerConfig = (url: string, over: { binding?: 'nonce' | 'none' } = {}) => ({
  issuer: url,
  jwks_url: `${url}/.well-known/jwks.json`,
  audience,
  binding: 'nonce' as const,
  ...over,
})

/** An issuer that shares a secret with us, as Supabase's does. */
export const secretIssuerConfig = (issuer: string, secret_file: string) => ({
  ...{ issuer, secret_file, audience: 'authenticated' },
  binding: 'none' as const,
})
