import { createHash } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import {
  decodeKey,
  encodeKey,
  generateKeyPair,
  isUuid,
  isUuidV7,
  kidOfKey,
  newUuidV7,
  publicKeyOf,
  randomNonce,
  uuidV7Time,
} from '../src/index.ts'
import { always } from './_property.ts'

test('a key pair is new, and its public key follows from the private one', (t) => {
  const [a, b] = [generateKeyPair(), generateKeyPair()]
  t.is(a.privateKey.length, 32)
  t.is(a.publicKey.length, 32)
  t.deepEqual(publicKeyOf(a.privateKey), a.publicKey)
  t.notDeepEqual(a.privateKey, b.privateKey)
})

test('a key survives its encoding of 43 characters', (t) => {
  always(
    t,
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
      const text = encodeKey(key)
      t.is(text.length, 43)
      t.deepEqual(Buffer.from(decodeKey(text)), Buffer.from(key))
    }),
  )
})

test('a key has one spelling', (t) => {
  const text = 'A'.repeat(43)
  const others = [
    '',
    text.slice(1),
    `${text}A`,
    `${text}=`,
    `${text.slice(1)}B`,
    `+${text.slice(1)}`,
    ` ${text.slice(1)}`,
  ]
  for (const other of others) t.throws(() => decodeKey(other), { code: 'malformed_body' }, other)
  t.throws(() => decodeKey(undefined as never), { code: 'malformed_body' })
})

test('what is not 32 bytes is no key', (t) => {
  for (const wrong of [new Uint8Array(31), new Uint8Array(64), 'A'.repeat(32), undefined]) {
    t.throws(() => encodeKey(wrong as never), { instanceOf: TypeError })
    t.throws(() => publicKeyOf(wrong as never), { instanceOf: TypeError })
    t.throws(() => kidOfKey(wrong as never), { instanceOf: TypeError })
  }
})

test('a kid of a key is the first 16 bytes of its SHA-256, as a version 8 UUID', (t) => {
  always(
    t,
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
      const kid = kidOfKey(key)
      const digits = createHash('sha256').update(key).digest('hex').slice(0, 32)
      const same = [...kid.replaceAll('-', '')].filter((digit, i) => digit === digits[i] || i === 12 || i === 16)
      t.regex(kid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      t.is(same.length, 32)
    }),
  )
})

test('a new version 7 UUID carries its time, and no two are alike', (t) => {
  always(
    t,
    fc.property(fc.nat(2 ** 47), (now) => {
      const id = newUuidV7(now)
      t.true(isUuidV7(id))
      t.true(isUuid(id))
      t.is(uuidV7Time(id), now)
      t.not(id, newUuidV7(now))
    }),
  )
  const before = Date.now()
  const time = uuidV7Time(newUuidV7()) ?? 0
  t.true(time >= before && time <= Date.now())
})

test('only version 7 UUIDs in lower case have a time', (t) => {
  const others = ['', '019e2f6a-5c00-4b1d-9a3e-0c7d51f0a001', '019E2F6A-5C00-7B1D-9A3E-0C7D51F0A001', 7, null]
  for (const other of others) t.is(uuidV7Time(other), null)
  t.is(uuidV7Time('019e2f6a-5c00-7b1d-9a3e-0c7d51f0a001'), 0x019e2f6a5c00)
  t.true(isUuid('019e2f6a-5c00-4b1d-9a3e-0c7d51f0a001'))
  t.false(isUuid('019e2f6a-5c00-4b1d-9a3e-0c7d51f0a001\n'))
})

test('a UUID with any one letter in upper case, or any character more or less, is none', (t) => {
  const id = 'abcdefab-cdef-abcd-efab-cdefabcdefab'
  t.true(isUuid(id))
  for (let at = 0; at < id.length; at++) {
    const [head, tail] = [id.slice(0, at), id.slice(at + 1)]
    if (id[at] !== '-') t.false(isUuid(`${head}${id[at]?.toUpperCase()}${tail}`))
    t.false(isUuid(head + tail))
    t.false(isUuid(`${head}0${id[at]}${tail}`))
  }
})

test('a nonce is 22 characters for 16 random bytes', (t) => {
  const nonces = Array.from({ length: 100 }, randomNonce)
  t.is(new Set(nonces).size, 100)
  for (const nonce of nonces) t.is(Buffer.from(nonce, 'base64url').toString('base64url'), nonce)
  for (const nonce of nonces) t.is(nonce.length, 22)
})
