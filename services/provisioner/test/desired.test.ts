import { consumers, streams } from '@lenserfight/schemas'
import test from 'ava'
import { consumerConfig, differences, streamConfig } from '../src/index.ts'

test('what the broker leaves out because it is the default is no difference', (t) => {
  t.deepEqual(differences({ no_ack: false, num: 0, list: [] }, {}), [])
  t.deepEqual(differences({ no_ack: true, num: 1, list: ['a'] }, {}), ['no_ack', 'num', 'list'])
  t.deepEqual(differences({ no_ack: true }, { no_ack: false }), ['no_ack'])
  t.deepEqual(differences({ no_ack: false }, { no_ack: true }), ['no_ack'])
  t.deepEqual(differences({ subjects: ['a', 'b'] }, { subjects: ['a'] }), ['subjects'])
})

test('the ingress never acknowledges, never rolls up, and cannot be purged', (t) => {
  const [ingress] = streams
  t.like(streamConfig(ingress), {
    name: 'LTG_INGRESS',
    no_ack: true,
    allow_rollup_hdrs: false,
    deny_purge: true,
    deny_delete: true,
    retention: 'workqueue',
    discard: 'new',
    discard_new_per_subject: true,
  })
})

test('every consumer delivers without limit and is acknowledged message by message', (t) => {
  for (const spec of consumers) t.like(consumerConfig(spec), { max_deliver: -1, ack_policy: 'explicit' })
})
