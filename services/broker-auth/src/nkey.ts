import { CodedError } from '@lenserfight/schemas'

/**
 * NKeys: Ed25519 keys as the broker writes them, base32 over a prefix byte, the key and a CRC. By hand, because the
 * broker's own library signs in 7 ms where libsodium takes a fiftieth of that.
 */
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** Prefix bytes; each gives the first letter of the text. */
const prefixes = { account: 0 << 3, server: 13 << 3, user: 20 << 3 } as const
const seedPrefix = 18 << 3
export type NkeyKind = keyof typeof prefixes

const encodeBase32 = (bytes: Uint8Array): string => {
  let text = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += alphabet[(value >>> bits) & 31]
    }
    value &= (1 << bits) - 1
  }
  return bits > 0 ? text + alphabet[(value << (5 - bits)) & 31] : text
}

const decodeBase32 = (text: string): Uint8Array | undefined => {
  const bytes = new Uint8Array((text.length * 5) >> 3)
  let at = 0
  let bits = 0
  let value = 0
  for (const letter of text) {
    const digit = alphabet.indexOf(letter)
    if (digit < 0) return undefined
    value = (value << 5) | digit
    bits += 5
    if (bits >= 8) {
      bits -= 8
      bytes[at++] = (value >>> bits) & 255
    }
    value &= (1 << bits) - 1
  }
  return bytes
}

/** CRC-16/XMODEM. */
const crc16 = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
    crc &= 0xffff
  }
  return crc
}

/** The bytes before the checksum, or undefined where the text is no NKey. */
const decodeChecked = (text: string): Uint8Array | undefined => {
  const bytes = decodeBase32(text)
  if (bytes === undefined || bytes.length < 3 || encodeBase32(bytes) !== text) return undefined
  const payload = bytes.subarray(0, -2)
  const crc = (bytes.at(-2) as number) | ((bytes.at(-1) as number) << 8)
  return crc16(payload) === crc ? payload : undefined
}

/** The raw 32-byte public key of an NKey of that kind, or undefined where the text is none. */
export const decodePublicNkey = (text: string, kind: NkeyKind): Uint8Array | undefined => {
  const payload = text.length === 56 ? decodeChecked(text) : undefined
  if (payload === undefined || payload.length !== 33 || payload[0] !== prefixes[kind]) return undefined
  return payload.subarray(1)
}

/** Raw 32 bytes as the broker writes a public key of that kind. */
export const encodePublicNkey = (publicKey: Uint8Array, kind: NkeyKind): string => {
  const payload = Uint8Array.of(prefixes[kind], ...publicKey)
  const crc = crc16(payload)
  return encodeBase32(Uint8Array.of(...payload, crc & 255, crc >> 8))
}

/**
 * The 32-byte seed of an account NKey (`SA…`).
 * @throws CodedError `config_invalid`
 */
export const decodeAccountSeed = (text: string): Uint8Array => {
  const payload = decodeChecked(text)
  const [first = 0, second = 0] = payload ?? []
  const isAccount = (first & 0xf8) === seedPrefix && (((first & 7) << 5) | (second >> 3)) === prefixes.account
  if (payload?.length !== 34 || !isAccount) throw new CodedError('config_invalid', 'no seed of an account NKey')
  return payload.slice(2)
}
