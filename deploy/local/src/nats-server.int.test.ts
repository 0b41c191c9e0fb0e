import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { allGone, ownRun, ownTemporary } from './_support.ts'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { startNats } from './nats.ts'
import { ensureNatsServer } from './nats-server.ts'
import { fetchRelease, releasePlatform } from './nats-server-release.ts'
import { compareVersions, isSupported } from './nats-server-version.ts'
import { isFree } from './ports.ts'

test('a nats-server of version 2.10 or later is found', async (t) => {
  const server = await ensureNatsServer({ env: readEnvironment() })
  t.true(compareVersions(server.version, '2.10.0') >= 0)
})

test('the oldest supported line and a newer one are to be had', async (t) => {
  const env = readEnvironment()
  const oldest = await ensureNatsServer({ env, want: 'oldest' })
  const newest = await ensureNatsServer({ env, want: 'newest' })
  t.regex(oldest.version, /^2\.10\./)
  t.true(compareVersions(newest.version, '2.11.0') >= 0)
})

test('versions are ordered as numbers, and 2.9 is too old', (t) => {
  t.true(compareVersions('2.10.0', '2.9.10') > 0)
  t.is(compareVersions('2.10.27', '2.10.27'), 0)
  t.false(isSupported('2.9.10'))
  t.true(isSupported('2.10.0'))
})

test('a chosen server that is too old is refused with the remedy, not passed over', async (t) => {
  const natsServer = fakeBinary(ownTemporary(t), 'v2.9.10')
  const env = { ...readEnvironment(), natsServer }
  const error = await t.throwsAsync(ensureNatsServer({ env }), { instanceOf: LocalError })
  t.is(error.code, 'nats_server_too_old')
  t.regex(error.message, /2\.9\.10.*NATS_SERVER/)
})

test('an old server on the PATH is passed over, and said so', async (t) => {
  const folder = ownTemporary(t)
  fakeBinary(folder, 'v2.9.10')
  const said: string[] = []
  const env = { ...readEnvironment(), natsServer: undefined, path: [folder] }
  const server = await ensureNatsServer({ env, say: (sentence) => said.push(sentence) })
  t.true(isSupported(server.version))
  t.regex(said.join(), /2\.9\.10: passed over/)
})

test('a release whose digest is not the pinned one is not unpacked', async (t) => {
  const site = await releaseSite(t, Buffer.from('not what was pinned'))
  const folder = ownTemporary(t)
  const release = { version: '2.11.8', digests: { [releasePlatform()]: '0'.repeat(64) } }
  const error = await t.throwsAsync(fetchRelease({ release, folder, site }), { instanceOf: LocalError })
  t.is(error.code, 'nats_server_digest_mismatch')
  t.deepEqual(readdirSync(folder), [])
})

test('a release with the pinned digest is unpacked', async (t) => {
  const { path, version } = await ensureNatsServer({ env: readEnvironment() })
  const folder = ownTemporary(t)
  const name = `nats-server-v${version}-${releasePlatform()}`
  mkdirSync(join(folder, name))
  copyFileSync(path, join(folder, name, 'nats-server'))
  execFileSync('tar', ['-czf', join(folder, 'made.tar.gz'), '-C', folder, name])
  const archive = readFileSync(join(folder, 'made.tar.gz'))
  const digest = createHash('sha256').update(archive).digest('hex')

  const release = { version, digests: { [releasePlatform()]: digest } }
  const fetched = await fetchRelease({ release, folder: ownTemporary(t), site: await releaseSite(t, archive) })
  t.true(readFileSync(fetched).equals(readFileSync(path)))
})

test('a broker starts on a port of its own, keeps it over restarts, and loses its store when told to', async (t) => {
  const { env, run } = await ownRun(t)
  const nats = await startNats({ env, run, nats: await ensureNatsServer({ env }), configText: '' })
  const { port, pid } = nats
  t.false(await isFree(port))
  const mark = join(nats.storeDir, 'mark')
  writeFileSync(mark, '')

  await nats.kill9()
  t.true(allGone([pid]))
  await nats.restart()
  t.is(nats.port, port)
  t.true(readdirSync(nats.storeDir).includes('mark'))

  await nats.restart({ emptyStore: true })
  t.is(nats.url, `nats://127.0.0.1:${port}`)
  t.false(readdirSync(nats.storeDir).includes('mark'))
})

test('a broker whose configuration is wrong is refused with the reason', async (t) => {
  const { env, run } = await ownRun(t)
  const nats = await ensureNatsServer({ env })
  const error = await t.throwsAsync(startNats({ env, run, nats, configText: 'accounts { broken' }), {
    instanceOf: LocalError,
  })
  t.is(error.code, 'nats_start_failed')
})

function fakeBinary(folder: string, version: string): string {
  const path = join(folder, 'nats-server')
  writeFileSync(path, `#!/bin/sh\necho "nats-server: ${version}"\n`)
  chmodSync(path, 0o755)
  return path
}

async function releaseSite(t: ExecutionContext, archive: Buffer): Promise<string> {
  const server = createServer((_request, response) => response.end(archive))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
