import test from 'ava'
import { teachKeys } from '../src/ask/teach-keys.ts'

test('a refused login or status carries the key list, so that who asks first can believe the refusal', (t) => {
  const refusal = { ok: false, code: 'token_not_bound' } as const
  t.deepEqual(teachKeys('login', refusal, 'list'), { ...refusal, result: { keys: 'list' } })
  t.deepEqual(teachKeys('status', refusal, 'list'), { ...refusal, result: { keys: 'list' } })
  t.deepEqual(teachKeys('approve', refusal, 'list'), refusal)
  const answer = { ok: true, result: { session: 'x' } } as const
  t.deepEqual(teachKeys('login', answer, 'list'), answer)
})
