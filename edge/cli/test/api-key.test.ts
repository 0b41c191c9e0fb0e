import { createHash } from 'node:crypto'
import { encodeKey, kidOfKey, newUuidV7, publicKeyOf } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import { newApiKey, readApiKey } from '../src/owner/api-key.ts'

const lenser = '0190c0de-0000-7000-8000-00000000beef'
const bytesOf = (text: string): Buffer => Buffer.from(text.slice('lfk_'.length), 'base64url')
const codeOf = (text: string): string | undefined => {
  try {
    readApiKey(text)
    return undefined
  } catch (error) {
    return (error as CodedError).code
  }
}

test('an API key says whose it is, and gives the same key whenever it is read', (t) => {
  const made = newApiKey(lenser)
  t.regex(made.text, /^lfk_[A-Za-z0-9_-]{70}$/)
  const { text, ...key } = made
  t.deepEqual(readApiKey(text), key)
  t.is(key.lenser, lenser)
  t.is(key.kid, kidOfKey(publicKeyOf(key.keys.privateKey)))
  t.not(newApiKey(lenser).text, text)
})

test('the key is that of the secret in a domain of its own, for ever', (t) => {
  const secret = Buffer.alloc(32, 7)
  const payload = Buffer.concat([Buffer.from(lenser.replaceAll('-', ''), 'hex'), secret])
  const sum = createHash('sha256').update('ltg.v1.api-key-sum\0').update(payload).digest().subarray(0, 4)
  const text = `lfk_${Buffer.concat([payload, sum]).toString('base64url')}`
  const seed = createHash('sha256').update('ltg.v1.api-key\0').update(secret).digest()
  const { keys } = readApiKey(text)
  t.is(encodeKey(keys.privateKey), seed.toString('base64url'))
  t.not(encodeKey(keys.privateKey), secret.toString('base64url'), 'never the secret itself')
})

test('api_key_invalid: what lost or changed a character is told before anybody is asked', (t) => {
  const { text } = newApiKey(lenser)
  for (let at = 0; at < text.length; at++) {
    const other = text[at] === 'A' ? 'B' : 'A'
    t.is(codeOf(`${text.slice(0, at)}${other}${text.slice(at + 1)}`), 'api_key_invalid', `at ${at}`)
    t.is(codeOf(text.slice(0, at) + text.slice(at + 1)), 'api_key_invalid', `without ${at}`)
  }
  for (const wrong of ['', 'lfk_', `${text}=`, ` ${text}`, `${text}AA`, text.toUpperCase(), newUuidV7()]) {
    t.is(codeOf(wrong), 'api_key_invalid', wrong)
  }
})

test('api_key_invalid quotes nothing of the key', (t) => {
  const { text } = newApiKey(lenser)
  const broken = text.slice(0, -1)
  const error = t.throws(() => readApiKey(broken), { instanceOf: CodedError })
  const told = `${error?.message} ${error?.stack} ${String(error?.cause)} ${JSON.stringify(error)}`
  for (let at = 4; at + 8 < broken.length; at++) t.false(told.includes(broken.slice(at, at + 8)))
  t.is(bytesOf(text).length, 52)
})
