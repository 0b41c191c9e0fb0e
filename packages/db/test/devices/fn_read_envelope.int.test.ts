import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { canonicalize, generateKeyPair, kidOfKey, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import test from 'ava'
import fc from 'fast-check'
import { refuses, sha256, useWorld } from '../_world.ts'

const world = useWorld(test)
const { publicKey, privateKey: key } = generateKeyPair()

interface Parts {
  digest: Buffer
  content_digest: Buffer
  kid: string
  iat: string
  nonce: string
  kind: string
  aud: string
  op_id: string | null
  counter: string | null
  body: unknown
  wire: Buffer
}
const read = (text: string | null) => world().one<Parts>('SELECT * FROM devices.fn_read_envelope($1)', [text])

/** Canonical JSON that may stand in a body; some members look like an envelope's own. */
const bodies = fc.record({
  kind: fc.constant('attestation'),
  aud: fc.uuid(),
  op_id: fc.constant(newUuidV7()),
  note: fc.oneof(
    fc.constantFrom('","iat":5', '},"iat":1,"kid":"', 'käse 🧀', '\\"', '{"alg":"ed25519","body":'),
    fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0')),
  ),
  more: fc.dictionary(fc.constantFrom('iat', 'kid', 'nonce', 'sig', 'v', 'body', 'alg'), fc.integer(), { maxKeys: 7 }),
})

test('an envelope is taken apart as it was put together, whatever its body says', async (t) => {
  const checked = fc.assert(
    fc.asyncProperty(bodies, fc.integer({ min: -(2 ** 53) + 1, max: 2 ** 53 - 1 }), async (body, iat) => {
      const kid = randomUUID()
      const { text, digest, envelope } = signEnvelope({ kid, key, body, iat })
      const parts = await read(text)
      assert.deepEqual(parts.digest, Buffer.from(digest))
      assert.deepEqual(parts.content_digest, sha256(canonicalize(body)))
      assert.deepEqual(
        { kid: parts.kid, iat: parts.iat, nonce: parts.nonce },
        { kid, iat: String(iat), nonce: envelope.nonce },
      )
      assert.deepEqual({ kind: parts.kind, aud: parts.aud, op_id: parts.op_id }, { ...pick(body) })
      assert.deepEqual(parts.body, JSON.parse(canonicalize(body)))
      assert.deepEqual(parts.wire, Buffer.from(text))
    }),
    { numRuns: 60 },
  )
  // Its message has the seed.
  await t.notThrowsAsync(checked)
})

const pick = ({ kind, aud, op_id }: { kind: string; aud: string; op_id: string }) => ({ kind, aud, op_id })

/** Bodies with a counter, and with names and texts that look like one. */
const counted = fc.record({
  aud: fc.constantFrom('00000000-0000-4000-8000-000000000000'),
  counter: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  kind: fc.constant('lifecycle'),
  note: fc.constantFrom(',"counter":1', '"counter":', '\\",\\"counter\\":1,', 'counter'),
  at: fc.constantFrom(',"counter":1', '{"counter":1}'),
  zz: fc.dictionary(fc.constantFrom('count', 'counters', ',"counter'), fc.integer(), { maxKeys: 3 }),
})

test('the content of an attempt is all of its body but the counter, which is told apart', async (t) => {
  const checked = fc.assert(
    fc.asyncProperty(counted, async (body) => {
      const parts = await read(signEnvelope({ kid: randomUUID(), key, body }).text)
      const { counter, ...rest } = body
      assert.deepEqual(parts.content_digest, sha256(canonicalize(rest)))
      assert.equal(parts.counter, String(counter))
    }),
    { numRuns: 60 },
  )
  // Its message has the seed.
  await t.notThrowsAsync(checked)
  t.is((await read(signEnvelope({ kid: randomUUID(), key, body: { kind: 'login' } }).text)).counter, null)
})

test('two attempts at one operation differ in digest and agree in content', async (t) => {
  const body = { kind: 'run_start', aud: randomUUID(), op_id: newUuidV7() }
  const attempts = [1, 2].map(
    (n) => signEnvelope({ kid: randomUUID(), key, body: { ...body, counter: n }, iat: 1_700_000_000 + n }).text,
  )
  const [one, two] = await Promise.all(attempts.map(read))
  t.deepEqual(one?.content_digest, two?.content_digest)
  t.notDeepEqual(one?.digest, two?.digest)
})

test('what is no envelope is refused with LT001', async (t) => {
  const body = { aud: randomUUID(), kind: 'heartbeat', op_id: newUuidV7() }
  const { text } = signEnvelope({ kid: randomUUID(), key, body, iat: 1_700_000_000 })
  const inner = canonicalize(body)
  const wrong: [string, string | null][] = [
    ['nothing', null],
    ['empty', ''],
    ['another version', text.replace('"v":1}', '"v":2}')],
    ['another algorithm', text.replace('ed25519', 'ed25518')],
    ['something after it', `${text} `],
    ['something before it', ` ${text}`],
    ['no signature', text.replace(/"sig":"[^"]*",/, '')],
    ['a signature with a strange character', text.replace(/"sig":"./, '"sig":"*')],
    ['a nonce with a quote', text.replace(/"nonce":"./, '"nonce":"\\')],
    ['a kid that is none', text.replace(/"kid":"./, '"kid":"-')],
    ['a kid in capitals', text.replace(/"kid":"[0-9a-f]{8}/, '"kid":"ABCDEF01')],
    ['a time that is no integer', text.replace('"iat":1700000000', '"iat":1.5')],
    ['a time that is text', text.replace('"iat":1700000000', '"iat":"17"')],
    ['no time', text.replace('"iat":1700000000', '"iat":')],
    ['a time beyond bigint', text.replace('1700000000', '9'.repeat(19))],
    ['a body that is an array', text.replace(inner, '[]')],
    ['a body that is null', text.replace(inner, 'null')],
    ['no body', text.replace(inner, '')],
    ['two values for a body', text.replace(inner, `${inner},${inner}`)],
    ['a second body', text.replace(inner, `${inner},"body":${inner}`)],
    ['a body cut off', text.replace(inner, inner.slice(0, -1))],
    ['an audience that is no UUID', text.replace(body.aud, 'me')],
    ['an operation that is no UUID', text.replace(body.op_id, 'mine')],
    ['a counter that is none', text.replace('"kind"', '"counter":1.5,"kind"')],
    ['a counter beyond bigint', text.replace('"kind"', `"counter":${'9'.repeat(19)},"kind"`)],
    ['U+0000', text.replace('heartbeat', '\\u0000')],
  ]
  for (const [what, text] of wrong) await refuses(t, () => read(text), 'LT001', what)
})

test('devices.fn_kid_of_key is the envelope package’s, and base64url goes there and back', async (t) => {
  const { kid, text, bytes } = await world().one<{ kid: string; text: string; bytes: Buffer }>(
    'SELECT devices.fn_kid_of_key($1) AS kid, devices.fn_b64url($1) AS text, devices.fn_b64url_decode(devices.fn_b64url($1)) AS bytes',
    [Buffer.from(publicKey)],
  )
  t.is(kid, kidOfKey(publicKey))
  t.is(text, Buffer.from(publicKey).toString('base64url'))
  t.deepEqual(bytes, Buffer.from(publicKey))
  for (const size of [0, 1, 2, 3, 16, 57, 300]) {
    const { same } = await world().one<{ same: boolean }>(
      'SELECT devices.fn_b64url_decode(devices.fn_b64url($1)) = $1 AS same',
      [Buffer.alloc(size, 0xfb)],
    )
    t.true(same)
  }
  for (const text of ['AB', 'A', 'AAA=', 'AA+A', 'AA A', 'AA\n', '*']) {
    await refuses(t, () => world().rows('SELECT devices.fn_b64url_decode($1)', [text]), 'LT001')
  }
})
