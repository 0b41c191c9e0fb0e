import type { Sodium } from '@lenserfight/envelope'
import type { Sample } from './workload.ts'

const measureMs = 1500

/** Signature checks a second of one thread and nothing else: the measure that the verifier is held against. */
export const bareChecksPerSecond = (samples: readonly Sample[], sodium: Sodium): number => {
  let checks = 0
  const start = performance.now()
  let elapsed = 0
  while (elapsed < measureMs) {
    for (let i = 0; i < 256; i++) {
      const { signature, digest, publicKey } = samples[checks % samples.length] as Sample
      if (!sodium.verify(signature, digest, publicKey)) throw new Error('a good signature did not verify')
      checks += 1
    }
    elapsed = performance.now() - start
  }
  return (checks / elapsed) * 1000
}
