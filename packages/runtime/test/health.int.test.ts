import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { createLogger, createState, serveHealth } from '../src/index.ts'

const logger = createLogger({ service: 'verifier', level: 'silent' })

test('/readyz is 200 only while consuming, /healthz always; both tell the state', async (t) => {
  const holder = createState({ logger })
  const health = await serveHealth({ port: 0, ...holder, details: () => ({ held: 2 }), logger })
  const get = (path: string) => fetch(`http://127.0.0.1:${health.port}${path}`)
  t.is((await get('/readyz')).status, 503)
  t.is((await get('/healthz')).status, 200)
  holder.set('consuming')
  const ready = await get('/readyz')
  t.is(ready.status, 200)
  t.like(await ready.json(), { service: 'verifier', state: 'consuming', pid: process.pid, held: 2 })
  holder.set('holding', 'database')
  t.is((await get('/readyz')).status, 503)
  t.is((await get('/secrets')).status, 404)
  holder.set('stopping')
  holder.set('consuming')
  t.is(holder.state(), 'stopping')
  await health.close()
})

test('CO-3: the health file names port and pid, is 0600 and goes with the server', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'health-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'health.json')
  const health = await serveHealth({ port: 0, file, state: () => 'starting', logger })
  t.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { port: health.port, pid: process.pid })
  t.is(statSync(file).mode & 0o777, 0o600)
  await health.close()
  t.false(existsSync(file))
})
