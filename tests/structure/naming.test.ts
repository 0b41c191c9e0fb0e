import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

const root = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
/** Written so that this file is none of those that it looks for. */
const legacy = ['agent', 'paused'].join('_')
const looked = /\.(?:md|ts|mjs|js|json|sql|sh|conf|ya?ml)$/
const passedOver = new Set(['node_modules', '.git', '.local', 'package-lock.json'])
/** The specification's own words, quoted. */
const quoted = 'tests/requirements/requirements.json'

const files = globSync('**/*', { cwd: root, exclude: (name) => passedOver.has(name) }).filter((path) =>
  looked.test(path),
)
const spelling = new RegExp(legacy.replace('_', '[-_ ]?'), 'i')

test('NR-2: no code and no document says the legacy name of the pause, but the column that is kept for older readers', (t) => {
  t.true(files.length > 300, 'the whole repository is looked at')
  const found = files.filter((path) => path !== quoted && spelling.test(read(path)))
  const kept = found.filter((path) => path.startsWith('migrations/'))
  t.is(kept.length, 1, kept.join(', '))
  const lines = read(kept[0] as string)
    .split('\n')
    .filter((line) => spelling.test(line))
  t.is(lines.length, 1)
  t.regex(lines[0] ?? '', /GENERATED ALWAYS AS \(runner_paused\)/)
  // The column's own test, and no other, may name it.
  for (const path of found) if (path !== kept[0]) t.regex(read(path), /^test(?:\.serial)?\('NR-3: /m, path)
})

test('NR-2: documents speak of lensers and runners that are paused, and of no agent', (t) => {
  const aboutPauses = /\bagents?\b[^.\n]{0,40}\bpaus|\bpaus\w*[^.\n]{0,40}\bagents?\b/i
  const documents = files.filter((path) => path.endsWith('.md') && !path.endsWith('CHANGELOG.md'))
  t.true(documents.length > 10)
  for (const path of documents) t.notRegex(read(path), aboutPauses, path)
})
