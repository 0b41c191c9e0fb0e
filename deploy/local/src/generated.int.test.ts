import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { kindNames, serviceNames } from '@lenserfight/schemas'
import { createAccount } from '@nats-io/nkeys'
import test from 'ava'
import { readEnvironment } from './env.ts'
import { temporaryRunFolder } from './folders.ts'
import { generatedFiles, withFlowSection } from './generated.ts'
import { startNats } from './nats.ts'
import { ensureNatsServer } from './nats-server.ts'
import { openRun } from './run.ts'
import { makeBusUser } from './worker-files.ts'

const env = readEnvironment()
const read = (path: string): string => readFileSync(join(env.repository, path), 'utf8')

test('what is committed is what the contract generates: run `npm run generate`', (t) => {
  for (const { path, content } of generatedFiles(read)) {
    t.true(existsSync(join(env.repository, path)), path)
    t.true(read(path) === content, path)
  }
})

test('no generated file is left of what is no more, and every kind has its schema', (t) => {
  const made = new Set(generatedFiles(read).map(({ path }) => path))
  for (const name of readdirSync(join(env.repository, 'schemas/json'))) t.true(made.has(`schemas/json/${name}`), name)
  for (const kind of kindNames) t.true(made.has(`schemas/json/${kind}.json`), kind)
})

test('the flow names every worker and stays between its markers', (t) => {
  const document = withFlowSection('before\n<!-- flow:begin -->\nold\n<!-- flow:end -->\nafter\n')
  t.true(document.startsWith('before\n') && document.endsWith('\nafter\n'))
  t.false(document.includes('old\n'))
  for (const name of serviceNames) t.true(document.includes(name), name)
  t.is(withFlowSection(document), document)
  t.throws(() => withFlowSection('no markers'), { instanceOf: TypeError })
})

test('a broker starts with the sample configuration and keys from its environment', async (t) => {
  const folder = temporaryRunFolder(env)
  const run = await openRun({ dir: folder, folder })
  t.teardown(run.close)
  const users = [...serviceNames, 'system'].map((name) => [
    `LTG_NKEY_${name.toUpperCase().replaceAll('-', '_')}`,
    makeBusUser().publicKey,
  ])
  const keys = {
    ...Object.fromEntries(users),
    LTG_NKEY_CALLOUT_ISSUER: createAccount().getPublicKey(),
    LTG_NATS_LOG_FILE: join(folder, 'broker.log'),
  }
  const nats = await startNats({
    env: { ...env, childEnv: { ...env.childEnv, ...keys } },
    run,
    nats: await ensureNatsServer({ env }),
    configText: read('deploy/nats/nats-server.conf'),
  })
  t.true(nats.port > 0)
  await nats.stop()
})
