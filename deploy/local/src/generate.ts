import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readEnvironment } from './env.ts'
import { generatedFiles } from './generated.ts'

// Writes what is made from the contract: JSON Schemas, the broker's sample configuration, the flow in ARCHITECTURE.md.
const { repository } = readEnvironment()
const read = (path: string): string => readFileSync(join(repository, path), 'utf8')
for (const { path, content } of generatedFiles(read)) {
  const file = join(repository, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content)
  process.stdout.write(`${path}\n`)
}
