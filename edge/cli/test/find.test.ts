import type { DeviceLevel } from '@lenserfight/schemas'
import test from 'ava'
import { type Device, deviceAmong } from '../src/owner/devices.ts'
import { severalMeant } from '../src/owner/find.ts'
import { runAmong, runsOf } from '../src/owner/runs.ts'

const runOf = (run_id: string) => ({
  ...{ run_id, label: null, command_hash: 'AbCd', device_id: run_id, device_name: 'build', runner_id: null },
  ...{ runner_name: null, verdict: 'allow', reason: null, asked_at: 1, awaits_until: null, open_until: null },
  ...{ attested_at: null, started_at: null, ended_at: null, exit_code: null, signal: null, level: 'account_verified' },
})
const deviceOf = (device_id: string, name: string, trust_level: DeviceLevel): Device => ({
  ...{ device_id, name, trust_level, device_type: 'ci', os: 'x', fingerprint: null, challenge_verified: true },
  ...{ last_heartbeat_at: null, gateway_status: null, created_at: 1 },
})
const id = (run: string): string => `019d3c5e-77a1-7000-8000-${run.padStart(12, '0')}`

test('a run is meant by the beginning of its id where no other begins so', (t) => {
  const first = '019d3c5e-77a1-7000-8000-00000000000a'
  const { runs } = runsOf({ runs: [first, '019d3c5e-8000-7000-8000-00000000000b'].map(runOf) })
  t.is(runAmong(runs, '019d3c5e-77'), first)
  for (const given of ['019d3c5f', '019d3c5', 'd3c5e-77']) t.is(runAmong(runs, given), undefined, given)
  t.throws(() => runAmong(runs, '019d3c5e'), { code: 'usage', message: /is the beginning of several: / })
})

test('of many that are meant five are told', (t) => {
  const { message } = severalMeant('x', ['a', 'b', 'c', 'd', 'e', 'f', 'g'])
  t.true(message.endsWith('(x is the beginning of several: a, b, c, d, e, 2 more; give more of it)'), message)
})

test('a revoked device is meant by its name only where it is looked at, and no living one has it', async (t) => {
  const among = { amongRevoked: true }
  const revoked = deviceOf(id('a'), 'other', 'revoked')
  const living = deviceOf(id('b'), 'other', 'approved')
  t.is(deviceAmong([revoked], 'other', among), revoked)
  t.is(deviceAmong([revoked], 'other'), undefined)
  t.is(deviceAmong([revoked, living], 'other', among), living)
  const before = deviceOf(id('c'), 'other', 'revoked')
  t.throws(() => deviceAmong([revoked, before], 'other', among), { code: 'usage' })
})
