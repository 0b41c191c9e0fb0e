import test from 'ava'
import {
  checkBody,
  consumers,
  decodeVerifiedBatch,
  deviceLevels,
  devicePermissions,
  deviceTransitions,
  encodeVerifiedLine,
  executionFacts,
  factSentences,
  kindNames,
  kindOf,
  kindsInScope,
  kindsInState,
  limits,
  loginPermissions,
  parseDoorSubject,
  reasonCodes,
  reasons,
  type SessionScope,
  serviceNames,
  servicePermissions,
  sessionPermissions,
  sessionScopes,
  streams,
  transitionActors,
} from './src/index.ts'

const lenser = '018f0000-0000-7000-8000-00000000000a'
const kid = '018f0000-0000-7000-8000-00000000000b'

test('every code is a word, says what to do next, and has a sentence', (t) => {
  for (const code of reasonCodes) {
    t.regex(code, /^[a-z]+(_[a-z]+)*$/)
    t.regex(reasons[code].message, /^[A-Z].*\.$/s, code)
  }
})

test('a code that follows from a subject or a state that can change never stops an operation', (t) => {
  for (const code of [
    'kid_mismatch',
    'kind_mismatch',
    'unknown_device',
    'signature_mismatch',
    'device_unhealthy',
    'device_blocked',
    'device_pending',
  ] as const) {
    t.not(reasons[code].next, 'stop', code)
  }
})

test('no permission of a device, session or login has a wildcard where it publishes', (t) => {
  const all = [
    ...deviceLevels.map((state) => devicePermissions({ lenser, kid, state })),
    devicePermissions({ lenser, kid, state: 'approved', clockOff: true }),
    ...sessionScopes.map((scope) => sessionPermissions(lenser, kid, scope)),
    loginPermissions(kid),
  ]
  for (const { publish, subscribe } of all) {
    for (const subject of publish) t.notRegex(subject, /[*>$]/)
    for (const subject of publish) t.true(subject.includes(`.${kid}.`))
    for (const subject of subscribe) t.regex(subject, /^ltg\.v1\.(out|ctl)\./)
  }
})

test('a device that may not work reaches no door but its status', (t) => {
  for (const state of ['revoked', 'blocked'] as const) {
    t.deepEqual(kindsInState('in', state), [])
    t.deepEqual(kindsInState('ask', state), ['status'])
  }
  t.deepEqual(kindsInState('in', 'pending'), ['challenge', 'canary'])
  t.deepEqual(kindsInState('in', 'unhealthy'), [
    'challenge',
    'heartbeat',
    'run_withdraw',
    'rotate',
    'lifecycle',
    'canary',
  ])
  t.deepEqual(devicePermissions({ lenser, kid, state: 'trusted', clockOff: true }).publish, [
    `ltg.v1.ask.${lenser}.${kid}.status`,
  ])
})

test('an API key makes no sessions and no further keys, and approves only where its owner said so', (t) => {
  const mayLogIn = (scope: SessionScope): boolean =>
    sessionPermissions(lenser, kid, scope).publish.some((subject) => subject.endsWith('.login'))
  t.true(mayLogIn('owner'), 'who was cut off before the first answer asks again')
  for (const scope of ['api', 'api_approver'] as const) {
    t.false(mayLogIn(scope), scope)
    for (const kind of ['login', 'sessions', 'session_revoke', 'api_key_create'] as const) {
      t.false(kindsInScope(scope).includes(kind), `${scope} ${kind}`)
    }
  }
  for (const kind of ['approve', 'revoke', 'suspend', 'reinstate', 'reprove', 'rotation_require'] as const) {
    t.false(kindsInScope('api').includes(kind), kind)
    t.true(kindsInScope('api_approver').includes(kind), kind)
  }
})

test('only the verifier publishes verified batches, and only the provisioner makes streams', (t) => {
  for (const service of serviceNames) {
    const { publish } = servicePermissions(service)
    t.is(
      publish.some((subject) => subject.startsWith('ltg.v1.ok.')),
      service === 'verifier',
      service,
    )
    t.is(
      publish.some((subject) => /STREAM\.(CREATE|UPDATE)/.test(subject)),
      service === 'provisioner',
      service,
    )
    t.false(
      publish.some((subject) => /STREAM\.(PURGE|DELETE|MSG)/.test(subject)),
      service,
    )
    t.false(publish.includes('>'), service)
  }
})

test('every consumer reads a stream that exists, by subjects of that stream', (t) => {
  for (const { stream, filters, service } of consumers) {
    const spec = streams.find(({ name }) => name === stream)
    t.truthy(spec)
    t.true(serviceNames.includes(service))
    for (const filter of filters) t.true(filter.startsWith((spec?.subjects[0] ?? '').replace('>', '')), filter)
  }
})

test('kinds are looked up safely for any string', (t) => {
  t.is(kindOf('constructor'), undefined)
  t.is(kindOf('__proto__'), undefined)
  t.truthy(kindOf('heartbeat'))
  t.is(checkBody('constructor', {}), 'unknown kind')
})

test('a body with a member too many, or one missing, does not have its form', (t) => {
  const good = { kind: 'heartbeat', aud: kid, counter: 1, daemon_version: '1.0.0', gateway_status: 'connected' }
  t.is(checkBody('heartbeat', good), null)
  t.is(typeof checkBody('heartbeat', { ...good, extra: 1 }), 'string')
  t.is(typeof checkBody('heartbeat', { ...good, daemon_version: undefined }), 'string')
  t.is(typeof checkBody('heartbeat', { ...good, kind: 'attestation' }), 'string')
  t.is(typeof checkBody('heartbeat', null), 'string')
})

test('what a body’s refusal says holds none of its values', (t) => {
  const refusal = checkBody('heartbeat', {
    kind: 'heartbeat',
    aud: 'secret-value',
    counter: 1,
    daemon_version: '1',
    gateway_status: 'x',
  })
  t.false(refusal?.includes('secret-value'))
})

test('what a body’s refusal says can be told in a receipt, whatever the sender calls its members', (t) => {
  const good = { kind: 'heartbeat', aud: kid, counter: 1, daemon_version: '1.0.0', gateway_status: 'connected' }
  for (const name of ['a'.repeat(200_000), '🧀'.repeat(60_000), `a${'🧀'.repeat(200)}`]) {
    const refusal = checkBody('heartbeat', { ...good, [name]: 1 }) ?? ''
    t.true(refusal.isWellFormed())
    t.true(refusal.length > 0 && refusal.length <= 300)
  }
})

test('a door subject is read back into its names, and nothing else is one', (t) => {
  t.deepEqual(parseDoorSubject(`ltg.v1.in.${lenser}.${kid}.heartbeat`), { door: 'in', lenser, kid, kind: 'heartbeat' })
  for (const subject of [
    'ltg.v1.in.a.b.c',
    `ltg.v1.out.${lenser}.${kid}.receipt`,
    `ltg.v1.in.${lenser}.${kid}.heartbeat.x`,
    `ltg.v1.in.${lenser}.${kid}.`,
  ]) {
    t.is(parseDoorSubject(subject), undefined, subject)
  }
})

test('a verified batch keeps the bytes received', (t) => {
  const item = {
    lenser,
    kid,
    digest: 'A'.repeat(43),
    stored: '1790000000000000000',
    text: '{"alg":"ed25519","body":{"a":"é \\n"},"v":1}',
  }
  t.deepEqual(decodeVerifiedBatch(encodeVerifiedLine(item) + encodeVerifiedLine(item)), [item, item])
  t.throws(() => decodeVerifiedBatch('nothing'), { instanceOf: SyntaxError })
  t.throws(() => decodeVerifiedBatch('a b c d {}\n'), { instanceOf: SyntaxError })
})

test('law 2: an envelope whose text holds a Unicode line separator does not cost its neighbours in the batch', (t) => {
  const item = { lenser, kid, digest: 'A'.repeat(43), stored: '1790000000000000000', text: '{"a":1}' }
  for (const separator of ['\u2028', '\u2029', '\u0085', '\ufeff']) {
    const strange = { ...item, text: `{"a":"1${separator}1"}` }
    const batch = [item, strange, item]
    t.deepEqual(decodeVerifiedBatch(batch.map(encodeVerifiedLine).join('')), batch)
  }
})

test('transitions name levels that exist; a revoked device leaves only by the platform’s block', (t) => {
  const pairs = new Set(deviceTransitions.map(({ from, to, actor }) => `${actor} ${from}>${to}`))
  t.is(pairs.size, deviceTransitions.length)
  t.deepEqual(
    deviceTransitions.filter(({ from }) => from === 'revoked').map(({ to }) => to),
    ['blocked'],
  )
  for (const actor of transitionActors) t.false(pairs.has(`${actor} pending>trusted`))
})

test('every fact of the ladder has a sentence', (t) => {
  const facts = Object.values(executionFacts).flat()
  t.deepEqual(facts.toSorted(), Object.keys(factSentences).toSorted())
})

test('RP-2’s 600 s lie within what a claim is kept for', (t) => {
  t.true(limits.iatWindowSeconds + limits.storeLagSeconds + limits.claimMarginSeconds >= 600)
  t.true(limits.verifiedBatchBytes + limits.envelopeBytes < limits.brokerPayloadBytes)
})

test('every kind’s body says its own kind', (t) => {
  for (const name of kindNames) {
    const schema = kindOf(name)?.body as unknown as { properties: { kind: { const: string } } }
    t.is(schema.properties.kind.const, name)
  }
})
