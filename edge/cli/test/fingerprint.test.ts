import { createHash } from 'node:crypto'
import { encodeKey, generateKeyPair } from '@lenserfight/envelope'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import test from 'ava'
import { fingerprintWords, wordsOfFingerprint } from '../src/fingerprint.ts'

/** The public key of RFC 8032 §7.1, test 1. */
const publicKey = Buffer.from('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', 'hex')

test('the words of a key that everybody knows', (t) => {
  // By another program, from its SHA-256, 21fe31dfa154a261626bf8…: eleven bits a word.
  t.is(fingerprintWords(publicKey.toString('base64url')), 'capable various jewel dress enforce cost meadow lecture')
})

test('the words are the leading 88 bits, whoever computes them', (t) => {
  for (let times = 0; times < 200; times += 1) {
    const key = generateKeyPair().publicKey
    const hash = createHash('sha256').update(key).digest()
    const bits = [...hash].map((byte) => byte.toString(2).padStart(8, '0')).join('')
    const expected = (bits.slice(0, 88).match(/.{11}/g) ?? []).map((word) => wordlist[Number.parseInt(word, 2)])
    t.is(fingerprintWords(encodeKey(key)), expected.join(' '))
    t.is(wordsOfFingerprint(`SHA256:${hash.toString('base64url')}`), expected.join(' '))
  }
})

test('what is no fingerprint has no words', (t) => {
  for (const text of ['', 'SHA256:', 'SHA256:abc', `MD5:${'A'.repeat(43)}`]) {
    t.throws(() => wordsOfFingerprint(text), { instanceOf: TypeError })
  }
  t.throws(() => fingerprintWords('AAAA'))
})
