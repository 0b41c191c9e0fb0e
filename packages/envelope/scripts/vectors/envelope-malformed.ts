import { type EnvelopeVector, IAT, KID, NONCE, nested, SIG, signText, template, vector } from './envelope.ts'

/** Bytes that are no envelope. Where there is anything to sign, the signature is good. */
export function malformedVectors(): EnvelopeVector[] {
  return [...notJson(), ...notUtf8(), ...wrongMembers(), ...wrongBodies()].map((v) => ({
    ...v,
    code: 'malformed_envelope',
  }))
}

function notJson(): EnvelopeVector[] {
  const good = signText(template())
  return [
    vector('empty', 'No bytes.', ''),
    vector('word', 'Not JSON.', 'envelope'),
    vector('truncated', 'The last byte is missing.', good.slice(0, -1)),
    vector('trailing', 'Something after the envelope.', `${good}{}`),
    vector('trailing-nul', 'A zero byte after the envelope.', `${good}\u0000`),
    vector('bom', 'A byte order mark before the envelope.', `\ufeff${good}`),
    vector('single-quotes', 'Strings in single quotes.', good.replaceAll('"', "'")),
    vector('trailing-comma', 'A comma before the closing brace.', signText(template({ body: '{"a":1,}' }))),
    vector('leading-zero', 'A number that begins with zero.', signText(template({ body: '{"a":01}' }))),
    vector('nan', 'NaN is not JSON.', signText(template({ body: '{"a":NaN}' }))),
    vector('raw-control', 'A bare line break within a string.', signText(template({ body: '{"a":"\n"}' }))),
    vector('raw-nul', 'A bare U+0000 within a string.', signText(template({ body: '{"a":"\u0000"}' }))),
    vector('array', 'An envelope within an array.', `[${good}]`),
    vector('text', 'An envelope within a string.', JSON.stringify(good)),
    vector('null', 'null.', 'null'),
    vector('object', 'An empty object.', '{}'),
  ]
}

function notUtf8(): EnvelopeVector[] {
  const around = (name: string, description: string, hex: string): EnvelopeVector => {
    const [head = '', tail = ''] = signText(template({ body: '{"a":"|"}' })).split('|')
    return vector(name, description, Buffer.concat([Buffer.from(head), Buffer.from(hex, 'hex'), Buffer.from(tail)]))
  }
  return [
    around('utf8-lone-continuation', 'A continuation byte alone.', '80'),
    around('utf8-overlong', 'A slash in two bytes.', 'c0af'),
    around('utf8-overlong-nul', 'U+0000 in two bytes, as some languages write it.', 'c080'),
    around('utf8-surrogate', 'A surrogate in three bytes.', 'eda080'),
    around('utf8-surrogate-pair', 'An emoji as two surrogates of three bytes (CESU-8).', 'eda0bdedb880'),
    around('utf8-beyond', 'A code point past U+10FFFF.', 'f4908080'),
    around('utf8-truncated', 'A character cut short.', 'e282'),
    vector('utf16', 'UTF-16.', Buffer.from(signText(template()), 'utf16le')),
  ]
}

function wrongMembers(): EnvelopeVector[] {
  const wrong = (name: string, description: string, members: { [member: string]: string }): EnvelopeVector =>
    vector(name, description, signText(template(members)))
  const good = signText(template())
  const sig = JSON.parse(good).sig as string
  const withSig = (name: string, description: string, other: string): EnvelopeVector =>
    vector(name, description, good.replace(sig, other))
  return [
    ...['alg', 'body', 'iat', 'kid', 'nonce', 'v'].map((name) => wrong(`no-${name}`, `No ${name}.`, { [name]: '' })),
    vector('no-sig', 'No sig.', template().replace(`,"sig":"${SIG}"`, '')),
    wrong('member-more', 'An eighth member.', { kie: '1' }),
    wrong('member-proto', 'An eighth member, named __proto__.', { ['__proto__']: '{}' }),
    wrong('member-other', 'Seven members, one by another name.', { iat: '', Iat: String(IAT) }),
    wrong('alg-number', 'alg is a number.', { alg: '1' }),
    wrong('v-text', 'v is a string.', { v: '"1"' }),
    wrong('v-fraction', 'v is not an integer.', { v: '1.5' }),
    wrong('v-unsafe', 'v is beyond 2^53 - 1.', { v: '9007199254740993' }),
    wrong('iat-text', 'iat is a string.', { iat: `"${IAT}"` }),
    wrong('iat-fraction', 'iat has milliseconds.', { iat: `${IAT}.5` }),
    wrong('iat-unsafe', 'iat is beyond 2^53 - 1.', { iat: '9007199254740992' }),
    wrong('iat-null', 'iat is null.', { iat: 'null' }),
    wrong('kid-upper-case', 'kid in upper case.', { kid: `"${KID.toUpperCase()}"` }),
    wrong('kid-bare', 'kid without hyphens.', { kid: `"${KID.replaceAll('-', '')}"` }),
    wrong('kid-braces', 'kid in braces.', { kid: `"{${KID}}"` }),
    wrong('kid-line-break', 'kid with a line break after it.', { kid: `"${KID}\\n"` }),
    wrong('nonce-short', 'A nonce of 15 bytes.', { nonce: `"${NONCE.slice(0, 20)}"` }),
    wrong('nonce-long', 'A nonce of 17 bytes.', { nonce: `"${NONCE.slice(0, 21)}AA"` }),
    wrong('nonce-padded', 'A nonce with padding.', { nonce: `"${NONCE}=="` }),
    wrong('nonce-loose-bits', 'A nonce whose last character has bits that no byte holds.', {
      nonce: `"${NONCE.slice(0, 21)}B"`,
    }),
    wrong('nonce-base64', 'A nonce in base64, not base64url.', { nonce: `"${'+/'.repeat(11)}"`.replace('/"', 'A"') }),
    wrong('nonce-number', 'nonce is a number.', { nonce: '1' }),
    withSig('sig-short', 'A signature of 63 bytes.', sig.slice(0, 84)),
    withSig('sig-long', 'A signature of 65 bytes.', `${sig}A`),
    withSig('sig-padded', 'A signature with padding.', `${sig}==`),
    withSig('sig-loose-bits', 'The same signature, spelt with bits that no byte holds.', loosened(sig)),
    withSig('sig-hex', 'A signature in hex.', Buffer.from(sig, 'base64url').toString('hex')),
    withSig('sig-space', 'A signature with a space in it.', `${sig.slice(0, 40)} ${sig.slice(41)}`),
  ]
}

function wrongBodies(): EnvelopeVector[] {
  const body = (name: string, description: string, text: string): EnvelopeVector =>
    vector(name, description, signText(template({ body: text })))
  return [
    body('body-null', 'body is null.', 'null'),
    body('body-array', 'body is an array.', '[]'),
    body('body-text', 'body is a string.', '"{}"'),
    body('number-infinite', 'A number that no double holds.', '{"a":1e400}'),
    body('number-unsafe', 'An integer beyond 2^53 - 1.', '{"a":9007199254740992}'),
    body('number-unsafe-negative', 'An integer below -(2^53 - 1).', '{"a":[-9007199254740992]}'),
    body('number-unsafe-exponent', 'A large integer in exponent form.', '{"a":1e+21}'),
    body('number-unsafe-fraction', 'A fraction that reads as a large integer.', '{"a":9007199254740993.5}'),
    body('surrogate-high', 'A lone high surrogate.', '{"a":"\\ud800"}'),
    body('surrogate-low', 'A lone low surrogate, in upper case.', '{"a":["\\uDC00"]}'),
    body('surrogates-swapped', 'A surrogate pair the wrong way round.', '{"a":"\\ude00\\ud83d"}'),
    body('surrogate-name', 'A lone surrogate in a name.', '{"\\ud800":1}'),
    body('nul', 'U+0000, escaped.', '{"a":"\\u0000"}'),
    body('nul-name', 'U+0000 in a name.', '{"a\\u0000b":1}'),
    body('nul-after-backslash', 'An escaped backslash, then an escaped U+0000.', '{"a":"\\\\\\u0000"}'),
    body('too-deep', '33 levels, the envelope being the first.', nested(33)),
    body('much-too-deep', '10,000 levels.', nested(10_000)),
  ]
}

/** The last character stands for two bits of data and four that must be zero; this sets one of the four. */
function loosened(sig: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return sig.slice(0, -1) + alphabet[alphabet.indexOf(sig.at(-1) ?? '') + 1]
}
