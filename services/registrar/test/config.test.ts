import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, kidOfKey, signEnvelope } from '@lenserfight/envelope'
import { checkConfig } from '@lenserfight/runtime'
import { CodedError, type KeyUse } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { RegistrarConfig } from '../src/config.ts'
import { readKeyMaterial } from '../src/key-material.ts'

const gateway_id = '11111111-1111-4111-8111-111111111111'

interface Written {
  uses?: KeyUse[]
  aud?: string
  listed?: boolean
  kid?: string
}

/** A configuration with its secrets in files. */
const write = (
  t: ExecutionContext,
  { uses = ['receipt', 'answer'], aud = gateway_id, listed = true, kid }: Written = {},
) => {
  const dir = mkdtempSync(join(tmpdir(), 'registrar-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const [root, own, other] = [generateKeyPair(), generateKeyPair(), generateKeyPair()]
  const named = listed ? own.publicKey : other.publicKey
  const key = {
    kid: kidOfKey(named),
    public_key: encodeKey(named),
    service: 'registrar',
    uses,
    not_before: 0,
    not_after: 1e9,
  }
  const body = { kind: 'keys', aud, number: 7, issued_at: 0, keys: [key] }
  const list = signEnvelope({ kid: kidOfKey(root.publicKey), key: root.privateKey, body })
  const [seed_file, keys_file] = [join(dir, 'seed'), join(dir, 'keys')]
  writeFileSync(seed_file, `${encodeKey(own.privateKey)}\n`)
  writeFileSync(keys_file, list.bytes)
  return {
    service: 'registrar',
    gateway_id,
    log_level: 'info',
    health: { port: 0 },
    nats: { servers: ['nats://127.0.0.1:4222'], seed_file },
    pg: { host: '/tmp', port: 5432, database: 'x', user: 'ltg_registrar', password_file: seed_file, max: 4 },
    signing: { seed_file, kid: kid ?? kidOfKey(own.publicKey), uses: ['receipt', 'answer'] },
    keys_file,
    issuers: [{ issuer: 'https://issuer.test', jwks_url: 'https://issuer.test/keys', audience: 'x', binding: 'nonce' }],
  }
}
const codeOf = (act: () => unknown): string => {
  try {
    act()
    return 'ok'
  } catch (error) {
    return error instanceof CodedError ? error.code : String(error)
  }
}

test('config_invalid: unknown keys, no issuer, and keys fetched in the clear from elsewhere', (t) => {
  const config = write(t)
  const [issuer] = config.issuers
  const check = (over: object): string => codeOf(() => checkConfig(RegistrarConfig, { ...config, ...over }))
  const withKeys = (jwks_url: string): string => check({ issuers: [{ ...issuer, jwks_url }] })
  t.is(check({}), 'ok')
  t.is(check({ issuer: 'x' }), 'config_invalid')
  t.is(check({ issuers: [] }), 'config_invalid')
  t.is(check({ issuers: [{ ...issuer, algorithms: ['none'] }] }), 'config_invalid')
  const { jwks_url: _, ...keyless } = issuer as { jwks_url: string }
  t.is(check({ issuers: [keyless] }), 'config_invalid')
  t.is(check({ issuers: [{ ...keyless, secret_file: '/run/secrets/issuer' }] }), 'ok')
  t.is(check({ issuers: [{ ...issuer, secret_file: '/run/secrets/issuer' }] }), 'config_invalid', 'one or the other')
  t.is(check({ issuers: [{ ...issuer, binding: 'perhaps' }] }), 'config_invalid')
  t.is(withKeys('http://127.0.0.1:8080/.well-known/jwks.json'), 'ok')
  t.is(withKeys('http://[::1]:8080/keys'), 'ok')
  t.is(withKeys('http://issuer.test/keys'), 'config_invalid')
  t.is(withKeys('http://127.0.0.1.issuer.test/keys'), 'config_invalid')
  t.is(withKeys('http://127.0.0.1@issuer.test/keys'), 'config_invalid')
  t.is(withKeys('file:///etc/passwd'), 'config_invalid')
})

test('config_invalid: a key that no edge would believe', (t) => {
  const read = (written: Written): string =>
    codeOf(() => readKeyMaterial(checkConfig(RegistrarConfig, write(t, written))))
  t.is(read({}), 'ok')
  t.is(read({ uses: ['receipt'] }), 'config_invalid')
  t.is(read({ listed: false }), 'config_invalid')
  t.is(read({ kid: gateway_id }), 'config_invalid')
  t.is(read({ aud: '22222222-2222-4222-8222-222222222222' }), 'config_invalid')
  t.is(readKeyMaterial(checkConfig(RegistrarConfig, write(t))).keyList.number, 7)
})
