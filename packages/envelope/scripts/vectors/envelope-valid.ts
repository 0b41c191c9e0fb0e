import { type EnvelopeVector, GATEWAY, KID, nested, signText, template, vector } from './envelope.ts'

/** Envelopes that verify under their key. */
export function validVectors(): EnvelopeVector[] {
  const valid = (name: string, description: string, members: { [member: string]: string }): EnvelopeVector =>
    vector(name, description, signText(template(members)))
  const body = (name: string, description: string, text: string): EnvelopeVector =>
    valid(name, description, { body: text })
  return [
    body('minimal', 'The smallest body there is.', '{}'),
    body(
      'heartbeat',
      'A body as devices send them.',
      `{"aud":"${GATEWAY}","daemon_version":"0.1.0","kind":"heartbeat"}`,
    ),
    body(
      'attestation',
      'Nested objects and arrays, every object in order.',
      `{"aud":"${GATEWAY}","inputs":[{"name":"stdin","sha256":"${'0'.repeat(43)}"}],"kind":"attestation",` +
        `"op_id":"${KID}","result":{"ended_at":1780000000,"exit_code":0,"signal":null}}`,
    ),
    body('literals', 'true, false, null, and empty things.', '{"a":true,"b":false,"c":null,"d":[],"e":{},"f":""}'),
    body('numbers', 'Numbers in their shortest form.', '{"a":[0,-1,0.1,-0.000001,1e-7,5e-324,1.5,123456.789]}'),
    body('largest-integers', 'The safe integers end here.', '{"a":9007199254740991,"b":-9007199254740991}'),
    body(
      'order-utf16',
      'Members sort by UTF-16 code units: the surrogates of an emoji come before U+FB33.',
      '{"\\r":1,"1":2,"\u0080":3,"ö":4,"€":5,"😀":6,"\ufb33":7}',
    ),
    body('order-integer-names', 'Names that look like integers sort as text.', '{"10":1,"2":2,"a":{"01":1,"1":2}}'),
    body(
      'prototype-names',
      'Names that are special in some languages are members like others.',
      '{"__proto__":{"a":1},"constructor":null,"hasOwnProperty":1,"toJSON":2,"toString":3,"valueOf":4}',
    ),
    body(
      'escapes',
      'Control characters, quotes and backslashes in the one way that RFC 8785 writes them; nothing else is escaped.',
      '{"a":"\\b\\t\\n\\f\\r\\u0001\\u001f\\"\\\\/\u007f\u2028\ufeff"}',
    ),
    body(
      'escaped-backslash',
      'A backslash and the letters u0000: not the character U+0000.',
      '{"\\\\ud800":1,"a":"\\\\u0000"}',
    ),
    body('unicode', 'Text beyond ASCII stands as it is, unnormalized.', '{"a":"Ä Ä ß 漢 😀","ключ":"значение"}'),
    body('deepest', '32 levels, the envelope being the first.', nested(32)),
    valid('iat-zero', 'Whether the time is near is not a question of form.', { iat: '0' }),
    valid('iat-negative', 'A safe integer all the same.', { iat: '-1' }),
    valid('kid-session', 'A key id derived from a key is a version 8 UUID.', {
      kid: '"9f64a747-e1b9-8f13-9fab-b6b488ec1fb5"',
    }),
    valid('kid-nil', 'Any lower-case UUID has the form of a key id.', {
      kid: '"00000000-0000-0000-0000-000000000000"',
    }),
    valid('nonce-zeros', 'A nonce of zero bits has the form of a nonce.', { nonce: `"${'A'.repeat(22)}"` }),
  ]
}
