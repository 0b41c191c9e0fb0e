import { join } from 'node:path'
import { connectDaemon, type DaemonClient, enrolledOf } from '@lenserfight/daemon/client'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { LyingBroker } from './_lying-broker.ts'
import { Machine, until, withSettings } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine }>
const hash = 'A'.repeat(43)
const runs = 40

test.before('an enrolled machine', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  t.context = { stack, machine: new Machine(stack, 'dora') }
  await t.context.machine.enrol('dora', 'machine')
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

const connect = (machine: Machine): Promise<DaemonClient> => connectDaemon(join(machine.state, 'daemon.sock'))

const startRuns = async (client: DaemonClient): Promise<string[]> => {
  const run = { command_hash: hash, inputs: [] }
  const started = await Promise.all(
    Array.from({ length: 8 }, () => client.request('run.permit', { run, timeout_ms: 30_000 })),
  )
  return started.map(({ run_id }) => String(run_id))
}

const attestationOf = (run_id: string, ended: number) => ({
  ...{ run_id, command_hash: hash, stdin_hash: null, stdout_hash: null, inputs: [], outputs: [] },
  ...{ lens_hash: null, workflow_hash: null, started_at: ended - 1, ended_at: ended, exit_code: 0, signal: null },
})

/** What the gateway holds of these runs: one attestation each, one committed result each, and nothing else. */
const countOf = (stack: Stack, runIds: readonly string[], opIds: readonly string[]) =>
  withClient(stack.owner, async (client) => {
    const { rows } = await client.query(
      `SELECT (SELECT count(*)::int FROM execution.attestations WHERE run_id = ANY ($1)) AS attestations,
              (SELECT count(*)::int FROM devices.operations WHERE op_id = ANY ($2) AND code IS NULL) AS results`,
      [runIds, opIds],
    )
    return rows[0] as { attestations: number; results: number }
  })

const outcomesOf = async (machine: Machine, opIds: readonly string[]): Promise<unknown[]> => {
  const client = await connect(machine)
  try {
    const reports = []
    for (const op_id of opIds) reports.push(await client.request('operation.wait', { op_id, timeout_ms: 60_000 }))
    return reports.map((report) => (report.outcome as { ok?: boolean } | null)?.ok)
  } finally {
    client.close()
  }
}

/** Starts runs and hands over their attestations, while `disturb` does its worst between two of them. */
const attestWhile = async (machine: Machine, disturb: (done: number) => Promise<void>) => {
  const runIds: string[] = []
  const opIds: string[] = []
  let client = await connect(machine)
  while (runIds.length < runs) runIds.push(...(await startRuns(client)))
  for (const [index, runId] of runIds.entries()) {
    const params = { attestation: attestationOf(runId, Date.now()), timeout_ms: 0 }
    opIds.push(String((await client.request('run.complete', params)).op_id))
    await disturb(index + 1)
    // Whoever was killed is started again; what it had answered it must still know.
    client.close()
    client = await connect(machine)
  }
  client.close()
  return { runIds, opIds }
}

test.serial('law 2: a daemon killed again and again loses no operation and applies none twice', async (t) => {
  const { stack, machine } = t.context
  const { runIds, opIds } = await attestWhile(machine, async (done) => {
    if (done % 13 !== 0) return
    await machine.end('SIGKILL')
    await machine.serve()
  })
  t.deepEqual(
    await outcomesOf(machine, opIds),
    opIds.map(() => true),
  )
  t.deepEqual(await countOf(stack, runIds, opIds), { attestations: runIds.length, results: opIds.length })
  t.is(new Set(opIds).size, runIds.length)
})

test.serial('law 2: a broker that loses everything loses nothing of the daemon’s', async (t) => {
  const { stack, machine } = t.context
  const { runIds, opIds } = await attestWhile(machine, async (done) => {
    if (done === 10) await stack.nats.restart({ emptyStore: true })
  })
  t.deepEqual(
    await outcomesOf(machine, opIds),
    opIds.map(() => true),
  )
  t.deepEqual(await countOf(stack, runIds, opIds), { attestations: runIds.length, results: opIds.length })
  await until(async () => (await machine.ask<{ intact: boolean }>('gateway', 'audit', 'verify')).intact)
})

const onLinux = process.platform === 'linux' ? test.serial : test.serial.skip

onLinux(
  'on a full disk a connected daemon says nothing that it cannot keep, says why, and goes on when there is room',
  async (t) => {
    t.timeout(240_000)
    const { stack, machine } = t.context
    const pidOf = async () => (await machine.askDaemon('status', {})).pid
    const pid = await pidOf()
    machine.fillDisk(true)
    await until(async () => (await machine.status()).code === 'state_unwritable', 'that it says why')
    const client = await connect(machine)
    t.teardown(() => client.close())
    const run = { command_hash: hash, inputs: [] }
    await t.throwsAsync(client.request('run.permit', { run, timeout_ms: 1000 }), { code: 'state_unwritable' })
    // What the gateway says meanwhile cannot be kept either; several heartbeats are due.
    await new Promise((resolve) => setTimeout(resolve, 3000))
    machine.fillDisk(false)
    const { last_heartbeat_at: before } = await machine.status()
    await until(async () => Number((await machine.status()).last_heartbeat_at) > Number(before), 'a heartbeat')
    t.is(await pidOf(), pid, 'the same daemon')
    const runIds = await startRuns(client)
    t.is(new Set(runIds).size, 8)
    t.deepEqual(await countOf(stack, runIds, []), { attestations: 0, results: 0 })
  },
)

onLinux(
  'a challenge that a full disk kept from being answered, and a revocation that it kept from being noted, are when there is room',
  async (t) => {
    t.timeout(240_000)
    const { stack, machine: other } = t.context
    const machine = new Machine(stack, 'dora-2')
    t.teardown(() => machine.end('SIGTERM'))
    const broker = await LyingBroker.start(stack.nats.port)
    t.teardown(() => broker.stop())
    await machine.login('dora')
    const { device_id } = await machine.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', 'second')
    const challenge = withSettings(machine, (settings) => {
      settings.update('descriptor', (kept) => kept && { ...kept, url: broker.url })
      return enrolledOf(settings.get('identity'))?.challenge_op as string
    })
    const outcomeOf = async (op_id: string) =>
      (await machine.askDaemon('operation.wait', { op_id, timeout_ms: 0 })).outcome as { code?: string } | null

    broker.become('drop')
    await machine.serve()
    const { pid } = await machine.askDaemon('status', {})
    machine.fillDisk(true)
    broker.become('honest')
    await until(async () => /"event":"status_failed".*"state_unwritable"/.test(machine.log), 'that it says why')
    t.is((await machine.status()).trust_level, 'pending')
    await t.throwsAsync(outcomeOf(challenge), { code: 'unknown_operation' })
    machine.fillDisk(false)
    await machine.untilChallengeAnswered()

    broker.become('drop')
    await until(async () => (await machine.status()).connection === 'disconnected')
    const params = { attestation: attestationOf(crypto.randomUUID(), Date.now()), timeout_ms: 0 }
    const owed = String((await machine.askDaemon('run.complete', params)).op_id)
    await other.ask('gateway', 'revoke-device', device_id, '--yes')
    machine.fillDisk(true)
    broker.become('honest')
    await until(async () => machine.log.includes('"event":"standing_unkept"'), 'that it cannot keep what that means')
    t.is((await machine.status()).trust_level, 'revoked')
    t.is(await outcomeOf(owed), null)
    machine.fillDisk(false)
    await until(async () => (await outcomeOf(owed))?.code === 'device_revoked', 'the end of what it can send no more')
    t.is((await machine.askDaemon('status', {})).pid, pid, 'the same daemon')
  },
)
