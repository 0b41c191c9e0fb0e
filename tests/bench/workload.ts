import { createPool } from '@lenserfight/db'
import {
  createSigner,
  decodeBase64Url,
  newUuidV7,
  randomNonce,
  signatureBytes,
  signingDigest,
} from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'

/** An attestation on its way, with what a bare check of its signature needs. */
export interface Sample {
  readonly device: Signatory
  readonly subject: string
  readonly bytes: Uint8Array
  readonly publicKey: Uint8Array
  readonly digest: Uint8Array
  readonly signature: Uint8Array
}

/** Approved devices, each of an account of its own. */
export const makeDevices = async (stack: Stack, count: number): Promise<Signatory[]> => {
  const logger = createLogger({ service: 'verifier', level: 'silent' })
  const owner = createPool({ ...stack.owner, max: 2, logger })
  const devices: Signatory[] = []
  for (let i = 0; i < count; i++) {
    const { lenser } = await makeAccount(owner)
    devices.push(await makeDevice(owner, { lenser }))
  }
  await owner.end()
  return devices
}

/** A hash of the form that bodies have; not of anything. */
const someHash = (): string => {
  const text = randomNonce() + randomNonce().slice(0, 20)
  return `${text}A`
}

const bodyOf = (gatewayId: string) => ({
  kind: 'attestation',
  aud: gatewayId,
  op_id: newUuidV7(),
  run_id: newUuidV7(),
  command_hash: someHash(),
  stdin_hash: null,
  stdout_hash: someHash(),
  inputs: [],
  outputs: [],
  lens_hash: null,
  workflow_hash: null,
  started_at: Date.now() - 1000,
  ended_at: Date.now(),
  exit_code: 0,
  signal: null,
})

/** So many signed attestations of each device, devices in turn. */
export const signSamples = (devices: readonly Signatory[], each: number, gatewayId: string): Sample[] => {
  const signers = devices.map((device) => ({
    device,
    signer: createSigner({ kid: device.kid, key: device.keys.privateKey }),
    subject: inSubject({ lenser: device.lenser, kid: device.kid, kind: 'attestation' }),
  }))
  if (decodeBase64Url(someHash(), 32) === null) throw new TypeError('not a hash')
  return Array.from({ length: each }, () => signers).flatMap((all) =>
    all.map(({ device, signer, subject }) => {
      const { bytes, envelope } = signer.sign({ body: bodyOf(gatewayId) })
      return {
        ...{ device, subject, bytes, publicKey: device.keys.publicKey },
        digest: signingDigest(bytes),
        signature: signatureBytes(envelope),
      }
    }),
  )
}
