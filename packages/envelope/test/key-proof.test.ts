import test from 'ava'
import { encodeKey, generateKeyPair, type KeyChange, newUuidV7, signKeyProof, verifyKeyProof } from '../src/index.ts'

const change = (newKey: Uint8Array): KeyChange => ({
  kind: 'rotate',
  aud: newUuidV7(),
  device_id: newUuidV7(),
  op_id: newUuidV7(),
  old_public_key: encodeKey(generateKeyPair().publicKey),
  new_public_key: encodeKey(newKey),
})

test('a new key proves itself over one change, and over no other', (t) => {
  const { publicKey, privateKey } = generateKeyPair()
  const signed = change(publicKey)
  const proof = signKeyProof(signed, privateKey)
  t.is(proof.length, 86)
  t.true(verifyKeyProof(signed, proof))
  const other = change(publicKey)
  for (const member of Object.keys(signed) as (keyof KeyChange)[]) {
    if (member === 'new_public_key' || member === 'kind') continue
    t.false(verifyKeyProof({ ...signed, [member]: other[member] }, proof), member)
  }
  t.false(verifyKeyProof({ ...signed, kind: 'reprove' }, proof))
  t.false(verifyKeyProof({ ...signed, old_public_key: null }, proof))
  t.false(verifyKeyProof({ ...signed, new_public_key: encodeKey(generateKeyPair().publicKey) }, proof))
})

test('what is no key or no proof is false, and a proof by another key is not made', (t) => {
  const { publicKey, privateKey } = generateKeyPair()
  for (const proof of ['', 'x', 'A'.repeat(86), 'A'.repeat(200)]) t.false(verifyKeyProof(change(publicKey), proof))
  t.false(verifyKeyProof({ ...change(publicKey), new_public_key: 'short' }, 'A'.repeat(86)))
  t.throws(() => signKeyProof(change(generateKeyPair().publicKey), privateKey), { instanceOf: TypeError })
})
