import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { openStore } from '../store.ts'
import { createSyncTables } from './tables.ts'

const program = join(import.meta.dirname, '_killed.ts')

test('a machine that is killed at any moment, over and over, has every edit merged once and in order', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-killed-'))
  const [state, gateway] = [join(folder, 'state.db'), join(folder, 'gateway.db')]
  const start = (mode: string) =>
    spawn(process.execPath, [program, state, gateway, mode], { stdio: ['ignore', 'pipe', 'inherit'] })
  const told: number[] = []
  const rounds = 4
  for (let round = 0; round < rounds; round += 1) {
    const machine = start('edit')
    const closed = once(machine, 'close')
    let text = ''
    const enough = 1 + Math.floor(Math.random() * 40)
    machine.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.split('\n').length > enough) machine.kill('SIGKILL')
    })
    await closed
    // The last line may be half a line.
    told.push(...text.split('\n').slice(0, -1).map(Number))
  }
  const [code] = (await once(start('drain'), 'close')) as [number]
  t.is(code, 0)
  const edits = openStore(gateway).all<{ value: string }>('SELECT value FROM merged ORDER BY place')
  t.true(edits.length >= told.length && edits.length <= told.length + rounds, `${edits.length} of ${told.length} told`)
  t.deepEqual(
    edits.map(({ value }) => Number(value)),
    edits.map((_, index) => index + 1),
    'each once, none missing, as they were made',
  )
  const tables = createSyncTables(openStore(state))
  t.is(tables.pending().count, 0)
  t.deepEqual(tables.setAside(), [])
  t.deepEqual(tables.underWay(), [])
})
