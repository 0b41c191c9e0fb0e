import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CodedError } from '@lenserfight/schemas'
import Type from '@lenserfight/schemas/typebox'
import test from 'ava'
import { CommonConfig, checkConfig, parseConfigArguments, readConfig, readSecret } from '../src/index.ts'

const valid = {
  service: 'verifier',
  gateway_id: '0193a6b0-0000-7000-8000-000000000001',
  log_level: 'info',
  health: { port: 0 },
  nats: { servers: ['nats://127.0.0.1:4222'], seed_file: '/run/verifier.nk' },
  pg: { host: '/tmp', port: 5432, database: 'ltg', user: 'ltg_verifier', password_file: '/run/pw', max: 4 },
}
const folder = mkdtempSync(join(tmpdir(), 'config-'))
test.after.always(() => rmSync(folder, { recursive: true }))
const file = (name: string, content: string): string => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

test('a valid configuration is read and frozen to its depths', (t) => {
  const config = readConfig(CommonConfig, ['--config', file('valid.json', JSON.stringify(valid))])
  t.deepEqual(config, valid as typeof config)
  t.true(Object.isFrozen(config))
  t.true(Object.isFrozen(config.nats.servers))
})

const refused: Record<string, unknown> = {
  'an unknown key': { ...valid, extra: 1 },
  'an unknown key further in': { ...valid, pg: { ...valid.pg, pasword: 'x' } },
  'a missing key': { ...valid, gateway_id: undefined },
  'a wrong type': { ...valid, health: { port: '80' } },
  'a service that does not exist': { ...valid, service: 'verifyer' },
}
for (const [name, value] of Object.entries(refused)) {
  test(`config_invalid: ${name}`, (t) => {
    const path = file(`${name}.json`, JSON.stringify(value))
    t.is(
      t.throws(() => readConfig(CommonConfig, ['--config', path]), { instanceOf: CodedError })?.code,
      'config_invalid',
    )
  })
}

test('config_invalid: an unknown key that a nested schema forgot to refuse', (t) => {
  const schema = Type.Object({ inner: Type.Object({ a: Type.Number() }) })
  t.deepEqual(checkConfig(schema, { inner: { a: 1 } }), { inner: { a: 1 } })
  t.is(
    t.throws(() => checkConfig(schema, { inner: { a: 1, b: 2 } }), { instanceOf: CodedError })?.code,
    'config_invalid',
  )
})

test('config_invalid: no file, no JSON, and the text of a broken file is not repeated', (t) => {
  const codeOf = (argv: string[]) => t.throws(() => readConfig(CommonConfig, argv), { instanceOf: CodedError })
  t.is(codeOf([])?.code, 'config_invalid')
  t.is(codeOf(['--confg', 'x'])?.code, 'config_invalid')
  t.is(codeOf(['--config', join(folder, 'none.json')])?.code, 'config_invalid')
  const error = codeOf(['--config', file('broken.json', '{"password": hunter2')])
  t.is(error?.code, 'config_invalid')
  t.false(`${error?.message}${String(error?.cause)}`.includes('hunter2'))
})

test('--check-config prints the configuration and exits', (t) => {
  t.deepEqual(parseConfigArguments(['--config', 'x', '--check-config']), { file: 'x', checkOnly: true })
  const program = `import { CommonConfig, readConfig } from ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)}
    readConfig(CommonConfig, process.argv.slice(1)); console.log('went on')`
  const check = (path: string) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', program, '--', '--config', path, '--check-config'], {
      encoding: 'utf8',
      cwd: fileURLToPath(new URL('..', import.meta.url)),
    })
  const good = check(file('good.json', JSON.stringify(valid)))
  t.is(good.status, 0, good.stderr)
  t.deepEqual(JSON.parse(good.stdout), valid)
  t.not(check(file('bad.json', '{}')).status, 0)
})

test('a secret is read without its line break; an empty or missing file is config_invalid', (t) => {
  t.is(readSecret(file('secret', 'hunter2\n')), 'hunter2')
  for (const path of [file('empty', '\n'), join(folder, 'missing')]) {
    t.is(t.throws(() => readSecret(path), { instanceOf: CodedError })?.code, 'config_invalid')
  }
})
