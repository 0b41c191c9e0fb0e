import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

/** A line of a log that shows what no log may show. The line itself is not repeated. */
export interface Finding {
  file: string
  line: number
  what: string
}

/** Tests put this into bodies, command lines and outputs; a log that holds it shows something of a body. */
export const canary = 'LTG-CANARY'

/** A file of this name below the logs lists secrets of that run, one a line; no log may hold one of them. It is not scanned itself. */
export const secretsFile = 'secrets.list'

const forbidden: [what: string, pattern: RegExp][] = [
  ['part of a body', new RegExp(canary)],
  ['a token', /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}/],
  ['a private NKey', /\bS[UAONCX][A-Z2-7]{56}\b/],
  ['an API key', /\blfk_[\w-]{40,}/],
  ['a private key', /-----BEGIN [A-Z ]*PRIVATE KEY/],
  ['a signature', /(?<![\w-])[\w-]{86}(?![\w-])/],
  [
    'a field that holds a secret',
    /"(?:sig|nonce|token|id_token|seed|password|private_key|client_secret)":"(?!\[)[^"]{9,}"/i,
  ],
]

/** Looks through every log below a folder for secrets and for anything of a body. */
export function scanLogs(folder: string): Finding[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  const secrets = files
    .filter((path) => basename(path) === secretsFile)
    .flatMap((path) => readFileSync(path, 'utf8').split('\n'))
    .filter((secret) => secret.length >= 8)
  return files
    .filter((path) => basename(path) !== secretsFile)
    .flatMap((path) => scanFile(path, secrets).map((finding) => ({ ...finding, file: relative(folder, path) })))
}

function scanFile(path: string, secrets: string[]): Finding[] {
  const findings: Finding[] = []
  for (const [index, text] of readFileSync(path, 'utf8').split('\n').entries()) {
    const what = forbidden.find(([, pattern]) => pattern.test(text))?.[0]
    const known = what ?? (secrets.some((secret) => text.includes(secret)) ? 'a secret of this run' : undefined)
    if (known !== undefined) findings.push({ file: path, line: index + 1, what: known })
  }
  return findings
}
