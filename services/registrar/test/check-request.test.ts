import { encodeKey, generateKeyPair, kidOfKey, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { nilUuid } from '@lenserfight/schemas'
import test from 'ava'
import { checkRequestForm, checkRequestSigner, type Signer } from '../src/ask/check-request.ts'

const gatewayId = '11111111-1111-4111-8111-111111111111'
const lenser = '22222222-2222-4222-8222-222222222222'
const keys = generateKeyPair()
const kid = kidOfKey(keys.publicKey)
const session: Signer = { kid, signer: 'session', lenserId: lenser, publicKey: keys.publicKey }

const signed = (body: object, over: { kid?: string; key?: Uint8Array } = {}): Uint8Array =>
  signEnvelope({ kid, key: keys.privateKey, ...over, body: { aud: gatewayId, ...body } }).bytes

interface Case {
  readonly body: object
  readonly kind: string
  readonly signer?: Signer | undefined
  readonly lenser?: string
  readonly subjectKid?: string
  readonly over?: { kid?: string; key?: Uint8Array }
}

/** The code that a request ends in, or `ok`. */
const judge = ({ body, kind, over, ...rest }: Case): string => {
  const subject = { lenser: rest.lenser ?? lenser, kid: rest.subjectKid ?? kid, kind }
  const form = checkRequestForm(signed(body, over), subject, gatewayId)
  if (!form.ok) return form.code
  const checked = checkRequestSigner(form.value, subject, 'signer' in rest ? rest.signer : session)
  return checked.ok ? 'ok' : checked.code
}

const login = () => ({
  kind: 'login',
  op_id: newUuidV7(),
  public_key: encodeKey(keys.publicKey),
  token: 'aaaaaa.bbbbbb.cccccc',
})

test('every code before the claim, in the order in which it is found', (t) => {
  const other = generateKeyPair()
  const otherKid = kidOfKey(other.publicKey)
  const device = '33333333-3333-4333-8333-333333333333'
  const list = { kind: 'list' }
  t.is(judge({ body: list, kind: 'list' }), 'ok')
  t.is(judge({ body: list, kind: 'list', subjectKid: otherKid }), 'kid_mismatch')
  t.is(judge({ body: list, kind: 'status' }), 'kind_mismatch')
  t.is(judge({ body: { ...list, aud: lenser }, kind: 'list' }), 'audience_mismatch')
  t.is(judge({ body: { kind: 'heartbeat' }, kind: 'heartbeat' }), 'unsupported_kind')
  t.is(judge({ body: { kind: 'connect' }, kind: 'connect' }), 'unsupported_kind')
  t.is(judge({ body: { ...list, trust: 'best' }, kind: 'list' }), 'malformed_body')
  t.is(judge({ body: list, kind: 'list', signer: undefined }), 'unknown_session')
  t.is(
    judge({ body: list, kind: 'list', signer: undefined, subjectKid: device, over: { kid: device } }),
    'unknown_device',
  )
  t.is(judge({ body: list, kind: 'list', lenser: gatewayId }), 'kid_mismatch')
  t.is(judge({ body: list, kind: 'list', over: { key: other.privateKey } }), 'signature_mismatch')
  t.is(judge({ body: list, kind: 'list', signer: { ...session, signer: 'device' } }), 'unsupported_kind')
  t.is(judge({ body: { kind: 'status' }, kind: 'status', signer: { ...session, signer: 'device' } }), 'ok')
})

test('malformed_envelope, not_canonical: bytes that are no envelope', (t) => {
  const subject = { lenser, kid, kind: 'list' }
  const code = (bytes: Uint8Array): string => {
    const form = checkRequestForm(bytes, subject, gatewayId)
    return form.ok ? 'ok' : form.code
  }
  const good = signed({ kind: 'list' })
  t.is(code(Buffer.from('hello')), 'malformed_envelope')
  t.is(code(Buffer.concat([good, Buffer.from(' ')])), 'not_canonical')
})

test('a login may name its machine, in so many characters that no terminal obeys', (t) => {
  const named = (machine: unknown) =>
    judge({ body: { ...login(), machine }, kind: 'login', lenser: nilUuid, signer: undefined })
  for (const machine of ['Sam’s laptop', '𝔻'.repeat(64)]) t.is(named(machine), 'ok', machine)
  for (const machine of ['', 'a'.repeat(65), 'two\nlines', 'red\u001b[31m', 'a\u202eb', null, 7])
    t.is(named(machine), 'malformed_body', String(machine))
})

test('a login names its own key: nobody on record, at the door without an account, kid and key agreeing', (t) => {
  const other = generateKeyPair()
  t.is(judge({ body: login(), kind: 'login', lenser: nilUuid, signer: undefined }), 'ok')
  t.is(judge({ body: login(), kind: 'login', signer: undefined }), 'kid_mismatch')
  const wrongKey = { ...login(), public_key: encodeKey(other.publicKey) }
  t.is(judge({ body: wrongKey, kind: 'login', lenser: nilUuid, signer: undefined }), 'kid_mismatch')
  const forged = { key: other.privateKey }
  t.is(judge({ body: login(), kind: 'login', lenser: nilUuid, signer: undefined, over: forged }), 'signature_mismatch')
})
