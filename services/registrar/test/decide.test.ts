import { encodeBase64Url, generateKeyPair, newUuidV7, randomNonce, signEnvelope } from '@lenserfight/envelope'
import test from 'ava'
import type { Signer } from '../src/ask/check-request.ts'
import { decide } from '../src/verified/decide.ts'
import type { Item } from '../src/verified/decode.ts'

const gatewayId = '11111111-1111-4111-8111-111111111111'
const lenser = '22222222-2222-4222-8222-222222222222'
const kid = '33333333-3333-4333-8333-333333333333'
const keys = generateKeyPair()
const device: Signer = { kid, signer: 'device', lenserId: lenser, publicKey: keys.publicKey }

const challenge = (over: object = {}, key = keys.privateKey): Item => {
  const body = {
    kind: 'challenge',
    aud: gatewayId,
    counter: 1,
    op_id: newUuidV7(),
    device_id: kid,
    challenge: randomNonce(),
    ...over,
  }
  const { bytes, digest } = signEnvelope({ kid, key, body })
  return {
    kind: 'challenge',
    lenser,
    kid,
    digest: encodeBase64Url(digest),
    stored: '1',
    text: Buffer.from(bytes).toString(),
  }
}
const codeOf = (item: Item, signer: Signer | undefined = device) => decide(item, { gatewayId, signerOf: () => signer })

test('law 5: the registrar believes no verifier: form, signer, digest and signature are its own to check', (t) => {
  t.is(codeOf(challenge()), null)
  t.is(codeOf({ ...challenge(), text: '{}' }), 'malformed_envelope')
  t.is(codeOf(challenge({ aud: lenser })), 'audience_mismatch')
  t.is(codeOf(challenge({ kind: 'heartbeat' })), 'kind_mismatch')
  t.is(codeOf(challenge({ challenge: 'short' })), 'malformed_body')
  t.is(decide(challenge(), { gatewayId, signerOf: () => undefined }), 'unknown_device')
  t.is(codeOf({ ...challenge(), lenser: kid }), 'kid_mismatch')
  t.is(codeOf({ ...challenge(), kid: lenser }), 'kid_mismatch')
})

test('DA-2: an answer that the submitted key did not sign is signature_mismatch, whoever verified it', (t) => {
  t.is(codeOf(challenge({}, generateKeyPair().privateKey)), 'signature_mismatch')
  t.is(codeOf({ ...challenge(), digest: challenge().digest }), 'signature_mismatch')
})
