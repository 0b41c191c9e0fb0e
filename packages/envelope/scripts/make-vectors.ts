/** Writes schemas/vectors: golden vectors for everybody who signs or verifies. The same on every run. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { signatureVectors } from './vectors/ed25519.ts'
import { malformedVectors } from './vectors/envelope-malformed.ts'
import { doorVectors, mismatchVectors, notCanonicalVectors, unsupportedVectors } from './vectors/envelope-refused.ts'
import { validVectors } from './vectors/envelope-valid.ts'
import { rfc8032 } from './vectors/rfc8032.ts'
import { rfc8785 } from './vectors/rfc8785.ts'

/** Where the vectors are kept. */
export const vectorsFolder = fileURLToPath(new URL('../../../schemas/vectors/', import.meta.url))

/** Every vector file there is: its path within the folder, and its content. */
export function makeVectors(): Map<string, string> {
  const files = new Map<string, unknown>([
    ['rfc8032.json', rfc8032],
    ['rfc8785.json', rfc8785],
    ['ed25519.json', signatureVectors()],
  ])
  const folders = {
    valid: validVectors(),
    invalid: [
      ...malformedVectors(),
      ...notCanonicalVectors(),
      ...unsupportedVectors(),
      ...doorVectors(),
      ...mismatchVectors(),
    ],
  }
  for (const [folder, vectors] of Object.entries(folders)) {
    for (const vector of vectors) {
      const path = join('envelope', folder, `${[vector.code, vector.name].filter(Boolean).join('--')}.json`)
      if (files.has(path)) throw new Error(`two vectors are named ${path}`)
      files.set(path, vector)
    }
  }
  return new Map([...files].map(([path, content]) => [path, `${JSON.stringify(content, null, 2)}\n`]))
}

if (import.meta.main) {
  rmSync(join(vectorsFolder, 'envelope'), { recursive: true, force: true })
  for (const [path, content] of makeVectors()) {
    mkdirSync(dirname(join(vectorsFolder, path)), { recursive: true })
    writeFileSync(join(vectorsFolder, path), content)
  }
}
