import test from 'ava'
import fc from 'fast-check'
import { holds } from '../scripts/vectors/ed25519.ts'
import { generateKeyPair, loadSodium, publicKeyOf, type Sodium, verifySignature } from '../src/index.ts'
import { always } from './_property.ts'
import { hex, rfc8032Vectors, signatureVectors } from './_vectors.ts'

// The native build is an optional dependency: where it does not load, the one that does is tested.
const builds: Sodium[] = [
  await loadSodium('wasm'),
  ...(await loadSodium('native').then(
    (b) => [b],
    () => [],
  )),
]

for (const sodium of builds) {
  test(`${sodium.build}: keys and signatures are those of RFC 8032 §7.1`, (t) => {
    for (const { name, privateKey, publicKey, message, signature } of rfc8032Vectors) {
      const expanded = sodium.expand(hex(privateKey))
      t.deepEqual(Buffer.from(expanded.publicKey), Buffer.from(publicKey, 'hex'), name)
      t.deepEqual(Buffer.from(sodium.sign(hex(message), expanded.secretKey)), Buffer.from(signature, 'hex'), name)
      t.true(verifySignature(hex(publicKey), hex(message), hex(signature), sodium), name)
    }
  })

  test(`EA-2: ${sodium.build}: forgeries and edge cases are judged by libsodium's strict rule`, (t) => {
    for (const { name, publicKey, message, signature, accept } of signatureVectors) {
      t.is(verifySignature(hex(publicKey), hex(message), hex(signature), sodium), accept, name)
    }
  })

  test(`${sodium.build}: verifySignature answers anything with true or false, and never throws`, (t) => {
    const { publicKey } = generateKeyPair()
    const anything = fc.oneof(fc.anything({ withTypedArray: true, withDate: true }), fc.uint8Array({ maxLength: 70 }))
    always(
      t,
      fc.property(anything, anything, anything, (key, message, signature) => {
        t.false(verifySignature(key as never, message as never, signature as never, sodium))
      }),
    )
    for (const signature of awkwardBytes()) {
      t.false(verifySignature(publicKey, signature, signature, sodium))
      t.false(verifySignature(signature, signature, signature, sodium))
    }
  })
}

test('both builds are tested where both load', (t) => {
  t.true(
    builds.length === 2 ||
      !['linux-x64', 'linux-arm64', 'darwin-arm64'].includes(`${process.platform}-${process.arch}`),
  )
})

test('the edge cases have teeth: the lax equation takes every forgery', (t) => {
  const lax = signatureVectors.filter(({ name }) => /^(small-order-key|s-plus|exact)/.test(name))
  t.is(lax.length, 14 + 4 + 1)
  for (const { name, publicKey, message, signature } of lax) {
    t.true(holds(hex(publicKey), hex(message), hex(signature)), name)
  }
  const mixed = signatureVectors.filter(({ name }) => name.startsWith('mixed-order'))
  for (const { name, publicKey, message, signature } of mixed) {
    t.true(holds(hex(publicKey), hex(message), hex(signature), 8n), name)
  }
  t.true(mixed.some(({ accept }) => !accept))
})

test('a signature verifies for its own key, message and bytes alone', (t) => {
  const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 })
  always(
    t,
    fc.property(bytes, fc.uint8Array(), fc.nat(511), (seed, message, bit) => {
      const [first] = builds as [Sodium]
      const { publicKey, secretKey } = first.expand(seed)
      const signature = Buffer.from(first.sign(message, secretKey))
      for (const sodium of builds) {
        t.true(verifySignature(publicKey, message, signature, sodium))
        t.false(verifySignature(publicKey, flip(signature, bit), signature, sodium))
        t.false(verifySignature(publicKey, message, flip(signature, bit), sodium))
        t.false(verifySignature(flip(publicKey, bit % 256), message, signature, sodium))
        t.false(verifySignature(publicKeyOf(generateKeyPair().privateKey), message, signature, sodium))
      }
    }),
    { numRuns: 40 },
  )
})

test('a good signature is good as 64 bytes alone: nothing after it, no key but 32 bytes, no other view of the same memory', (t) => {
  const { publicKey, secretKey } = (builds[0] as Sodium).expand(generateKeyPair().privateKey)
  const message = new Uint8Array(32).fill(7)
  const signature = (builds[0] as Sodium).sign(message, secretKey)
  const longer = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, Buffer.of(0)])
  const asWords = (bytes: Uint8Array): Uint8Array => new Uint16Array(Uint8Array.from(bytes).buffer) as never
  const asView = (bytes: Uint8Array): Uint8Array => new DataView(Uint8Array.from(bytes).buffer) as never
  for (const sodium of builds) {
    t.true(verifySignature(publicKey, message, signature, sodium))
    for (const other of [longer, asWords, asView]) {
      t.false(verifySignature(other(publicKey), message, signature, sodium))
      t.false(verifySignature(publicKey, other(message), signature, sodium))
      t.false(verifySignature(publicKey, message, other(signature), sodium))
    }
    t.false(verifySignature(publicKey, message, signature.subarray(0, 63), sodium))
  }
})

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Buffer.from(bytes)
  flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return flipped
}

/** Bytes whose memory is not as usual: shared, resizable, detached, behind a proxy, lying about their length. */
function awkwardBytes(): Uint8Array[] {
  const detached = new Uint8Array(64)
  structuredClone(detached, { transfer: [detached.buffer] })
  return [
    detached,
    new Uint8Array(new SharedArrayBuffer(64)),
    new Uint8Array(new ArrayBuffer(64, { maxByteLength: 128 })),
    new Proxy(new Uint8Array(64), {}),
    Object.create(Uint8Array.prototype),
    { length: 64, byteLength: 64 } as Uint8Array,
  ]
}
