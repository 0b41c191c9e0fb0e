import { createSigner, randomNonce } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { nextCounter, type Signatory } from '@lenserfight/testkit'

/** A source of numbers in [0, 1) that a seed repeats. */
export type Random = () => number

/** mulberry32: small, seeded, good enough to vary attacks. */
export const seeded = (seed: number): Random => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const below = (random: Random, end: number): number => Math.floor(random() * end)
const pick = <T>(random: Random, items: readonly T[]): T => items[below(random, items.length)] as T
const randomBytesOf = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => below(random, 256)))

export interface Attacker {
  readonly device: Signatory
  readonly gatewayId: string
}
export const goodText = ({ device, gatewayId }: Attacker, more: object = {}, nonce = randomNonce()): string => {
  const body = {
    kind: 'heartbeat',
    aud: gatewayId,
    counter: nextCounter(),
    daemon_version: '1',
    gateway_status: 'x',
    ...more,
  }
  return createSigner({ kid: device.kid, key: device.keys.privateKey }).sign({ body, nonce }).text
}

type Attack = (random: Random, attacker: Attacker) => Buffer
const asBytes = (text: string): Buffer => Buffer.from(text)

const nest = (depth: number, open: string, close: string, core: string): string =>
  open.repeat(depth) + core + close.repeat(depth)

const wrongValues = [
  'null',
  '[]',
  '{}',
  '""',
  '"x"',
  '3',
  '-1',
  '1.5',
  'true',
  '1e400',
  '9007199254740993',
  '"\\ud800"',
]
const members = ['alg', 'body', 'iat', 'kid', 'nonce', 'sig', 'v']

/** The envelope with one member that is not what it was. */
const swapMember = (random: Random, text: string): string => {
  const envelope = JSON.parse(text) as Record<string, unknown>
  const victim = pick(random, members)
  const value = pick(random, wrongValues)
  const written = members.map((name) => `"${name}":${name === victim ? value : JSON.stringify(envelope[name])}`)
  return `{${written.join(',')}}`
}

/** Ways to send what is no acceptable envelope. Each result is refused, whatever the numbers are. */
export const attacks = {
  randomBytes: (random) => randomBytesOf(random, 1 + below(random, 900)),
  truncated: (random, attacker) => {
    const text = goodText(attacker)
    return asBytes(text.slice(0, below(random, text.length - 1)))
  },
  deep: (random, attacker) => {
    const depth = pick(random, [32, 33, 100, 5_000, 40_000])
    const [open, close] = pick(random, [['[', ']'] as const, ['{"a":', '}'] as const])
    const bomb = nest(depth, open, close, '0')
    return asBytes(random() < 0.5 ? bomb : goodText(attacker).replace('"x"', bomb))
  },
  huge: (random, attacker) => {
    const size = limits.envelopeBytes + 1 + below(random, 2000)
    const filler = pick(random, ['a', ' ', '[', '1', '"'])
    return random() < 0.5
      ? Buffer.alloc(size, filler)
      : asBytes(goodText(attacker).replace('"x"', `"${'a'.repeat(size)}"`))
  },
  wrongTypes: (random, attacker) => asBytes(swapMember(random, goodText(attacker))),
  wrongEncoding: (random, attacker) => {
    const text = goodText(attacker)
    return pick<() => Buffer>(random, [
      () => Buffer.from(text, 'utf16le'),
      () => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), asBytes(text)]),
      () => Buffer.from(text.replace('"x"', '"é"'), 'latin1'),
      () => Buffer.concat([asBytes(text.slice(0, -1)), Buffer.from([0xc0, 0xaf, 0x7d])]),
      () => asBytes(text.replace('"x"', '"\\ud83d"')),
      () => asBytes(Buffer.from(text).toString('base64')),
    ])()
  },
  unknownKind: (random, attacker) =>
    asBytes(goodText(attacker, { kind: `kind_${pick(random, ['a', 'of_another_day', 'xyz'])}` })),
  zeroCharacter: (random, attacker) =>
    asBytes(goodText(attacker).replace('"x"', pick(random, ['"\\u0000"', '"a\\u0000b"', '"\u0000"']))),
  hostileNames: (random, attacker) => {
    const member = pick(random, ['"__proto__":{"a":1}', '"constructor":1', '"kind":"heartbeat"', '"\\u0000":1', '"":1'])
    return asBytes(goodText(attacker).replace('"body":{', `"body":{${member},`))
  },
  flippedByte: (random, attacker) => {
    const bytes = asBytes(goodText(attacker))
    const place = below(random, bytes.length)
    bytes[place] = (bytes[place] ?? 0) ^ (1 << below(random, 8))
    return bytes
  },
} as const satisfies Record<string, Attack>
export type AttackName = keyof typeof attacks
export const attackNames = Object.keys(attacks) as readonly AttackName[]
