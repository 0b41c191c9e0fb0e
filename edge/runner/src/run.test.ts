import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import type { Answer, Connection } from './connection.ts'
import { createRun } from './run.ts'

const permit = {
  ...{ runId: 'run', versionId: null, lensHash: null, workflowId: null, workflowHash: null, runnerId: null },
  ...{ contenderId: null, reason: 'approval_default_allow', deniedTools: [], validMs: 60_000, clockOffsetMs: null },
}

/** A run whose daemon answers in time, but for the first of each method, which is read only when it holds no longer. */
const create = () => {
  const asked: string[] = []
  const request = async (method: string): Promise<Answer> => {
    const isFirst = !asked.includes(method)
    asked.push(method)
    if (isFirst) await sleep(60)
    return { verdict: 'allow', reason: 'approval_default_allow', valid_ms: isFirst ? 50 : 60_000, seq: asked.length }
  }
  const connection = { request, close: () => {} } as unknown as Connection
  return { asked, run: createRun(connection, { permit, asked: { command_hash: '', inputs: [] } }, {}) }
}

test('PE-2: an answer that was read when its verdict holds no longer, as after a sleep, begins nothing and lets no tool be used', async (t) => {
  const { run, asked } = create()
  await run.start()
  t.deepEqual(asked, ['run.start', 'run.heartbeat', 'run.start'], 'it is asked anew')
  await t.throwsAsync(run.tool('fs/read'), { code: 'permit_expired' })
  t.is((await run.tool('fs/read')).seq, 5)
  run.close()
})
