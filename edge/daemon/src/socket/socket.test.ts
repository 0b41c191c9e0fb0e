import { mkdtempSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createLogger } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { connectDaemon } from './client.ts'
import { createLineSplitter } from './lines.ts'
import { parseRequest, parseResponse, socketLimits } from './protocol.ts'
import { type Methods, serveSocket } from './server.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })

/** Methods to be called over the socket, which is all that is looked at here: what the daemon's own do is seen where each is. */
const methodsWith = (more: Partial<Methods> = {}): Methods => ({
  status: async () => ({ up: true }),
  'run.permit': async ({ run }) => ({ run }),
  'run.approval': async () => ({}),
  'run.withdraw': async () => ({}),
  'run.start': async () => ({}),
  'run.tool': async () => ({}),
  'run.heartbeat': async () => ({}),
  'run.complete': async () => ({}),
  'objects.set': async () => ({}),
  'objects.delete': async () => ({}),
  'objects.undelete': async () => ({}),
  'objects.discard': async () => ({}),
  'objects.get': async () => ({}),
  'objects.list': async () => ({}),
  'sync.status': async () => ({}),
  'sync.pull': async () => ({}),
  'sync.push': async () => ({}),
  canary: async () => ({}),
  'identity.rotate': async () => ({}),
  'identity.prepare': async () => ({}),
  'identity.settle': async () => ({}),
  'operation.wait': async () => {
    throw new CodedError('device_pending', 'x')
  },
  ...more,
})

const serve = async (t: ExecutionContext, more: Partial<Methods> = {}) => {
  const path = join(mkdtempSync(join(tmpdir(), 'lf-sock-')), 'daemon.sock')
  const server = await serveSocket(path, methodsWith(more), logger)
  t.teardown(server.close)
  return path
}

/** Says raw bytes and collects what comes back until the connection ends or so many lines came. */
const say = (path: string, text: string, lines: number): Promise<string[]> =>
  new Promise((resolve, reject) => {
    const socket = createConnection(path)
    let heard = ''
    const done = (): void => {
      socket.destroy()
      resolve(heard.split('\n').filter((line) => line !== ''))
    }
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      heard += chunk
      if (heard.split('\n').length > lines) done()
    })
    socket.on('error', reject).on('close', done)
    socket.write(text)
  })

test('CO-3: the socket is this user’s alone', async (t) => {
  const path = await serve(t)
  t.is(statSync(path).mode & 0o777, 0o600)
})

test('requests of one connection are answered as each is ready, by id', async (t) => {
  const path = await serve(t, {
    'operation.wait': () => new Promise((resolve) => setTimeout(resolve, 100, { late: true })),
  })
  const client = await connectDaemon(path)
  t.teardown(client.close)
  const order: string[] = []
  const late = client.request('operation.wait', { op_id: 'x', timeout_ms: 0 }).then(() => order.push('late'))
  const early = client.request('status', {}).then((result) => {
    order.push('early')
    t.deepEqual(result, { up: true })
  })
  await Promise.all([late, early])
  t.deepEqual(order, ['early', 'late'])
})

test('a method’s code and detail reach who asked', async (t) => {
  const client = await connectDaemon(await serve(t))
  t.teardown(client.close)
  const error = await t.throwsAsync(client.request('operation.wait', { op_id: 'x', timeout_ms: 0 }), {
    code: 'device_pending',
  })
  t.is((error as CodedError | undefined)?.detail, 'x')
})

test('what nobody meant to throw is an internal error, without its words', async (t) => {
  const path = await serve(t, {
    status: async () => {
      throw new Error('a secret')
    },
  })
  const [line] = await say(path, '{"id":1,"method":"status"}\n', 1)
  t.deepEqual(JSON.parse(line as string), { id: 1, ok: false, code: 'internal_error' })
})

test('what is no request is refused, and the connection goes on', async (t) => {
  const path = await serve(t)
  const lines = [
    'not json',
    '[]',
    '{"id":1}',
    '{"id":1,"method":"nope"}',
    '{"id":1,"method":"__proto__"}',
    '{"id":1,"method":"status","params":{"x":1}}',
    '{"id":-1,"method":"status"}',
    '{"id":1,"method":"run.permit","params":{"run":{},"timeout_ms":1e9}}',
  ]
  const answers = await say(path, `${lines.join('\n')}\n{"id":"last","method":"status"}\n`, lines.length + 1)
  const parsed = answers.map((line) => parseResponse(line))
  t.is(parsed.filter((response) => response?.ok === false && response.code === 'usage').length, lines.length)
  t.true(parsed.some((response) => response?.ok === true && response.id === 'last'))
})

test('a line that is too long ends the connection', async (t) => {
  const path = await serve(t)
  const answers = await say(path, 'x'.repeat(socketLimits.lineBytes + 2), 99)
  t.is(answers.length, 1)
  t.is((JSON.parse(answers[0] as string) as { code: string }).code, 'usage')
})

test('more requests at once than allowed are told to wait', async (t) => {
  const path = await serve(t, { 'operation.wait': () => new Promise(() => {}) })
  const wait = '{"id":1,"method":"operation.wait","params":{"op_id":"x","timeout_ms":1}}\n'
  const [line] = await say(path, wait.repeat(socketLimits.requestsPerConnection + 1), 1)
  t.is((JSON.parse(line as string) as { code: string }).code, 'rate_limited')
})

test('a request is told when nobody waits for its answer any more', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const path = await serve(t, {
    status: (_params, signal) =>
      new Promise((end) => {
        signal.addEventListener('abort', () => {
          resolve()
          end({})
        })
      }),
  })
  const client = await connectDaemon(path)
  const asked = t.throwsAsync(client.request('status', {}), { code: 'daemon_unreachable' })
  setTimeout(client.close, 50)
  await asked
  await promise
  t.pass()
})

test('a daemon that is not there is daemon_unreachable', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-sock-'))
  await t.throwsAsync(connectDaemon(join(folder, 'daemon.sock')), { code: 'daemon_unreachable' })
  writeFileSync(join(folder, 'plain'), '')
  await t.throwsAsync(connectDaemon(join(folder, 'plain')), { code: 'daemon_unreachable' })
})

test('a socket left by a dead daemon is replaced, and a path that is too long is refused', async (t) => {
  const path = await serve(t)
  const again = await serveSocket(path, methodsWith({ status: async () => ({ second: true }) }), logger)
  t.teardown(again.close)
  const client = await connectDaemon(path)
  t.teardown(client.close)
  t.deepEqual(await client.request('status', {}), { second: true })
  t.deepEqual(readdirSync(dirname(path)), [basename(path)])
  const long = join(mkdtempSync(join(tmpdir(), 'lf-sock-')), 'x'.repeat(100))
  await t.throwsAsync(serveSocket(long, methodsWith(), logger), { code: 'config_invalid' })
})

test('a daemon takes away its own socket alone, not that of the next one', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 'lf-sock-')), 'daemon.sock')
  const old = await serveSocket(path, methodsWith(), logger)
  const next = await serveSocket(path, methodsWith({ status: async () => ({ second: true }) }), logger)
  await old.close()
  const client = await connectDaemon(path)
  t.deepEqual(await client.request('status', {}), { second: true })
  client.close()
  await next.close()
  t.deepEqual(readdirSync(dirname(path)), [])
})

test('lines are cut wherever the chunks are, and characters stay whole', (t) => {
  const splitter = createLineSplitter(1000)
  const bytes = Buffer.from('ü\n€\n𝄞x')
  const lines = [...bytes].flatMap((byte) => splitter.push(Buffer.from([byte])) ?? [])
  t.deepEqual(lines, ['ü', '€'])
  t.true(splitter.isPartial())
  t.is(createLineSplitter(3).push(Buffer.from('1234\n')), undefined)
  t.deepEqual(createLineSplitter(4).push(Buffer.from('1234\n')), ['1234'])
})

test('a response is one of the daemon’s or nothing', (t) => {
  for (const line of ['', 'null', '1', '{}', '{"ok":false,"code":"nope"}', '{"ok":true}'])
    t.is(parseResponse(line), undefined)
  t.truthy(parseResponse('{"id":1,"ok":true,"result":{}}'))
  t.true('request' in parseRequest('{"id":1,"method":"status","params":{}}'))
})
