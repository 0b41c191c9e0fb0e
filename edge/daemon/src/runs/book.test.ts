import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { openStore } from '../store.ts'
import { createRunBook, type Permitted, readPermitted } from './book.ts'

const run = '00000000-0000-4000-8000-000000000001'
const permit: Permitted = {
  ...{ run_id: run, version_id: 'v', lens_hash: 'l', workflow_id: 'w', workflow_hash: 'h' },
  ...{ runner_id: 'r', contender_id: null, runner_bound: true },
}
const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-book-')), 'state.db')
const same = <T>(value: T): T => value

test('entries are counted one by one, whatever process counts, and one that could not be kept is none', (t) => {
  const file = newFile()
  const store = openStore(file)
  createRunBook(store).add(permit, 0)
  const kept: number[] = []
  const keep = (seq: number) => void kept.push(seq)
  t.is(createRunBook(store).addTool(run, keep), 1)
  t.throws(() =>
    createRunBook(store).addTool(run, () => {
      throw new Error('no room')
    }),
  )
  store.close()
  const again = openStore(file)
  t.is(createRunBook(again).addTool(run, keep), 2)
  t.deepEqual(kept, [1, 2])
  t.throws(() => createRunBook(again).addTool('other', keep), { code: 'unknown_run' })
  again.close()
})

test('an attestation says what was permitted and how long the tool log is, and ends the run', (t) => {
  const store = openStore(newFile())
  const book = createRunBook(store)
  book.add(permit, 0)
  book.addTool(run, () => {})
  const attestation = { run_id: run, lens_hash: 'mine', tool_invocations: 9, started_at: 10, ended_at: 20 }
  t.deepEqual(book.end(attestation, same), {
    ...{ run_id: run, version_id: 'v', lens_hash: 'mine', workflow_hash: 'h', runner_id: 'r', contender_id: null },
    ...{ tool_invocations: 1, started_at: 10, ended_at: 20 },
  })
  t.throws(() => book.addTool(run, () => {}), { code: 'run_ended' })
  const unknown = { run_id: 'other', exit_code: 0 }
  t.deepEqual(book.end(unknown, same), unknown, 'of a run that is not known nothing is filled in')
  store.close()
})

test('an attestation that could not be kept does not end the run', (t) => {
  const store = openStore(newFile())
  const book = createRunBook(store)
  book.add(permit, 0)
  const fail = (): never => {
    throw new Error('no room')
  }
  t.throws(() => book.end({ run_id: run }, fail))
  t.false(book.find(run)?.isEnded)
  store.close()
})

test('claimed times are brought to the gateway’s clock once, by what is known of it, and left where it is the same', (t) => {
  const store = openStore(newFile())
  const book = createRunBook(store)
  book.add(permit, -250_000)
  const claim = { run_id: run, started_at: 1_000_000, ended_at: 1_000_500 }
  const timesOf = (offset?: number) => {
    const { started_at, ended_at } = book.end(claim, same, offset)
    return [started_at, ended_at]
  }
  t.deepEqual(timesOf(), [750_000, 750_500], 'as it was when the run was permitted')
  t.deepEqual(timesOf(60_000), [1_060_000, 1_060_500])
  t.deepEqual(timesOf(900), [1_000_000, 1_000_500], 'no more than can be measured')
  store.close()
})

test('a permit of an older gateway names nothing, and that is kept as nothing', (t) => {
  t.deepEqual(readPermitted({ run_id: run, lens_hash: 'l', verdict: 'allow' }), {
    ...{ run_id: run, version_id: null, lens_hash: 'l', workflow_id: null, workflow_hash: null },
    ...{ runner_id: null, contender_id: null, runner_bound: null },
  })
  t.like(readPermitted({ run_id: run, runner_id: 'r', runner_bound: false }), { runner_id: 'r', runner_bound: false })
})
