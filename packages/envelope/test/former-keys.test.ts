import test from 'ava'
import { encodeBase64Url, generateKeyPair, judgeFormerKeys, newUuidV7, signEnvelope } from '../src/index.ts'

const [current, former, older] = [generateKeyPair(), generateKeyPair(), generateKeyPair()]
const signed = (key: Uint8Array, stored = 1000n) => {
  const { bytes, digest } = signEnvelope({ kid: newUuidV7(), key, body: { kind: 'heartbeat' } })
  return { text: Buffer.from(bytes).toString(), digest: encodeBase64Url(digest), stored: String(stored) }
}
const keys = [
  { publicKey: former.publicKey, goodUntil: 1000n },
  { publicKey: older.publicKey, goodUntil: null },
]

test('a former key is good for what was stored while it was, dead afterwards, and a key that is none of them is none', (t) => {
  t.is(judgeFormerKeys(signed(former.privateKey, 999n), keys), 'good')
  t.is(judgeFormerKeys(signed(former.privateKey, 1000n), keys), 'good')
  t.is(judgeFormerKeys(signed(former.privateKey, 1001n), keys), 'dead')
  t.is(judgeFormerKeys(signed(older.privateKey, 0n), keys), 'dead')
  t.is(judgeFormerKeys(signed(current.privateKey, 0n), keys), 'none')
  t.is(judgeFormerKeys(signed(former.privateKey, 0n), []), 'none')
})

test('what is no envelope, or was claimed as other bytes, no key signed', (t) => {
  t.is(judgeFormerKeys({ ...signed(former.privateKey), text: '{}' }, keys), 'none')
  t.is(judgeFormerKeys({ ...signed(former.privateKey), digest: signed(former.privateKey).digest }, keys), 'none')
})
