import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import { createHeartbeat } from './heartbeat.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })

test('RH-4: a beat goes out at once for a runner that none of the last seconds named, and for no other', (t) => {
  const said: unknown[] = []
  let runners: string[] = []
  const heartbeat = createHeartbeat({
    ...{ everyMs: 3_600_000, logger, onRefused: () => {} },
    body: () => ({
      ...{ daemon_version: '0', gateway_status: 'connected' },
      runners: runners.map((runner_id) => ({ runner_id, open_runs: 0 })),
    }),
  })
  const client = {
    sign: (_kind: string, body: object) => {
      said.push((body as { runners: unknown[] }).runners.length)
      return { digest: String(said.length), bytes: new Uint8Array() }
    },
    publish: () => {},
  }
  heartbeat.beatFor('a')
  t.deepEqual(said, [], 'nothing can be sent yet')
  heartbeat.start(client)
  runners = ['a']
  heartbeat.beatFor('a')
  heartbeat.beatFor('a')
  t.deepEqual(said, [0, 1])
  runners = ['b', 'a']
  heartbeat.beatFor('b')
  t.deepEqual(said, [0, 1, 2])
  heartbeat.stop()
  heartbeat.beatFor('c')
  t.deepEqual(said, [0, 1, 2])
})
