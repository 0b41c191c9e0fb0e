import { loadSodium, signatureBytes, signingDigest } from '@lenserfight/envelope'
import test from 'ava'
import type { SignatureCheck } from '../src/signatures/pack.ts'
import { createSignaturePool } from '../src/signatures/pool.ts'
import { heartbeatBody, makeDevice } from './_envelopes.ts'

const device = makeDevice()
const checkOf = (spoil: boolean): SignatureCheck => {
  const { bytes, envelope } = device.sign({ body: heartbeatBody() })
  const digest = signingDigest(bytes)
  if (spoil) digest[0] = (digest[0] ?? 0) ^ 1
  return { publicKey: device.publicKey, signature: signatureBytes(envelope), digest }
}

const builds = ['native', 'wasm'] as const
for (const build of builds) {
  for (const threads of [0, 1, 3]) {
    test(`the pool tells good signatures from bad in order (${build}, ${threads} threads)`, async (t) => {
      // sodium-native is optional: where it does not load, the other build alone is there to test.
      if ((await loadSodium(build).catch(() => undefined)) === undefined) return t.pass()
      const pool = await createSignaturePool({ threads, build })
      t.like(pool, { build, threads })
      const spoiled = Array.from({ length: 200 }, (_, place) => place % 7 === 3)
      const batches = await Promise.all(
        [spoiled, spoiled.toReversed(), [], [true]].map((some) => pool.verify(some.map(checkOf))),
      )
      const expected = [spoiled, spoiled.toReversed(), [], [true]].map((some) => some.map((bad) => (bad ? 0 : 1)))
      t.deepEqual(
        batches.map((flags) => [...flags]),
        expected,
      )
      await pool.close()
    })
  }
}

test('a thread that dies fails its checks as infrastructure, and another takes its place', async (t) => {
  const pool = await createSignaturePool({ threads: 1 })
  const checks = Array.from({ length: 50 }, () => checkOf(false))
  const dying = pool.verify(checks)
  await pool.close()
  await t.throwsAsync(dying, { code: 'unavailable' })
  t.deepEqual([...(await pool.verify(checks))], Array(50).fill(1))
  await pool.close()
})
