import { type Sodium, verifySignature } from '@lenserfight/envelope'
import { checkAt, checkBytes } from './pack.ts'

/** Checks a pack of signatures; a flag each, 1 where it verified. */
export const checkPacked = (packed: Uint8Array, sodium: Sodium): Uint8Array => {
  const flags = new Uint8Array(packed.length / checkBytes)
  for (let place = 0; place < flags.length; place++) {
    const { publicKey, digest, signature } = checkAt(packed, place)
    flags[place] = verifySignature(publicKey, digest, signature, sodium) ? 1 : 0
  }
  return flags
}
