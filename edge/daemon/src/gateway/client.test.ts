import test from 'ava'
import { resultOf } from './client.ts'

test('a failure of the gateway’s is told with its incident id', (t) => {
  const incident_id = '00000000-0000-4000-8000-00000000000e'
  const answer = { kind: 'answer', aud: incident_id, to: incident_id, time: 1, digest: 'x', ok: false } as const
  const failed = t.throws(() => resultOf({ ...answer, code: 'internal_error', incident_id }), {
    code: 'internal_error',
  })
  t.true(failed?.message.endsWith(`(incident ${incident_id})`))
  const told = t.throws(() => resultOf({ ...answer, code: 'internal_error', detail: 'x', incident_id }))
  t.regex(told?.message ?? '', /x/)
})
