import { lookup } from 'node:dns/promises'
import { existsSync, mkdtempSync, readFileSync, statSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { isLoopback, resolveBind } from './bind.ts'
import { createPages } from './pages.ts'
import { httpLimits, serveHttp } from './server.ts'
import { createPageToken } from './token.ts'

/** What the next pulls come to. */
const pulls: (() => Promise<Record<string, unknown>>)[] = []
const pages = createPages({
  identity: () => ({ device_id: 'LTG-CANARY-device' }),
  obstacle: () => 'device_revoked',
  pending: () => 3,
  pull: () => pulls.shift()?.() ?? Promise.resolve({ rows: 1, objects: 1, done: true }),
})
const newToken = () => {
  const file = join(mkdtempSync(join(tmpdir(), 'lf-http-')), 'daemon.token')
  const token = createPageToken(file)
  return { file, token, text: readFileSync(file, 'utf8').trim() }
}
const served = { pages, token: newToken().token }

const serve = async (t: ExecutionContext) => {
  const { token, text } = newToken()
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, { pages, token })
  t.teardown(server.close)
  return { server, port: Number(server.address.split(':')[1]), text, headers: { authorization: `Bearer ${text}` } }
}

interface Got {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
}
const get = (port: number, path: string, more: { method?: string; headers?: object; body?: string } = {}) =>
  new Promise<Got>((resolve, reject) => {
    const { body, ...options } = more
    const asked = httpRequest({ host: '127.0.0.1', port, path, ...options } as object, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
    })
    asked.on('error', reject)
    asked.end(body)
  })

/** Says something over a bare connection, and hears until it ends. */
const say = (port: number, text: string): Promise<string> =>
  new Promise((resolve) => {
    let heard = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      heard += chunk
    })
    socket.on('error', () => resolve(heard))
    socket.on('close', () => resolve(heard))
  })

const everywhere = [
  ...['0.0.0.0', '0', '0x0', '00', '0.0', '0.0.0', '000.0.0.0', '0x0.0x0.0x0.0x0', '00000000000', ' 0.0.0.0'],
  ...['::', '::0', '0::0', '0:0:0:0:0:0:0:0', '0000:0000:0000:0000:0000:0000:0000:0000', '::0.0.0.0', '::%lo'],
  ...['::ffff:0.0.0.0', '::ffff:0:0', '::ffff:0', '[::]', '[0.0.0.0]', '[::ffff:0.0.0.0]', '*', '', ' ', '[]'],
]

test('LH-2: every spelling of every address is refused', async (t) => {
  for (const bind of everywhere) {
    await t.throwsAsync(resolveBind(bind), { code: 'public_bind_forbidden' }, JSON.stringify(bind))
  }
})

test('LH-2: what is not loopback is refused, and a name is judged by what it means', async (t) => {
  const others = ['10.0.0.1', '192.168.1.1', '100.64.0.1', '169.254.1.1', '8.8.8.8', 'fe80::1', 'fd00::1', '128.0.0.1']
  for (const bind of [...others, '::ffff:10.0.0.1', 'no-such-name.invalid', '127.0.0.1:80', '127.0.0.256', 'a b']) {
    await t.throwsAsync(resolveBind(bind), { code: 'public_bind_forbidden' }, bind)
  }
  const [zero] = await lookup('0', { all: true })
  t.is(zero?.address, '0.0.0.0', 'this system resolves names of numbers, so the test above is about something')
})

test('loopback addresses are taken, and what is listened on is an address', async (t) => {
  t.is(await resolveBind('127.0.0.1'), '127.0.0.1')
  t.is(await resolveBind('127.1'), '127.0.0.1')
  t.is(await resolveBind('127.8.9.10'), '127.8.9.10')
  t.is(await resolveBind('::1'), '::1')
  t.is(await resolveBind('[::1]'), '::1')
  t.true(isLoopback(await resolveBind('localhost')))
})

test('the listener itself refuses an address that is not loopback', async (t) => {
  await t.throwsAsync(serveHttp({ host: '0.0.0.0', port: 0 }, served), { code: 'public_bind_forbidden' })
})

test('a port that is taken is refused with its code', async (t) => {
  const { port } = await serve(t)
  await t.throwsAsync(serveHttp({ host: '127.0.0.1', port }, served), { code: 'port_in_use' })
})

test('with the token pages are read, and nothing else is there', async (t) => {
  const { port, headers } = await serve(t)
  const got = await get(port, '/outbox', { headers })
  t.deepEqual([got.status, JSON.parse(got.text)], [200, { pending: 3 }])
  t.is(got.headers['access-control-allow-origin'], undefined)
  t.is(got.headers['cache-control'], 'no-store')
  t.is((await get(port, '/outbox', { headers, method: 'HEAD' })).text, '')
  const { code, device_id } = JSON.parse((await get(port, '/status', { headers })).text) as Record<string, unknown>
  t.deepEqual([code, device_id], ['device_revoked', 'LTG-CANARY-device'])
  for (const path of ['/', '/outbox/', '/outbox?x=1', '/OUTBOX', '/../outbox', '/toString', '/__proto__', '//outbox'])
    t.is((await get(port, path, { headers })).status, 404, path)
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
    t.is((await get(port, '/outbox', { headers, method })).status, 405, method)
  const body = { body: 'x', headers: { ...headers, 'content-length': 1 } }
  t.is((await get(port, '/outbox', body)).status, 400)
})

test.serial('with the token objects are pulled, by POST alone and without a body', async (t) => {
  const { port, headers } = await serve(t)
  const pull = (more: object = {}) => get(port, '/sync/pull', { method: 'POST', headers, ...more })
  const got = await pull()
  t.deepEqual([got.status, JSON.parse(got.text)], [200, { rows: 1, objects: 1, done: true }])
  t.is((await pull({ headers: { ...headers, 'content-length': 0 } })).status, 200)
  t.is((await pull({ body: 'x', headers: { ...headers, 'content-length': 1 } })).status, 400)
  t.is((await pull({ headers: {} })).status, 401)
  t.is((await pull({ headers: { ...headers, origin: `http://127.0.0.1:${port}` } })).status, 403)
  for (const [path, method, allow] of [
    ['/sync/pull', 'GET', 'POST'],
    ['/sync/pull', 'HEAD', 'POST'],
    ['/sync/pull', 'PUT', 'GET, HEAD, POST'],
    ['/healthz', 'POST', 'GET, HEAD'],
    ['/identity', 'POST', 'GET, HEAD'],
  ] as const) {
    const { status, headers: said } = await get(port, path, { method, headers })
    t.deepEqual([status, said.allow], [405, allow], `${method} ${path}`)
  }
  t.is((await get(port, '/sync/push', { method: 'POST', headers })).status, 404)
  t.is((await get(port, '/healthz', { method: 'POST' })).status, 401, 'what there is, is not told by that either')
})

test.serial('a pull that fails says why, by its code, and nothing else', async (t) => {
  const { port, headers } = await serve(t)
  const failures = [new CodedError('gateway_unreachable'), new TypeError('LTG-CANARY')]
  pulls.push(...failures.map((failure) => () => Promise.reject(failure)))
  for (const [status, code] of [
    [503, 'gateway_unreachable'],
    [500, 'internal_error'],
  ] as const) {
    const got = await get(port, '/sync/pull', { method: 'POST', headers })
    t.deepEqual([got.status, JSON.parse(got.text).code], [status, code])
    t.false(got.text.includes('LTG-CANARY'))
  }
})

test('who asks for a pull while one is under way is told what comes of that one', async (t) => {
  const asked: ((result: Record<string, unknown>) => void)[] = []
  const pull = () => new Promise<Record<string, unknown>>((resolve) => asked.push(resolve))
  const shown = { identity: () => ({ device_id: '' }), obstacle: () => undefined, pending: () => 0, pull }
  const act = createPages(shown).actions['/sync/pull'] as () => Promise<unknown>
  const both = [act(), act()]
  t.is(asked.length, 1)
  asked[0]?.({ rows: 1 })
  t.deepEqual(await Promise.all(both), [{ rows: 1 }, { rows: 1 }])
  const next = act()
  t.is(asked.length, 2, 'the next is one of its own')
  asked[1]?.({ rows: 2 })
  t.deepEqual(await next, { rows: 2 })
})

test('another user of this machine learns that a daemon lives, and nothing else', async (t) => {
  const { port } = await serve(t)
  const health = await get(port, '/healthz')
  t.deepEqual([health.status, JSON.parse(health.text)], [200, { status: 'ok' }], 'whatever the device’s state')
  const all = [...Object.keys(pages.owners), '/', '/no-such-page', '/healthz/', '/healthz?all=1', '/__proto__']
  t.true(all.includes('/identity'))
  const told = await Promise.all(all.map((path) => get(port, path)))
  const [first] = told
  t.is(first?.status, 401)
  t.is(first?.headers['www-authenticate'], 'Bearer')
  for (const { status, text } of told) {
    t.deepEqual([status, text], [401, first?.text], 'which pages there are is not told either')
    t.false(text.includes('LTG-CANARY'))
  }
  t.is((await get(port, '/identity', { method: 'HEAD' })).status, 401)
})

test('what is not the token, whole and in its place, opens nothing', async (t) => {
  const { port, text, headers } = await serve(t)
  const other = newToken().text
  const wrong = [
    ...['', 'Bearer', 'Bearer ', text, `bearer ${text}`, `Basic ${text}`, `Bearer ${other}`, `Bearer ${text}x`],
    ...[
      `Bearer ${text.slice(0, -1)}`,
      `Bearer  ${text}`,
      `Bearer ${text}, Bearer ${other}`,
      `Bearer ${text.toLowerCase()}`,
    ],
    ...[`Bearer ${'x'.repeat(2_000)}`, 'Bearer \u00e9'],
  ]
  for (const authorization of wrong)
    t.is((await get(port, '/identity', { headers: { authorization } })).status, 401, authorization)
  t.is((await get(port, `/identity?token=${text}`)).status, 401)
  t.is((await get(port, '/identity', { headers: { cookie: `token=${text}`, 'x-token': text } })).status, 401)
  t.is((await get(port, '/identity', { headers })).status, 200, 'the same with the token, so the above is about it')
})

test('the token is random, this user’s alone, new with each daemon, and gone with it', (t) => {
  const { file, token, text } = newToken()
  t.is(statSync(file).mode & 0o777, 0o600)
  t.regex(text, /^[A-Za-z0-9_-]{43}$/)
  const next = createPageToken(file)
  const renewed = readFileSync(file, 'utf8').trim()
  t.deepEqual([token.isIn(`Bearer ${text}`), next.isIn(`Bearer ${text}`)], [true, false])
  t.true(next.isIn(`Bearer ${renewed}`))
  t.false(next.isIn(undefined))
  token.revoke()
  t.true(existsSync(file), 'it is another daemon’s by now')
  next.revoke()
  t.false(existsSync(file))
})

test('a web page of elsewhere is refused, by whatever name it came, even one that had the token', async (t) => {
  const { port, headers } = await serve(t)
  const statusOf = async (more: Record<string, string>) =>
    (await get(port, '/identity', { headers: { ...headers, ...more } })).status
  const hosts = [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1',
    'localhost',
    '127.0.0.1:1',
    `127.0.0.1.evil:${port}`,
    `localhost.:${port}`,
    `0.0.0.0:${port}`,
  ]
  for (const host of hosts) {
    t.is(await statusOf({ host }), 403, host)
    t.is((await get(port, '/healthz', { headers: { host } })).status, 403, host)
  }
  for (const host of [`localhost:${port}`, `LOCALHOST:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`])
    t.is(await statusOf({ host }), 200, host)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\nHost:\r\n\r\n'), /^HTTP\/1\.1 403 /)
  for (const origin of ['https://evil.example', 'null', `http://127.0.0.1:${port}`])
    t.is(await statusOf({ origin }), 403, origin)
})

test('an image, a script or a link of a web page, which name no origin, are refused as well', async (t) => {
  const { port } = await serve(t)
  for (const site of ['cross-site', 'same-site', 'same-origin'])
    t.is((await get(port, '/healthz', { headers: { 'sec-fetch-site': site } })).status, 403, site)
  const typed = await get(port, '/healthz', { headers: { 'sec-fetch-site': 'none' } })
  t.is(typed.status, 200, 'its user typed the address')
})

test('what is too long, too slow or no request ends the connection', async (t) => {
  const { port } = await serve(t)
  const long = `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nX: ${'x'.repeat(httpLimits.headerBytes)}\r\n\r\n`
  t.regex(await say(port, long), /^HTTP\/1\.1 431 /)
  t.regex(await say(port, 'no request\r\n\r\n'), /^HTTP\/1\.1 400 /)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\nHost'), /^HTTP\/1\.1 408 /)
})
