import { createSigner, generateKeyPair, newUuidV7, type SignerRecord } from '@lenserfight/envelope'
import { inSubject } from '@lenserfight/schemas'
import { nextCounter } from '@lenserfight/testkit'
import type { Received } from '../src/decide.ts'

export const gatewayId = '11111111-1111-4111-8111-111111111111'

/** A device of some account, with its key. */
export const makeDevice = (kid: string = crypto.randomUUID(), lenser: string = newUuidV7()) => {
  const pair = generateKeyPair()
  const signer = createSigner({ kid, key: pair.privateKey })
  const record: SignerRecord = { kid, lenserId: lenser, publicKey: pair.publicKey }
  return { kid, lenser, ...pair, sign: signer.sign, record }
}
export type Device = ReturnType<typeof makeDevice>

export const heartbeatBody = (overrides: object = {}) => ({
  kind: 'heartbeat',
  aud: gatewayId,
  counter: nextCounter(),
  daemon_version: '0.1.0',
  gateway_status: 'connected',
  ...overrides,
})

export const challengeBody = (overrides: object = {}) => ({
  kind: 'challenge',
  aud: gatewayId,
  counter: nextCounter(),
  op_id: newUuidV7(),
  device_id: '22222222-2222-4222-8222-222222222222',
  challenge: 'AAAAAAAAAAAAAAAAAAAAAA',
  ...overrides,
})

let lastSeq = 0
/** A message of the ingress stream, stored now. */
export const received = (subject: string, data: Uint8Array, overrides: Partial<Received> = {}): Received => ({
  subject,
  data,
  stream: 'LTG_INGRESS',
  seq: ++lastSeq,
  stored: `${BigInt(Date.now()) * 1_000_000n}`,
  ...overrides,
})

/** A device's heartbeat as the stream delivers it. */
export const heartbeat = (device: Device, overrides: Partial<Received> = {}): Received => {
  const { bytes } = device.sign({ body: heartbeatBody() })
  return received(inSubject({ lenser: device.lenser, kid: device.kid, kind: 'heartbeat' }), bytes, overrides)
}
