import { CodedError } from '@lenserfight/schemas'
import { holdsSecret, sift } from '../project/secrets.ts'

/** The secrets at one path: where they are, never what. */
const secretsAt = (path: string, value: unknown): readonly string[] => {
  const parts = path.split('/')
  if (parts.some(holdsSecret)) return [parts.map((part) => (holdsSecret(part) ? '…' : part)).join('/')]
  // `pref/api_key` says what its text is; a step's name says nothing of what stands in it, the members' own names do.
  if (typeof value === 'string') return sift({ [parts.at(-1) as string]: value }).secrets.map(() => path)
  return sift(value, [path]).secrets
}

/**
 * Objects are read on every machine of their account: what is like a secret, by its name or its own form, does not belong there.
 * @throws CodedError `secret_in_object`, which names the paths and tells no value
 */
export const refuseSecrets = (paths: Readonly<Record<string, unknown>>): void => {
  const found = Object.entries(paths).flatMap(([path, value]) => secretsAt(path, value))
  if (found.length > 0) throw new CodedError('secret_in_object', found.join(', '))
}
