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
import { makeAccount, makeDevice, nextCounter, type Signatory } from '@lenserfight/testkit'

/** An envelope on its way, with what a bare check of its signature needs. */
export interface Sample {
  readonly device: Signatory
  readonly kind: string
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
export const someHash = (): string => {
  const text = randomNonce() + randomNonce().slice(0, 20)
  return `${text}A`
}

const attestationOf = (gatewayId: string) => ({
  kind: 'attestation',
  aud: gatewayId,
  counter: nextCounter(),
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

const runStartOf = (gatewayId: string) => ({
  kind: 'run_start',
  aud: gatewayId,
  counter: nextCounter(),
  op_id: newUuidV7(),
  command_hash: someHash(),
  inputs: [{ name: 'prompt.txt', sha256: someHash(), bytes: 2048 }],
  runner_id: newUuidV7(),
  submission_id: newUuidV7(),
})

/** So many runs of each device, devices in turn: for each a signed start and a signed attestation. */
export const signSamples = (devices: readonly Signatory[], runsEach: number, gatewayId: string): Sample[] => {
  if (decodeBase64Url(someHash(), 32) === null) throw new TypeError('not a hash')
  const signers = devices.map((device) => {
    const { sign } = createSigner({ kid: device.kid, key: device.keys.privateKey })
    return (body: { kind: string }): Sample => {
      const { bytes, envelope } = sign({ body })
      const subject = inSubject({ lenser: device.lenser, kid: device.kid, kind: body.kind })
      const check = {
        publicKey: device.keys.publicKey,
        digest: signingDigest(bytes),
        signature: signatureBytes(envelope),
      }
      return { device, kind: body.kind, subject, bytes, ...check }
    }
  })
  return Array.from({ length: runsEach }, () => [runStartOf, attestationOf]).flatMap((kinds) =>
    kinds.flatMap((bodyOf) => signers.map((sign) => sign(bodyOf(gatewayId)))),
  )
}
