import { CodedError } from '@lenserfight/schemas'

/** What a private key looks like, wherever it stands in a text. */
const privateKeys = [
  /-----BEGIN [A-Z ]*PRIVATE KEY/,
  // The same in base64.
  /LS0tLS1CRUdJTi[A-Za-z0-9+/]{0,24}(UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)/,
  /AGE-SECRET-KEY-1/i,
  // A broker's NKey seed.
  /\bS[ACNOUX][A-Z2-7]{56}\b/,
] as const

/** 32 bytes as our keys are written, and as others write them: a private key, or nothing that anybody would write down. */
const seed = /^(?:[A-Za-z0-9_-]{43}|[A-Za-z0-9+/]{43}=|[0-9a-fA-F]{64})$/

/** Tokens and keys of an account, by the prefixes that their issuers gave them to be found by. */
const tokens = [
  // A token is looked for once a word, from its start: a word of many beginnings would otherwise take seconds.
  /(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.)[A-Za-z0-9_-]*\beyJ[A-Za-z0-9_-]/,
  /\blfk_[A-Za-z0-9_-]+/,
  /\b(?:sk|rk|pk)-[A-Za-z0-9_-]{8,}/,
  /\b(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{8,}/,
  /\b(?:xai|gsk|hf|r8|nvapi|pplx|sb_secret|npm|glpat|ghp|gho|ghu|ghs|ghr|github_pat|dckr_pat)[_-][A-Za-z0-9_-]{8,}/,
  /\bAIza[A-Za-z0-9_-]{20,}/,
  /\bxox[abeprs]-[A-Za-z0-9-]{8,}/,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/,
  /\bBearer\s+\S{8,}/i,
  // A password in an address.
  /:\/\/[^/\s:@]*:[^/\s@]+@/,
] as const

const secretName =
  /secret|token(?!iz)|passw(?:or)?d|passphrase|private.?key|(?:api|access|signing|session|device|byok|provider).?keys?|\bseed|credential|mnemonic|jwt|bearer|byok|authorization/i
/** Where a secret lies, and not what it is. */
const placeName = /[_-]?(?:file|path|folder|dir)$/i

export const isPrivateKey = (text: string): boolean => privateKeys.some((pattern) => pattern.test(text))
export const isSeed = (text: string): boolean => seed.test(text.trim())

/** Whether a text is, or holds, what must not lie in a file that others read. */
export const holdsSecret = (text: string): boolean =>
  isPrivateKey(text) || isSeed(text) || tokens.some((pattern) => pattern.test(text))

const isSecretName = (name: string): boolean => secretName.test(name) && !placeName.test(name)

type Path = readonly string[]
const maxDepth = 64
/** A member's name for people. One that is itself a secret is not said. */
const nameOf = (path: Path): string => path.map((part) => (holdsSecret(part) ? '…' : part)).join('.')

/** Texts of a file that could not be taken apart. */
export const holdsSecretSomewhere = (text: string): boolean =>
  isPrivateKey(text) || text.split(/[\s"',;{}[\]]+/).some(holdsSecret)

interface Sifted {
  readonly value: unknown
  /** Names of the members that held a secret, never their values. */
  readonly secrets: readonly string[]
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const siftText = (text: string, path: Path, named: boolean): Sifted => {
  const found = text !== '' && (named || holdsSecret(text))
  return found ? { value: undefined, secrets: [nameOf(path)] } : { value: text, secrets: [] }
}

const siftList = (list: readonly unknown[], path: Path, named: boolean): Sifted => {
  const parts = list.map((item, index) => sift(item, [...path, String(index)], named))
  return {
    value: parts.flatMap(({ value }) => (value === undefined ? [] : [value])),
    secrets: parts.flatMap(({ secrets }) => secrets),
  }
}

const siftObject = (object: Readonly<Record<string, unknown>>, path: Path, named: boolean): Sifted => {
  const kept: [string, unknown][] = []
  const secrets: string[] = []
  for (const [name, member] of Object.entries(object)) {
    const at = [...path, name]
    if (holdsSecret(name)) {
      secrets.push(nameOf(at))
      continue
    }
    const part = sift(member, at, named || isSecretName(name))
    secrets.push(...part.secrets)
    if (part.value !== undefined) kept.push([name, part.value])
  }
  return { value: Object.fromEntries(kept), secrets }
}

/**
 * Takes out of a JSON value whatever is like a secret: by the name of what holds it, or by its own form.
 * @param named whether something above it has a name that is a secret’s
 * @throws CodedError `config_invalid` where it is nested deeper than anything that people write
 */
export const sift = (value: unknown, path: Path = [], named = false): Sifted => {
  if (path.length > maxDepth) throw new CodedError('config_invalid', `it is nested over ${maxDepth} deep`)
  if (typeof value === 'string') return siftText(value, path, named)
  if (Array.isArray(value)) return siftList(value, path, named)
  if (isObject(value)) return siftObject(value, path, named)
  return { value, secrets: [] }
}

/** Names of ours that would hold a private key. The API key is a bootstrap secret and may be there (CO-5). */
const ours = /^(?:LF|LTG|LENSERFIGHT)_/
const keyName = /PRIVATE_?KEY|SIGNING_?KEY|SECRET_?KEY|DEVICE_?KEY|SESSION_?KEY|ROOT_?KEY|SEED/
const allowed = new Set(['LENSERFIGHT_API_KEY'])

/**
 * CO-5, R5: the environment holds bootstrap secrets only, and private keys are none.
 * @returns names of the variables that hold a private key, never their values
 */
export const findEnvironmentSecrets = (env: Readonly<Record<string, string | undefined>>): string[] =>
  Object.entries(env)
    .filter(([name, value = '']) => {
      if (value === '' || allowed.has(name)) return false
      if (isPrivateKey(value)) return true
      return ours.test(name) && (isSeed(value) || (keyName.test(name) && !placeName.test(name)))
    })
    .map(([name]) => name)
    .sort()
