import { lookup } from 'node:dns/promises'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { isLoopback, resolveBind } from './bind.ts'
import { httpLimits, serveHttp } from './server.ts'

const pages = { '/healthz': () => ({ status: 'ok' }), '/outbox': () => ({ pending: 3 }) }

const serve = async (t: ExecutionContext) => {
  const server = await serveHttp({ host: '127.0.0.1', port: 0 }, pages)
  t.teardown(server.close)
  return { server, port: Number(server.address.split(':')[1]) }
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
  await t.throwsAsync(serveHttp({ host: '0.0.0.0', port: 0 }, pages), { code: 'public_bind_forbidden' })
})

test('a port that is taken is refused with its code', async (t) => {
  const { port } = await serve(t)
  await t.throwsAsync(serveHttp({ host: '127.0.0.1', port }, pages), { code: 'port_in_use' })
})

test('pages are read, and nothing else is there', async (t) => {
  const { port } = await serve(t)
  const got = await get(port, '/outbox')
  t.deepEqual([got.status, JSON.parse(got.text)], [200, { pending: 3 }])
  t.is(got.headers['access-control-allow-origin'], undefined)
  t.is((await get(port, '/outbox', { method: 'HEAD' })).text, '')
  for (const path of ['/', '/outbox/', '/outbox?x=1', '/OUTBOX', '/../outbox', '/toString', '/__proto__', '//outbox'])
    t.is((await get(port, path)).status, 404, path)
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
    t.is((await get(port, '/outbox', { method })).status, 405, method)
  t.is((await get(port, '/outbox', { body: 'x', headers: { 'content-length': 1 } })).status, 400)
})

test('a web page of elsewhere is refused, by whatever name it came', async (t) => {
  const { port } = await serve(t)
  const hosts = [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1',
    'localhost',
    '127.0.0.1:1',
    `127.0.0.1.evil:${port}`,
  ]
  for (const host of hosts) t.is((await get(port, '/healthz', { headers: { host } })).status, 403, host)
  for (const host of [`localhost:${port}`, `LOCALHOST:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`])
    t.is((await get(port, '/healthz', { headers: { host } })).status, 200, host)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\nHost:\r\n\r\n'), /^HTTP\/1\.1 403 /)
  for (const origin of ['https://evil.example', 'null', `http://127.0.0.1:${port}`])
    t.is((await get(port, '/healthz', { headers: { origin } })).status, 403, origin)
})

test('what is too long, too slow or no request ends the connection', async (t) => {
  const { port } = await serve(t)
  const long = `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nX: ${'x'.repeat(httpLimits.headerBytes)}\r\n\r\n`
  t.regex(await say(port, long), /^HTTP\/1\.1 431 /)
  t.regex(await say(port, 'no request\r\n\r\n'), /^HTTP\/1\.1 400 /)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /)
  t.regex(await say(port, 'GET /healthz HTTP/1.1\r\nHost'), /^HTTP\/1\.1 408 /)
})
