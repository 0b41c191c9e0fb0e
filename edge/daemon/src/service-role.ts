import { CodedError } from '@lenserfight/schemas'

const namePattern = /service[_-]?role/i
const jwtPattern = /eyJ[A-Za-z0-9_-]*\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*/g
/** The platform's newer form of the same credential. */
const secretPattern = /\bsb_secret_[A-Za-z0-9_-]+/

const isServiceRoleJwt = (payload: string): boolean => {
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as { role?: unknown } | null
    return claims?.role === 'service_role'
  } catch {
    return false
  }
}

const isCredential = (value: string): boolean =>
  secretPattern.test(value) || [...value.matchAll(jwtPattern)].some(([, payload]) => isServiceRoleJwt(payload ?? ''))

function* entriesOf(value: unknown, path: string): Generator<[path: string, text: string]> {
  if (typeof value === 'string') yield [path, value]
  if (typeof value !== 'object' || value === null) return
  for (const [name, member] of Object.entries(value)) yield* entriesOf(member, path === '' ? name : `${path}.${name}`)
}

/**
 * SH-4, R2: no service_role credential may be anywhere that daemon or CLI read their configuration from. Found by the
 * name of what holds it, by a JWT's role, wherever in a value it stands, and by the platform's prefix.
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
