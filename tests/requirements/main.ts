import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Requirement, requirementStates } from './titles.ts'

const help = `usage: npm run requirements [-- --json] [-- --open]

Prints every requirement id with the tests named after it.
  --json   one JSON array
  --open   only those without a test`

const root = join(import.meta.dirname, '../..')
const args = process.argv.slice(2)

if (args.includes('--help')) {
  console.log(help)
} else {
  const requirements: Requirement[] = JSON.parse(readFileSync(join(import.meta.dirname, 'requirements.json'), 'utf8'))
  const files = globSync('{schemas,packages,services,edge,deploy,tests}/**/*.test.ts', {
    cwd: root,
    exclude: (name) => name.includes('node_modules'),
  }).sort()
  const all = requirementStates(
    requirements,
    files.map((file) => ({ file, text: readFileSync(join(root, file), 'utf8') })),
  )
  const shown = args.includes('--open') ? all.filter(({ state }) => state === 'open') : all
  if (args.includes('--json')) {
    console.log(JSON.stringify(shown, null, 2))
  } else {
    for (const { id, state, requirement, tests } of shown) {
      console.log(`${id.padEnd(6)} ${state.padEnd(7)} ${requirement}`)
      for (const { file, title } of tests) console.log(`${' '.repeat(15)}${file}: ${title}`)
    }
    const tested = all.filter(({ state }) => state === 'tested').length
    console.log(`\n${tested} of ${all.length} requirements have a test`)
  }
}
