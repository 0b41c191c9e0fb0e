import { withClient } from '@lenserfight/local'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { enrolMany } from './_enrol.ts'

const owners = 10
const perOwner = 100

test('1,000 devices enrolled at once, through every wall, are all there, once, and alive', async (t) => {
  t.timeout(300_000)
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  await stack.whenReady()
  const { enrolments, signInMs, elapsedMs, refused } = await enrolMany(stack, { owners, perOwner })
  t.teardown(() => Promise.all(enrolments.map(({ client }) => client.close())))

  const wanted = owners * perOwner
  t.is(new Set(enrolments.map(({ kid }) => kid)).size, wanted)
  const rows = await withClient(stack.owner, async (client) => {
    const found = await client.query<{ level: string; devices: number; keys: number; alive: number; accounts: number }>(
      `SELECT trust_level AS level, count(*)::int AS devices, count(DISTINCT public_key)::int AS keys,
              count(last_heartbeat_at)::int AS alive, count(DISTINCT lenser_id)::int AS accounts
         FROM devices.registered_devices GROUP BY 1`,
    )
    return found.rows
  })
  t.deepEqual(rows, [{ level: 'approved', devices: wanted, keys: wanted, alive: wanted, accounts: owners }])
  const { transitions } = await withClient(stack.owner, async (client) => {
    const found = await client.query<{ transitions: number }>(
      `SELECT count(*)::int AS transitions FROM audit.hash_chains WHERE event_kind = 'trust_transition'`,
    )
    return found.rows[0] as { transitions: number }
  })
  t.is(transitions, 2 * wanted, 'registered and approved, once each')
  for (const { client } of enrolments) {
    t.is(client.stats().untrusted + client.stats().unknown + client.contradictions.length, 0)
  }
  const seconds = (ms: number): string => (ms / 1000).toFixed(1)
  const approved = enrolments.map(({ approvedAfterMs }) => approvedAfterMs).sort((a, b) => a - b)
  t.log(`${wanted} devices of ${owners} people, registered to first heartbeat in ${seconds(elapsedMs)} s:`)
  t.log(
    `${((wanted / elapsedMs) * 1000).toFixed(0)} a second; half approved after ${seconds(approved[wanted / 2] ?? 0)} s,`,
  )
  t.log(`the last after ${seconds(approved.at(-1) ?? 0)} s; ${owners} people signed in within ${seconds(signInMs)} s;`)
  t.log(`refused for the moment: ${JSON.stringify(refused)}`)
})
