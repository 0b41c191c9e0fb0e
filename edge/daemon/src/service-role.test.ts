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

test('SH-4: … in a JWT that is spelt otherwise than usual', (t) => {
  const spaced = ['{ "alg": "HS256" }', '{ "role": "service_role" }', 's'].map((part) =>
    Buffer.from(part).toString('base64url'),
  )
  t.throws(() => refuseServiceRole({ environment: { API_KEY: spaced.join('.') } }), refused)
  t.throws(() => refuseServiceRole({ environment: { API_KEY: `v1.${serviceRole}` } }), refused)
})

test('SH-4: … and as the user of a database', (t) => {
  const addresses = ['postgresql://service_role:secret@db.example/postgres', 'postgres://service_role.abc@pool.example']
  for (const value of [...addresses, 'service_role', 'service_role.abcdef']) {
    t.throws(() => refuseServiceRole({ environment: { DATABASE_URL: value } }), refused)
  }
  const others = {
    PWD: '/home/me/service_role_notes',
    BRANCH: 'drop-service_role',
    URL: 'postgres://anon:x@db.example',
  }
  t.notThrows(() => refuseServiceRole({ environment: others }))
})

test('SH-4: a long value is looked through at once', (t) => {
  const before = process.cpuUsage()
  refuseServiceRole({ environment: { LONG: 'eyJ'.repeat(40_000), DOTS: 'eyJ.'.repeat(5_000) } })
  // What it took of the processor, which others may have had meanwhile.
  t.true(process.cpuUsage(before).user < 2_000_000)
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
