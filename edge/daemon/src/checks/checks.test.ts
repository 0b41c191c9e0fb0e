import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { type Keychain, openKeychain } from '@lenserfight/keychain'
import { CodedError, isReasonCode, limits } from '@lenserfight/schemas'
import test from 'ava'
import type { Enrolled } from '../settings.ts'
import {
  checkKeychain,
  demand,
  hopsOf,
  hostOf,
  judgeBus,
  judgeClock,
  judgeConfig,
  judgeDaemon,
  judgeIdentity,
  judgeTransport,
  reachGateway,
  readClock,
  runChecks,
} from './index.ts'

const uuid = (last: string): string => `00000000-0000-4000-8000-00000000000${last}`
const now = 1_800_000_000_000
const days = (count: number): number => now / 1000 + count * 24 * 3600
const keys = generateKeyPair()
const identity: Enrolled = {
  ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'm', device_type: 'ci', os: 'x' },
  ...{ gateway_id: uuid('a'), lenser: uuid('b'), device_id: uuid('c'), challenge_op: newUuidV7() },
  ...{ public_key: encodeKey(keys.publicKey), challenge: 'AAAAAAAAAAAAAAAAAAAAAA' },
}
const descriptor = { url: 'nats://127.0.0.1:9', gateway_id: uuid('a'), root_key: encodeKey(keys.publicKey) }

test('a clock is compared with the middle of the round trip', (t) => {
  t.deepEqual(readClock(now, 0, now / 1000), { offset_ms: 500, uncertainty_ms: 500 })
  t.deepEqual(readClock(now, 4_000, now / 1000 + 2), { offset_ms: 500, uncertainty_ms: 2_500 })
  t.deepEqual(readClock(now, 1_000, now / 1000 - 60), { offset_ms: -60_000, uncertainty_ms: 1_000 })
})

test('a clock is wrong from over 300 s on, in both directions, and never before', (t) => {
  const window = limits.iatWindowSeconds * 1000
  for (const offset_ms of [0, 12_000, window, -window]) {
    t.true(judgeClock({ offset_ms, uncertainty_ms: 500 }, 'x').ok, String(offset_ms))
  }
  for (const [offset_ms, words] of [
    [window + 1, /300 s behind/],
    [-window - 1, /300 s ahead/],
  ] as const) {
    const verdict = judgeClock({ offset_ms, uncertainty_ms: 500 }, 'x')
    t.true(!verdict.ok && verdict.code === 'clock_skew')
    t.regex(verdict.detail ?? '', words)
    t.is(verdict.data?.offset_ms, offset_ms)
  }
})

/** A keychain of files, with that under the key's name. */
const keychainOf = async (secret: string | undefined): Promise<() => Promise<Keychain>> => {
  const folder = join(mkdtempSync(join(tmpdir(), 'lf-keys-')), 'keys')
  const open = (): Promise<Keychain> => openKeychain({ fileFallback: '1', folder, warn: () => {} })
  if (secret !== undefined) await (await open()).set(identity.key_name, secret)
  return open
}

test('the keychain is right with the registered key in it, and nothing else passes', async (t) => {
  const right = await checkKeychain(await keychainOf(encodeKey(keys.privateKey)), identity)
  t.true(right.ok && right.warning?.includes('LF_GATEWAY_KEY_FILE_FALLBACK'))
  t.false(JSON.stringify(right).includes(encodeKey(keys.privateKey)))
  t.true((await checkKeychain(await keychainOf(undefined), undefined)).ok)
  for (const secret of [undefined, 'nonsense', encodeKey(generateKeyPair().privateKey)]) {
    await t.throwsAsync(checkKeychain(await keychainOf(secret), identity), { code: 'key_missing' })
  }
  const nowhere = { fileFallback: undefined, folder: '/nonexistent' }
  const none = () => openKeychain({ ...nowhere, warn: () => {}, env: { PATH: '', HOME: '/nonexistent' } })
  if (process.platform === 'linux') await t.throwsAsync(checkKeychain(none, identity), { code: 'keychain_unavailable' })
})

test('an identity is judged by what the gateway says of it', (t) => {
  const facts = { identity, descriptor, now, standing: undefined }
  t.true(judgeIdentity(facts).ok)
  t.throws(() => judgeIdentity({ ...facts, identity: undefined }), { code: 'not_enrolled' })
  t.throws(() => judgeIdentity({ ...facts, descriptor: undefined }), { code: 'descriptor_missing' })
  const other = { ...descriptor, gateway_id: uuid('d') }
  t.throws(() => judgeIdentity({ ...facts, descriptor: other }), { code: 'descriptor_changed' })
  for (const [standing, code] of [
    [{ trust_level: 'pending', challenge_verified: false }, 'awaiting_device_challenge'],
    [{ trust_level: 'pending', challenge_verified: true }, 'device_pending'],
    [{ trust_level: 'unhealthy', trust_reason: 'suspended by its owner' }, 'device_unhealthy'],
    [{ trust_level: 'unhealthy', trust_reason: 'identity_forked' }, 'identity_forked'],
    [{ trust_level: 'unhealthy', code: 'identity_forked' }, 'identity_forked'],
    [{ trust_level: 'revoked' }, 'device_revoked'],
    [{ trust_level: 'blocked' }, 'device_blocked'],
    [{ trust_level: 'approved', paused: true }, 'workspace_paused'],
    [{ trust_level: 'approved', code: 'workspace_paused' }, 'workspace_paused'],
    [{ trust_level: 'approved', key_expires_at: days(-1) }, 'key_expired'],
    [{ trust_level: 'approved', code: 'key_expired' }, 'key_expired'],
  ] as const) {
    const verdict = judgeIdentity({ ...facts, standing })
    t.is(verdict.ok ? null : verdict.code, code)
    t.throws(() => demand(verdict), { code })
  }
})

test('the end of a key is told before it comes', (t) => {
  const facts = { identity, descriptor, now }
  const at = (expires: number) =>
    judgeIdentity({ ...facts, standing: { trust_level: 'trusted', key_expires_at: expires } })
  const soon = at(days(limits.keyWarnDays - 1))
  t.true(soon.ok && soon.warning?.includes('13 days'))
  const later = at(days(limits.keyWarnDays + 1))
  t.true(later.ok && later.warning === undefined)
})

test('a daemon that answers is judged by whether it has the gateway', (t) => {
  const status = { daemon_version: '1.0.0', pid: 1, connection: 'connected', code: null }
  t.true(judgeDaemon(status).ok)
  t.true(judgeDaemon({ ...status, connection: 'disconnected', code: 'clock_skew' }).ok, 'that is the clock’s')
  const gone = judgeDaemon({ ...status, connection: 'disconnected', code: 'gateway_unreachable' })
  t.is(gone.ok ? null : gone.code, 'gateway_unreachable')
  t.regex((!gone.ok && gone.fix) || '', /^It connects again by itself/)
  const refused = judgeDaemon({ ...status, connection: 'refused', code: 'connection_refused' })
  t.is(refused.ok ? null : refused.code, 'connection_refused')
})

test('the transport’s check reports the active bind set', (t) => {
  const url = 'nats://127.0.0.1:4222'
  const verdict = judgeTransport({ url, connectMs: 3, bound: ['127.0.0.1:38080', '[::1]:38080'] })
  t.deepEqual(verdict.data?.bound, ['127.0.0.1:38080', '[::1]:38080'])
  t.true(verdict.ok && verdict.detail.includes('127.0.0.1:38080, [::1]:38080'))
  for (const bound of ['0.0.0.0:1', '[::]:1', '100.64.0.1:38080', 'localhost:1']) {
    const open = judgeTransport({ url, connectMs: 3, bound: ['127.0.0.1:1', bound] })
    t.is(open.ok ? null : open.code, 'public_bind_forbidden', bound)
  }
})

test('whether the gateway is there is asked of its address', async (t) => {
  t.deepEqual(hostOf('nats://h'), { host: 'h', port: 4222 })
  t.deepEqual(hostOf('tls://h:80'), { host: 'h', port: 80 })
  t.deepEqual(hostOf('nats://[::1]:9'), { host: '::1', port: 9 })
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const { signal } = new AbortController()
  t.true((await reachGateway(`nats://127.0.0.1:${port}`, signal)) >= 0)
  await new Promise((resolve) => server.close(resolve))
  await t.throwsAsync(reachGateway(`nats://127.0.0.1:${port}`, signal), { code: 'gateway_unreachable' })
  for (const url of ['not a url', 'h:4222'])
    await t.throwsAsync(reachGateway(url, signal), { code: 'descriptor_invalid' })
})

test('a canary’s hops add up, whatever the two clocks say', (t) => {
  for (const skew of [0, 90_000, -90_000]) {
    const gateway = now + skew
    const times = {
      sent_at: now,
      stored_at_ms: gateway + 10,
      claimed_at_ms: gateway + 25,
      applied_at_ms: gateway + 65,
      received_at: now + 75,
    }
    const { hops, offset_ms } = hopsOf(times)
    t.deepEqual(hops, { to_stored: 10, to_claimed: 15, to_applied: 40, back: 10, total: 75 })
    t.is(offset_ms, skew)
    t.true(judgeBus(times).ok)
  }
  for (const wrong of [undefined, {}, { sent_at: '1' }]) t.throws(() => judgeBus(wrong), { code: 'internal_error' })
})

test('secrets are told by where they lie', (t) => {
  t.true(judgeConfig({ projectSecrets: [], environmentSecrets: [] }).ok)
  const file = judgeConfig({
    projectSecrets: [{ file: '/x/.lenserfight.json', member: 'token' }],
    environmentSecrets: ['K'],
  })
  t.deepEqual(file.ok ? null : [file.code, file.detail], ['secret_in_config', 'token in /x/.lenserfight.json'])
  const env = judgeConfig({ projectSecrets: [], environmentSecrets: ['K'] })
  t.is(env.ok ? null : env.code, 'secret_in_environment')
})

test('DG-2: whatever becomes of a check, its result has a registered code, and a fix where it failed', async (t) => {
  const results = await runChecks(
    [
      { name: 'clock', late: 'answer_timeout', ask: () => ({ ok: true, detail: 'fine' }) },
      { name: 'identity', late: 'not_enrolled', ask: () => Promise.reject(new CodedError('not_enrolled')) },
      { name: 'bus', late: 'answer_timeout', ask: () => new Promise(() => {}) },
      { name: 'config', late: 'config_invalid', ask: () => Promise.reject(new RangeError('sk-secret')) },
      { name: 'keychain', late: 'keychain_unavailable', ask: () => ({ ok: false, code: 'key_missing', fix: 'do x' }) },
    ],
    50,
  )
  t.deepEqual(
    results.map(({ check, ok, code }) => [check, ok, code]),
    [
      ['clock', true, null],
      ['identity', false, 'not_enrolled'],
      ['bus', false, 'answer_timeout'],
      ['config', false, 'internal_error'],
      ['keychain', false, 'key_missing'],
    ],
  )
  for (const { ok, code, fix, detail, ms } of results) {
    t.true(detail.length > 0 && ms >= 0)
    if (!ok) t.true(isReasonCode(code) && (fix?.length ?? 0) > 0)
  }
  t.false(JSON.stringify(results).includes('sk-secret'), 'what an unforeseen error says is not told')
})
