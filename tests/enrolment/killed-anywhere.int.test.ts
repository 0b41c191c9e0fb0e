import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { until } from '../e2e/_machine.ts'
import { createChance } from '../fault/_random.ts'
import { Clumsy, measurePace, type Pace } from './_clumsy.ts'

const test = anyTest as TestFn<{ stack: Stack; pace: Pace }>
const chance = createChance()
// Some 80 kills a run, at other moments in each: a run’s seed brings its own back.
const batches = 4
const perBatch = 3

test.before('a stack, and how long enrolling takes undisturbed', async (t) => {
  t.timeout(120_000)
  const stack = await testStack()
  await stack.whenReady()
  t.context = { stack, pace: await measurePace(stack) }
})
test.after.always('nothing stays', async (t) => {
  await t.context.stack?.stop()
})

interface Row {
  device_id: string
  trust_level: string
  public_key: string | null
}

/** What the gateway holds of an account. */
const rowsOf = (stack: Stack, subject: string): Promise<Row[]> =>
  withClient(stack.owner, async (client) => {
    const { rows } = await client.query<Row>(
      `SELECT device.id AS device_id, trust_level, translate(encode(public_key, 'base64'), '+/=', '-_') AS public_key
         FROM lensers.profiles AS profile JOIN devices.registered_devices AS device ON device.lenser_id = profile.id
        WHERE profile.subject = $1`,
      [subject],
    )
    return rows
  })

const enrol = async (t: ExecutionContext<{ stack: Stack; pace: Pace }>, name: string): Promise<string> => {
  const { stack, pace } = t.context
  const clumsy = new Clumsy(stack, name, { chance, pace })
  const { machine } = clumsy
  try {
    await clumsy.enrol()
    const shown = await machine.ask<{ device_id: string; public_key: string }>('gateway', 'identity', 'show')
    const rows = await rowsOf(stack, name)
    t.deepEqual(
      rows,
      [{ device_id: shown.device_id, trust_level: 'approved', public_key: shown.public_key }],
      `${name}: one device, approved, under the key that is here`,
    )
    const [device, session, ...others] = clumsy.keys()
    t.regex(device ?? '', /^device-[0-9a-f-]{36}\.key$/)
    t.regex(session ?? '', /^session-[0-9a-f-]{36}\.key$/)
    t.deepEqual(others, [], `${name}: no other key`)
    await until(async () => (await machine.status()).last_heartbeat_at !== null, `${name}’s heartbeat`)
    return `${clumsy.tally.killed} killed, ${clumsy.tally.missed} too late`
  } finally {
    await machine.end('SIGKILL')
  }
}

for (let batch = 0; batch < batches; batch += 1) {
  test.serial(
    `enrolment killed anywhere ends with one device, one key, approved (${batch + 1} of ${batches})`,
    async (t) => {
      t.timeout(300_000)
      t.log(`LTG_TEST_SEED=${chance.seed}`)
      const names = Array.from({ length: perBatch }, (_, place) => `clumsy${batch}x${place}`)
      const tallies = await Promise.all(names.map((name) => enrol(t, name)))
      t.log(tallies.join('; '))
    },
  )
}
