import { CodedError } from '@lenserfight/schemas'

const namePattern = /service[_-]?role/i
/** What cannot be in a JWT; between it, JWTs are looked for. Splitting takes a time that grows with the text, and no more. */
const noJwt = /[^A-Za-z0-9_.-]+/
/** The platform's newer form of the same credential. */
const secretPattern = /\bsb_secret_[A-Za-z0-9_-]+/
/** The database's role of that name, by itself or as the user of an address. */
const userPattern = /^service_role(\.[a-z0-9]+)?$|:\/\/service_role[.:@]/i

const isServiceRoleJwt = (payload: string): boolean => {
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as { role?: unknown } | null
    return claims?.role === 'service_role'
  } catch {
    return false
  }
}

const holdsServiceRoleJwt = (value: string): boolean =>
  value.split(noJwt).some((word) => {
    const parts = word.split('.')
    return parts.length > 2 && parts.slice(1, -1).some(isServiceRoleJwt)
  })

const isCredential = (value: string): boolean =>
  secretPattern.test(value) || userPattern.test(value) || holdsServiceRoleJwt(value)

function* entriesOf(value: unknown, path: string): Generator<[path: string, text: string]> {
  if (typeof value === 'string') yield [path, value]
  if (typeof value !== 'object' || value === null) return
  for (const [name, member] of Object.entries(value)) yield* entriesOf(member, path === '' ? name : `${path}.${name}`)
}

/**
 * SH-4, R2: no service_role credential may be anywhere that daemon or CLI read their configuration from. Found by the
 * name of what holds it, by a JWT's role, wherever in a value it stands, by the platform's prefix, and as a database's user.
 * @param sources what was read, by a name for people
 * @throws CodedError `service_role_in_daemon`, naming the place, never the value
 */
export const refuseServiceRole = (sources: Readonly<Record<string, unknown>>): void => {
  for (const [source, value] of Object.entries(sources)) {
    for (const [path, text] of entriesOf(value, '')) {
      if (text !== '' && (namePattern.test(path) || isCredential(text))) {
        throw new CodedError('service_role_in_daemon', `${source}: ${path}`)
      }
    }
  }
}
