import test from 'ava'
import { refuseServiceRole } from './service-role.ts'

const jwtOf = (claims: object): string =>
  ['{"alg":"HS256"}', JSON.stringify(claims), 'signature']
    .map((part) => Buffer.from(part).toString('base64url'))
    .join('.')
const serviceRole = jwtOf({ iss: 'supabase', role: 'service_role' })
const refused = { code: 'service_role_in_daemon' }

test('SH-4: a service_role credential is found by the name of what holds it', (t) => {
  for (const name of ['SUPABASE_SERVICE_ROLE_KEY', 'service_role', 'MY_SERVICEROLE', 'x-service-role-token']) {
    t.throws(() => refuseServiceRole({ environment: { [name]: 'anything' } }), refused)
  }
  t.notThrows(() => refuseServiceRole({ environment: { SUPABASE_SERVICE_ROLE_KEY: '', PATH: '/bin' } }))
})

test('SH-4: … by a JWT’s role, wherever in a value it stands', (t) => {
  for (const value of [serviceRole, `Bearer ${serviceRole}`, `https://x.example/?apikey=${serviceRole}&y=1`]) {
    t.throws(() => refuseServiceRole({ environment: { API_KEY: value } }), refused)
    t.throws(() => refuseServiceRole({ file: { nested: [{ deep: { key: value } }] } }), refused)
  }
  t.throws(() => refuseServiceRole({ environment: { API_KEY: 'sb_secret_abc123' } }), refused)
})

test('SH-4: other tokens are left alone', (t) => {
  const anon = jwtOf({ iss: 'supabase', role: 'anon' })
  const odd = 'eyJhbGciOiJIUzI1NiJ9.bm90IGpzb24.x'
  t.notThrows(() => refuseServiceRole({ environment: { A: anon, B: odd, C: 'eyJ', D: undefined }, file: undefined }))
})

test('SH-4: the refusal names the place and never the value', (t) => {
  const error = t.throws(() => refuseServiceRole({ environment: { API_KEY: serviceRole } }), refused)
  t.true(error?.message.includes('environment: API_KEY'))
  t.false(error?.message.includes(serviceRole.slice(0, 20)))
})
