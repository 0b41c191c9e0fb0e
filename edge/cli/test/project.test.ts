import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { findEnvironmentSecrets, findProjectSecrets, saveProjectConfig } from '../src/index.ts'
import { readProject } from '../src/project/config.ts'
import { projectFolders } from '../src/project/file.ts'
import { sift } from '../src/project/secrets.ts'

const folders: string[] = []
test.after.always('nothing stays', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A home with a repository in it. */
const newPlace = () => {
  const home = mkdtempSync(join(tmpdir(), 'lf-project-'))
  folders.push(home)
  const root = join(home, 'work', 'project')
  const cwd = join(root, 'src', 'deep')
  mkdirSync(cwd, { recursive: true })
  mkdirSync(join(root, '.git'))
  return { home, root, cwd, file: join(root, '.lenserfight.json') }
}

const seed = encodeKey(generateKeyPair().privateKey)
const raw = Buffer.from(seed, 'base64url')
const jwt = [{ alg: 'HS256' }, { role: 'authenticated' }].map((part) =>
  Buffer.from(JSON.stringify(part)).toString('base64url'),
)
const pem = `-----BEGIN PRIVATE KEY-----\n${raw.toString('base64')}\n-----END PRIVATE KEY-----\n`
/** Made up; each has the form that its issuer gives. */
const secrets: Readonly<Record<string, string>> = {
  seed,
  'seed in hex': raw.toString('hex'),
  'seed in base64': raw.toString('base64'),
  pem,
  'openssh key': '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA',
  'pem in base64': Buffer.from(pem).toString('base64'),
  jwt: `${jwt.join('.')}.c2lnbmF0dXJl`,
  'api key': `lfk_${seed}abc123`,
  openai: 'sk-proj-abcdefghij0123456789',
  anthropic: 'sk-ant-api03-abcdefghij0123456789',
  google: 'AIzaSyA-abcdefghij0123456789abcdefghijk',
  groq: 'gsk_abcdefghij0123456789',
  hugging: 'hf_abcdefghij0123456789',
  github: 'ghp_abcdefghij0123456789abcdefghij012345',
  slack: 'xoxb-123456789012-abcdefghij',
  aws: 'AKIAIOSFODNN7EXAMPLE',
  supabase: 'sb_secret_abcdefghij0123456789',
  address: 'postgres://user:hunter2@db.example/x',
  header: 'Bearer abcdefghij0123456789',
}
const harmless: Readonly<Record<string, unknown>> = {
  gateway: 'deploy/gateway.json',
  runner: '0190a000-0000-7000-8000-000000000001',
  url: 'nats://gateway.example:4222',
  token_file: '/run/secrets/token',
  max_tokens: 4096,
  tokenizer: 'cl100k',
  lens: 'A lens that scores how a key is taken to a door',
  commit: '8b5ebc2d1f7a4b3c9e0d8b5ebc2d1f7a4b3c9e0d',
  list: ['a', 1, null, true, { deep: 'x' }],
}

test('CO-1: what saveProjectConfig keeps has no secret of any form in it, and the rest as it was', (t) => {
  const { file } = newPlace()
  for (const [form, secret] of Object.entries(secrets)) {
    const told = saveProjectConfig(file, {
      ...harmless,
      plain: secret,
      nested: { list: ['x', secret], deep: { it: secret } },
    })
    t.deepEqual(told, ['plain', 'nested.list.1', 'nested.deep.it'], form)
    const text = readFileSync(file, 'utf8')
    t.false(text.includes(secret) || text.includes(JSON.stringify(secret).slice(1, -1)), form)
    t.deepEqual(JSON.parse(text), { ...harmless, nested: { list: ['x'], deep: {} } }, form)
  }
})

test('CO-1: … nor anything that is held under a secret’s name', (t) => {
  const { file } = newPlace()
  const names = [
    'secret',
    'client_secret',
    'token',
    'accessToken',
    'password',
    'passphrase',
    'private_key',
    'privateKey',
  ]
  names.push(
    'apiKey',
    'api_key',
    'api_keys',
    'signing_key',
    'device_key',
    'seed',
    'credentials',
    'jwt',
    'byok',
    'Authorization',
  )
  for (const name of names) {
    t.deepEqual(saveProjectConfig(file, { [name]: 'short', kept: 1 }), [name])
    t.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { kept: 1 }, name)
    t.deepEqual(saveProjectConfig(file, { [name]: { openai: 'short', on: true } }), [`${name}.openai`])
    t.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { [name]: { on: true } }, name)
  }
  t.deepEqual(saveProjectConfig(file, { token: '' }), [])
})

test('CO-1: a secret that stands where a name should is taken out and not said', (t) => {
  const { file } = newPlace()
  t.deepEqual(saveProjectConfig(file, { keys: { [secrets.openai as string]: 1 } }), ['keys.…'])
  t.false(readFileSync(file, 'utf8').includes('sk-proj'))
})

test('CO-1: wherever a seed stands in a JSON value, none of it is kept', (t) => {
  const { file } = newPlace()
  const { tree } = fc.letrec((tie) => ({
    leaf: fc.oneof(
      fc.constantFrom(...Object.values(secrets)),
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
    ),
    tree: fc.oneof(
      { depthSize: 'small' },
      tie('leaf'),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie('tree'), { maxKeys: 4 }),
    ),
  }))
  const check = () =>
    fc.assert(
      fc.property(fc.dictionary(fc.string(), tree, { maxKeys: 4 }), (config) => {
        saveProjectConfig(file, config as Record<string, unknown>)
        const kept: unknown = JSON.parse(readFileSync(file, 'utf8'))
        for (const secret of Object.values(secrets))
          assert(!JSON.stringify(kept).includes(JSON.stringify(secret).slice(1, -1)))
        // What was kept is kept again as it is.
        assert.deepEqual(sift(kept), { value: kept, secrets: [] })
      }),
      { numRuns: 200 },
    )
  // Its message has the seed.
  t.notThrows(check)
})

test('CO-1: a secret in a project’s file is found by its member’s name, and never taken up', (t) => {
  const { file, ...place } = newPlace()
  writeFileSync(file, JSON.stringify({ gateway: secrets.jwt, provider: { openai: secrets.openai } }))
  t.deepEqual(findProjectSecrets(place), [
    { file, member: 'gateway' },
    { file, member: 'provider.openai' },
  ])
  const project = readProject(place)
  t.deepEqual(project, { file, config: {}, secrets: ['gateway', 'provider.openai'] })
  // In the files above it, too, and in one that is no JSON.
  writeFileSync(join(place.cwd, '.lenserfight.json'), `{ "a": "${secrets.github}", }`)
  t.deepEqual(
    findProjectSecrets(place).map(({ member }) => member),
    ['(not JSON)', 'gateway', 'provider.openai'],
  )
  const error = t.throws(() => readProject(place), { code: 'config_invalid' })
  t.false(`${error?.stack}${String(error?.cause)}`.includes('ghp_'))
})

test('a project’s file is looked for up to its repository’s root, else up to the home, and no further', (t) => {
  const { home, root, cwd } = newPlace()
  t.deepEqual(projectFolders({ cwd, home }), [cwd, join(root, 'src'), root])
  const loose = join(home, 'notes')
  mkdirSync(loose)
  t.deepEqual(projectFolders({ cwd: loose, home }), [loose, home])
  const elsewhere = mkdtempSync(join(tmpdir(), 'lf-project-'))
  folders.push(elsewhere)
  t.deepEqual(projectFolders({ cwd: elsewhere, home }), [elsewhere])
})

test('a project’s file that everybody may write names no gateway', (t) => {
  const { file, ...place } = newPlace()
  writeFileSync(file, JSON.stringify({ gateway: 'gateway.json', runner: harmless.runner, other: 1 }))
  t.deepEqual(readProject(place).config, {
    gateway: join(place.root, 'gateway.json'),
    runner: harmless.runner,
  } as never)
  chmodSync(file, 0o666)
  for (const read of [() => readProject(place), () => findProjectSecrets(place)]) {
    t.throws(read, { code: 'insecure_permissions' })
  }
  chmodSync(file, 0o644)
  for (const text of ['[]', '"x"', 'null', '{"runner":"x"}', '{"gateway":1}', '{', ' '.repeat(70_000)]) {
    writeFileSync(file, text)
    t.throws(() => readProject(place), { code: 'config_invalid' }, text.slice(0, 20))
  }
  writeFileSync(file, `{"a":${'['.repeat(5_000)}${']'.repeat(5_000)}}`)
  t.throws(() => readProject(place), { code: 'config_invalid' })
  rmSync(file)
  mkdirSync(file)
  t.throws(() => readProject(place), { instanceOf: CodedError })
  rmSync(file, { recursive: true })
  symlinkSync(join(place.root, 'nowhere'), file)
  t.throws(() => readProject(place), { code: 'insecure_permissions' })
})

test('a link that somebody put into a shared folder, to a file of one’s own, names no gateway', (t) => {
  const { file, ...place } = newPlace()
  const shared = mkdtempSync(join(tmpdir(), 'lf-project-'))
  folders.push(shared)
  writeFileSync(file, JSON.stringify({ gateway: 'gateway.json' }))
  symlinkSync(file, join(shared, '.lenserfight.json'))
  for (const read of [readProject, findProjectSecrets]) {
    t.throws(() => read({ ...place, cwd: shared }), { code: 'insecure_permissions' })
  }
})

test('a project’s file that somebody made to be slow to read is not', (t) => {
  const before = process.cpuUsage()
  t.deepEqual(sift({ notes: '-eyJ'.repeat(16_000) }).secrets, [])
  // What it took of the processor, which others may have had meanwhile.
  t.true(process.cpuUsage(before).user < 1_000_000)
})

test('CO-5: private keys in the environment are found by form and by name, bootstrap secrets are left alone', (t) => {
  const bad = {
    DEPLOY: pem,
    SSH: secrets['openssh key'],
    ENCODED: secrets['pem in base64'],
    LF_GATEWAY_PRIVATE_KEY: 'anything',
    LENSERFIGHT_DEVICE_KEY: 'anything',
    LENSERFIGHT_SEED: 'anything',
    LF_ANYTHING: seed,
    LTG_X: raw.toString('hex'),
    NATS_SEED: `SU${'A'.repeat(56)}`,
  }
  const good = {
    LENSERFIGHT_API_KEY: secrets['api key'],
    LF_GATEWAY_KEY_FILE_FALLBACK: '1',
    LF_GATEWAY_PRIVATE_KEY_FILE: '/x',
    LENSERFIGHT_SEED_PATH: '/x',
    LF_DEVICE_KEY: '',
    // The person's own, for the programs that they run: not the gateway's to judge (SH-2 says where they may not be).
    OPENAI_API_KEY: secrets.openai,
    GITHUB_TOKEN: secrets.github,
    GIT_COMMIT: raw.toString('hex'),
    PATH: '/bin',
    ABSENT: undefined,
  }
  t.deepEqual(findEnvironmentSecrets({ ...bad, ...good }), Object.keys(bad).sort())
})
