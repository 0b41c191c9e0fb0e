import {
  encodeKey,
  generateKeyPair,
  type KeyChange,
  newUuidV7,
  readEnvelope,
  signEnvelope,
  signKeyProof,
} from '@lenserfight/envelope'
import test from 'ava'
import { isProofGood } from '../src/ask/check-proof.ts'

const gatewayId = newUuidV7()
const session = { kid: newUuidV7(), key: generateKeyPair().privateKey }

/** A request of a kind whose new key signed the change that `proven` makes of it. */
const request = (kind: string, proven: Partial<KeyChange> = {}, over: object = {}) => {
  const to = generateKeyPair()
  const body = { op_id: newUuidV7(), device_id: newUuidV7(), new_public_key: encodeKey(to.publicKey) }
  const change = { kind: 'reprove', aud: gatewayId, ...body, old_public_key: null, ...proven } as const
  const proof = signKeyProof(change, to.privateKey)
  const { bytes } = signEnvelope({ ...session, body: { kind, aud: gatewayId, ...body, proof, ...over } })
  const read = readEnvelope(bytes)
  if (!read.ok) throw new TypeError(read.detail)
  return { kind, envelope: read.envelope, bytes: read.bytes, text: read.text }
}

test('proof_mismatch: an owner vouches for a key that proved itself in this very operation, and for no other', (t) => {
  const isGood = (...args: Parameters<typeof request>) => isProofGood(request(...args), gatewayId)
  t.true(isGood('reprove'))
  t.false(isGood('reprove', { op_id: newUuidV7() }))
  t.false(isGood('reprove', { device_id: newUuidV7() }))
  t.false(isGood('reprove', { aud: newUuidV7() }))
  t.false(isGood('reprove', { kind: 'rotate' }))
  t.false(isGood('reprove', { old_public_key: encodeKey(generateKeyPair().publicKey) }))
  t.false(isGood('reprove', {}, { new_public_key: encodeKey(generateKeyPair().publicKey) }))
  t.false(isGood('reprove', {}, { proof: 'A'.repeat(86) }))
  t.true(isGood('revoke', { op_id: newUuidV7() }), 'of other kinds there is nothing to prove')
})
