import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { openStore } from '../store.ts'
import { newestRun } from './newest-run.ts'
import { createOperations } from './operations.ts'

const kid = '00000000-0000-4000-8000-00000000000a'

test('the newest run is the one that was answered last, denied or not, and none that was refused or still waits', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-newest-run-'))
  const store = openStore(join(folder, 'state.db'))
  t.teardown(() => {
    store.close()
    rmSync(folder, { recursive: true })
  })
  const operations = createOperations(store)
  const keep = (kind: 'run_start' | 'attestation', now: number, outcome?: object): void => {
    const opId = newUuidV7()
    operations.insert({ opId, kid, kind, body: '{}' }, now)
    if (outcome !== undefined) {
      operations.finish({
        opId,
        state: 'ok' in outcome && outcome.ok ? 'done' : 'failed',
        outcome: outcome as never,
        now,
      })
    }
  }
  t.is(newestRun(store), undefined)
  const [first, second, other] = [newUuidV7(), newUuidV7(), newUuidV7()]
  keep('run_start', 2, { ok: true, result: { run_id: second, verdict: 'deny' } })
  keep('run_start', 1, { ok: true, result: { run_id: first, verdict: 'allow' } })
  t.is(newestRun(store), second)
  keep('attestation', 3, { ok: true, result: { run_id: other } })
  keep('run_start', 4, { ok: false, code: 'unknown_runner' })
  t.is(newestRun(store), second)
  keep('run_start', 5, { ok: true, result: { run_id: 'nothing that could be asked for'.slice(0, 7) } })
  t.is(newestRun(store), undefined, 'what is no id is not asked for')
  keep('run_start', 6, { ok: true, result: { run_id: first } })
  keep('run_start', 7)
  t.is(newestRun(store), first)
})
