import { CodedError } from '@lenserfight/schemas'
import { createAccount, createServer, createUser, fromPublic, fromSeed } from '@nats-io/nkeys'
import test from 'ava'
import fc from 'fast-check'
import {
  createJwtSigner,
  decodeAccountSeed,
  decodePublicNkey,
  encodePublicNkey,
  isBrokerReply,
  readRequest,
} from '../src/index.ts'

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const decode = (part = ''): Record<string, unknown> => JSON.parse(Buffer.from(part, 'base64url').toString())

test('keys are written and read as the broker’s own library does', (t) => {
  for (let n = 0; n < 20; n++) {
    const account = createAccount()
    const seed = decodeAccountSeed(textOf(account.getSeed()))
    t.is(createJwtSigner(seed).issuer, account.getPublicKey())
    const user = createUser().getPublicKey()
    const raw = decodePublicNkey(user, 'user')
    t.is(raw?.length, 32)
    t.is(encodePublicNkey(raw as Uint8Array, 'user'), user)
  }
})

test('what is no key of that kind is refused', (t) => {
  const user = createUser().getPublicKey()
  t.is(decodePublicNkey(user, 'account'), undefined)
  t.is(decodePublicNkey(user.toLowerCase(), 'user'), undefined)
  t.is(decodePublicNkey(`${user}A`, 'user'), undefined)
  const altered = `${user.slice(0, 20)}${user[20] === 'A' ? 'B' : 'A'}${user.slice(21)}`
  t.is(decodePublicNkey(altered, 'user'), undefined, 'the checksum holds it')
  fc.assert(fc.property(fc.string(), (text) => decodePublicNkey(text, 'user') === undefined))
})

test('config_invalid: a seed that is not an account’s', (t) => {
  for (const text of [textOf(createUser().getSeed()), createAccount().getPublicKey(), '', 'SA']) {
    t.is(t.throws(() => decodeAccountSeed(text), { instanceOf: CodedError })?.code, 'config_invalid')
  }
})

test('a JWT that is signed here verifies by the broker’s own library', (t) => {
  const account = createAccount()
  const signer = createJwtSigner(decodeAccountSeed(textOf(account.getSeed())))
  const [head, claims, signature] = signer.sign({ sub: 'x' }).split('.')
  t.deepEqual(decode(head), { typ: 'JWT', alg: 'ed25519-nkey' })
  t.deepEqual(decode(claims), { sub: 'x', iss: account.getPublicKey() })
  const bytes = Buffer.from(`${head}.${claims}`)
  t.true(fromPublic(account.getPublicKey()).verify(bytes, Buffer.from(signature ?? '', 'base64url')))
})

/** A question as a server asks it. */
const ask = (change: { claims?: object; nats?: object; alg?: string; forge?: boolean } = {}): Uint8Array => {
  const server = createServer()
  const id = server.getPublicKey()
  const nats = {
    server_id: { id, name: 'ltg' },
    user_nkey: createUser().getPublicKey(),
    client_info: { id: 7, nonce: 'abc' },
    connect_opts: { auth_token: 'token' },
    ...change.nats,
  }
  const claims = { aud: 'nats-authorization-request', iss: id, nats, ...change.claims }
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${encode({ typ: 'JWT', alg: change.alg ?? 'ed25519-nkey' })}.${encode(claims)}`
  const key = change.forge ? createServer() : fromSeed(server.getSeed())
  return Buffer.from(`${signed}.${Buffer.from(key.sign(Buffer.from(signed))).toString('base64url')}`)
}

test('a question is read that a server signed for itself, and no other', (t) => {
  t.like(readRequest(ask()), { clientId: 7, serverNonce: 'abc', token: 'token' })
  t.is(readRequest(ask({ forge: true })), undefined, 'another key signed')
  t.is(readRequest(ask({ claims: { iss: createServer().getPublicKey() } })), undefined, 'another issuer')
  t.is(readRequest(ask({ claims: { aud: 'other' } })), undefined, 'another audience')
  t.is(readRequest(ask({ alg: 'none' })), undefined, 'another algorithm')
  t.is(
    readRequest(ask({ nats: { server_id: { id: createServer().getPublicKey() } } })),
    undefined,
    'for another server',
  )
  t.is(readRequest(ask({ nats: { user_nkey: 'U123' } })), undefined, 'no user key')
  t.is(readRequest(ask({ nats: { client_info: 7 } })), undefined, 'no connection that could be cut')
  for (const id of [undefined, null, 0, -1, 1.5, '7', 2 ** 53])
    t.is(readRequest(ask({ nats: { client_info: { id } } })), undefined, `the connection ${id}`)
  t.like(readRequest(ask({ nats: { client_info: { id: 7 }, connect_opts: null } })), { serverNonce: '', token: '' })
  const lies = { client_info: { id: 8, nonce: 'x' }, id: 9, cid: 9, client_id: 9 }
  t.is(readRequest(ask({ nats: { connect_opts: lies } }))?.clientId, 7, 'what the client says of itself is not read')
  fc.assert(fc.property(fc.uint8Array(), (bytes) => readRequest(bytes) === undefined))
  fc.assert(fc.property(fc.string(), (text) => readRequest(Buffer.from(text)) === undefined))
})

test('only the form of a server’s own inbox is answered', (t) => {
  t.true(isBrokerReply('$SYS._INBOX.Zm9vYmFy.kDx31mAQ'))
  for (const reply of [
    undefined,
    '',
    '_INBOX.abc.def',
    'ltg.v1.ctl.global',
    '$JS.API.STREAM.PURGE.LTG_INGRESS',
    '$SYS.REQ.SERVER.x.KICK',
    '$SYS._INBOX.>',
    '$SYS._INBOX.a.b.c',
    '$SYS._INBOX.a',
  ]) {
    t.false(isBrokerReply(reply), reply)
  }
})
