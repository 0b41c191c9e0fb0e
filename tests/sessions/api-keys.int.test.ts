import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { Machine } from '../e2e/_machine.ts'
import { filesBelow } from './_home.ts'

interface Made {
  readonly api_key: string
  readonly session: string
  readonly scope: string
}

let stack: Stack
test.before(async (t) => {
  t.timeout(60_000)
  stack = await testStack({ replicas: { verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 } })
})
test.after.always(() => stack?.stop())

/** A person's machine, signed in, and what makes machines that hold an API key alone. */
const setUp = async (t: ExecutionContext, as: string) => {
  t.timeout(120_000)
  const owner = new Machine(stack, as)
  await owner.login(as)
  const create = (name: string, ...words: string[]) => owner.ask<Made>('api-keys', 'create', name, ...words)
  let machines = 0
  const holderOf = (api_key: string) => {
    machines += 1
    return new Machine(stack, `${as}-${machines}`, { LENSERFIGHT_API_KEY: api_key })
  }
  return { owner, create, holderOf, gateway: ['--gateway', stack.descriptorFile] }
}
const first = (text: string): string => text.split(':')[0] as string

test.serial('lf api-keys: made once, shown once, listed, ended by its name', async (t) => {
  const { owner } = await setUp(t, 'ada')
  const made = await owner.lf(['api-keys', 'create', 'nightly', '--expires-in-days', '7'])
  t.is(made.code, 0)
  t.regex(made.stdout, /^lfk_[A-Za-z0-9_-]{70}\n$/, 'the key and nothing else, for a pipe')
  t.regex(made.stderr, /nightly .*may not approve/)
  t.false(made.stderr.includes('lfk_'))
  const listed = await owner.lf(['api-keys'])
  t.regex(listed.stdout, /nightly +no +.*until /)
  t.false(listed.stdout.includes('lfk_'))
  t.is(first((await owner.lf(['api-keys', 'create', 'nightly'])).stderr), 'api_key_name_taken')
  t.is((await owner.lf(['api-keys', 'revoke', 'nightly'])).code, 0)
  t.regex((await owner.lf(['api-keys'])).stdout, /nightly +no +.*revoked /)
  t.is(first((await owner.lf(['api-keys', 'revoke', 'nightly'])).stderr), 'session_not_found')
  t.is((await owner.lf(['api-keys', 'create', 'nightly'])).code, 0, 'the name is free again')
  t.is(first((await owner.lf(['api-keys', 'revoke', 'no-such-key'])).stderr), 'session_not_found')
})

test.serial('LENSERFIGHT_API_KEY speaks for the account on a machine where nobody ever signed in', async (t) => {
  const { owner, create, holderOf, gateway } = await setUp(t, 'bob')
  const { lenser_id } = await owner.ask('whoami')
  const { api_key, session } = await create('ci')
  const ci = holderOf(api_key)
  t.is(first((await ci.lf(['whoami'])).stderr), 'descriptor_missing')
  const who = await ci.ask<Record<string, unknown>>('whoami', ...gateway)
  t.like(who, { lenser_id, session, kind: 'api_key', name: 'ci', scope: 'api' })
  t.regex((await ci.lf(['whoami'])).stdout, /API key ci \(LENSERFIGHT_API_KEY\), which may not approve/)
  const { device_id } = await ci.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', 'runner')
  const { devices } = await owner.ask<{ devices: { device_id: string }[] }>('gateway', 'devices')
  t.deepEqual(
    devices.map((device) => device.device_id),
    [device_id],
  )
  t.is((await ci.lf(['logout'])).stdout, 'Nobody was signed in.\n')
  t.is((await ci.lf(['whoami'])).code, 0)
})

test.serial('LENSERFIGHT_API_KEY goes before a stored session', async (t) => {
  const { create, holderOf } = await setUp(t, 'cat')
  const other = await setUp(t, 'dan')
  const { api_key, session } = await create('mine')
  const both = holderOf(api_key)
  const signedIn = await both.lf(['login', '--dev', '--as', 'dan', '--stack', join(stack.dir, 'stack.json')])
  t.regex(signedIn.stderr, /LENSERFIGHT_API_KEY is set/)
  t.is((await both.ask<{ session: string }>('whoami')).session, session)
  t.not((await other.owner.ask<{ session: string }>('whoami')).session, session)
})

test.serial('exit code 2: an API key that ended, that another gateway knows, or that is none', async (t) => {
  const { owner, create, holderOf, gateway } = await setUp(t, 'eli')
  const { api_key } = await create('short-lived')
  const holder = holderOf(api_key)
  t.is((await owner.lf(['api-keys', 'revoke', 'short-lived'])).code, 0)
  // The first word that this machine ever hears of the gateway is that refusal.
  const ended = await holder.lf(['whoami', ...gateway])
  t.is(ended.code, 2)
  t.regex(ended.stderr, /^session_expired: .*LENSERFIGHT_API_KEY/)
  const wrong = `${api_key.slice(0, -1)}${api_key.endsWith('A') ? 'B' : 'A'}`
  for (const text of ['x', api_key.slice(0, -1), `${api_key}A`, wrong, api_key.slice(4), `lfk_${'A'.repeat(70)}`]) {
    const refused = await holderOf(text).lf(['whoami', ...gateway])
    t.deepEqual([refused.code, first(refused.stderr)], [2, 'api_key_invalid'], text)
    t.false(refused.stderr.includes(text.slice(4, 20) || text), 'it is not quoted')
  }
})

test.serial(
  'not_permitted: an API key makes no keys, sees and ends no sessions, and approves only where it may',
  async (t) => {
    const { owner, create, holderOf, gateway } = await setUp(t, 'fay')
    const [plain, approver] = [await create('plain'), await create('approver', '--may-approve')]
    t.deepEqual([plain.scope, approver.scope], ['api', 'api_approver'])
    const { session } = await owner.ask<{ session: string }>('whoami')
    for (const { api_key } of [plain, approver]) {
      const holder = holderOf(api_key)
      t.is((await holder.lf(['whoami', ...gateway])).code, 0)
      for (const words of [
        ['api-keys', 'create', 'more'],
        ['sessions'],
        ['api-keys'],
        ['sessions', 'revoke', session],
      ]) {
        const refused = await holder.lf(words)
        t.deepEqual([refused.code, first(refused.stderr)], [2, 'not_permitted'], words.join(' '))
        t.regex(refused.stderr, /LENSERFIGHT_API_KEY/)
      }
    }
    t.is((await owner.lf(['whoami'])).code, 0)
    const { api_keys } = await owner.ask<{ api_keys: unknown[] }>('api-keys')
    t.is(api_keys.length, 2)
  },
)

test.serial(
  'an API key is in no file of the machine that holds it, of the one that made it, nor of the gateway',
  async (t) => {
    const { owner, create, holderOf, gateway } = await setUp(t, 'gus')
    const { api_key } = await create('secret')
    const holder = holderOf(api_key)
    t.is((await holder.lf(['whoami', ...gateway])).code, 0)
    t.is((await holder.lf(['gateway', 'identity', 'init', '--name', 'gus-runner'])).code, 0)
    const secret = Buffer.from(api_key.slice(4), 'base64url').subarray(16, 48)
    const spellings = [api_key, secret, secret.toString('hex'), secret.toString('base64url')]
    for (const folder of [owner.home, holder.home, stack.dir, stack.logDir]) {
      for (const { path, bytes } of filesBelow(folder)) {
        for (const spelling of spellings) t.false(bytes.includes(spelling), path)
      }
    }
  },
)
