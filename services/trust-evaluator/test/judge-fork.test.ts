import { envelopeDigest, generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import test from 'ava'
import { judgeFork, type Suspicion } from '../src/judge-fork.ts'

const gatewayId = '3f1f9d0e-6a44-4d6f-9f0c-52a1d0a6c001'
const [kid, lenserId] = [newUuidV7(), newUuidV7()]
const { publicKey, privateKey: key } = generateKeyPair()
const at = 1_790_000_000

const sign = (counter: unknown, { iat = at, by = key, as = kid, aud = gatewayId, kind = 'heartbeat' } = {}): string =>
  signEnvelope({
    ...{ kid: as, key: by, iat },
    body: { kind, aud, counter, daemon_version: '1', gateway_status: 'x' },
  }).text
const judge = (earlier: string, later: string, over: Partial<Suspicion> = {}) =>
  judgeFork({ deviceId: kid, lenserId, keyNumber: 1, publicKey, earlier, later, ...over }, gatewayId)
const digestsOf = (...texts: string[]) => texts.map((text) => envelopeDigest(Buffer.from(text)))

test('one counter in two envelopes is a fork, whatever their times', (t) => {
  t.deepEqual(judge(sign(5), sign(5)), { isProven: true })
  t.deepEqual(judge(sign(5, { iat: at + 5000 }), sign(5)), { isProven: true })
})

test('a lower counter is one only where its signer’s own clock says that it was signed later', (t) => {
  t.deepEqual(judge(sign(5), sign(4, { iat: at + 60 })), { isProven: true })
  for (const iat of [at + 59, at, at - 600]) {
    t.deepEqual(judge(sign(5), sign(4, { iat })), { isProven: false, forged: [] })
  }
})

test('rising counters, and an envelope beside itself, prove nothing', (t) => {
  const one = sign(5)
  t.deepEqual(judge(one, sign(6, { iat: at + 900 })), { isProven: false, forged: [] })
  t.deepEqual(judge(one, one), { isProven: false, forged: [] })
})

test('law 5: what this very key did not sign, for this gateway’s door and in the form of its kind, proves nothing and is named', (t) => {
  const good = sign(5)
  const other = generateKeyPair()
  for (const forged of [
    sign(5, { by: other.privateKey }),
    sign(5, { as: newUuidV7() }),
    sign(5, { aud: lenserId }),
    sign(5, { kind: 'status' }),
    sign(5, { kind: 'constructor' }),
    sign('5'),
    sign(0),
    '{}',
    'nothing',
    sign(5).replace('"x"', '"y"'),
  ]) {
    t.deepEqual(judge(good, forged), { isProven: false, forged: digestsOf(forged) })
    t.deepEqual(judge(forged, good), { isProven: false, forged: digestsOf(forged) })
  }
  t.deepEqual(judge(good, sign(5), { publicKey: other.publicKey }).isProven, false)
})
