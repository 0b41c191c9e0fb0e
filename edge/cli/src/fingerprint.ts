import { createHash } from 'node:crypto'
import { decodeKey } from '@lenserfight/envelope'
import { wordlist } from '@scure/bip39/wordlists/english.js'

const bitsPerWord = 11n
const wordCount = 8

const wordsOf = (hash: Buffer): string => {
  const bits = BigInt(wordCount) * bitsPerWord
  const bytes = Number(bits / 8n)
  const number = BigInt(`0x${hash.subarray(0, bytes).toString('hex')}`)
  const indices = Array.from({ length: wordCount }, (_, place) => {
    const shift = bitsPerWord * BigInt(wordCount - 1 - place)
    return Number((number >> shift) & ((1n << bitsPerWord) - 1n))
  })
  return indices.map((index) => wordlist[index]).join(' ')
}

/**
 * A key's fingerprint as words that two people can compare by voice: eight of the 2,048 English words of BIP-39, from the
 * leading 88 bits of the SHA-256 of the public key. No sentence of BIP-39: it has no checksum and stands for no secret.
 * @param publicKey 32 bytes, base64url
 */
export const fingerprintWords = (publicKey: string): string =>
  wordsOf(createHash('sha256').update(decodeKey(publicKey)).digest())

const form = /^SHA256:([A-Za-z0-9_-]{43})$/

/**
 * The same words, of the fingerprint that the gateway shows.
 * @param fingerprint `SHA256:` and the hash as base64url
 * @throws TypeError where it is none
 */
export const wordsOfFingerprint = (fingerprint: string): string => {
  const hash = form.exec(fingerprint)?.[1]
  if (hash === undefined) throw new TypeError('that is no fingerprint')
  return wordsOf(Buffer.from(hash, 'base64url'))
}
