import type { AddressedReceipt } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest, generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import type { RegistrarStore } from '../src/store.ts'
import { createVerifiedHandler } from '../src/verified/handle.ts'

test('law 2: a forged batch that names an envelope of a device ends nothing of that device’s', async (t) => {
  const receipts: AddressedReceipt[] = []
  const { handle, deadLetter } = createVerifiedHandler({
    gatewayId: newUuidV7(),
    store: { signers: async () => new Map() } as unknown as RegistrarStore,
    sendReceipts: (more) => receipts.push(...more),
    logger: createLogger({ service: 'registrar', level: 'silent' }),
  })
  const kid = newUuidV7()
  const { bytes } = signEnvelope({ kid, key: generateKeyPair().privateKey, body: { kind: 'challenge' } })
  const digest = encodeBase64Url(envelopeDigest(bytes))
  const forged = { kind: 'challenge' as const, lenser: newUuidV7(), kid, digest, stored: '1', text: '{}' }
  await handle([forged])
  const delivery = { subject: '', data: bytes, stream: '', seq: 1, stored: '1', deliveries: 1 }
  deadLetter(forged, { incidentId: newUuidV7(), cause: undefined, delivery })
  const ofForged = encodeBase64Url(envelopeDigest(Buffer.from('{}')))
  t.deepEqual(
    receipts.map(({ item }) => [item.digest, item.ok]),
    [
      [ofForged, false],
      [ofForged, false],
    ],
  )
})
