import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { createCounter } from './counter.ts'
import { openStore } from './store.ts'

const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-counter-')), 'state.db')
const place = (name: string): string => new URL(name, import.meta.url).href

/** Draws counters until it is killed, and says each once it has it. */
const program = (file: string): string => `
  import { writeSync } from 'node:fs'
  const { createCounter } = await import('${place('./counter.ts')}')
  const { openStore } = await import('${place('./store.ts')}')
  const counter = createCounter(openStore(${JSON.stringify(file)}))
  for (;;) writeSync(1, counter.next() + '\\n')`

/** What a process drew in its life, ended with SIGKILL after it has said so many. */
const drawUntilKilled = async (file: string, enough: number): Promise<number[]> => {
  const child = spawn(process.execPath, ['--input-type=module', '--no-warnings', '-e', program(file)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more
    if (text.length > enough * 4) child.kill('SIGKILL')
  })
  await once(child, 'close')
  // The last line may be cut off.
  return text.split('\n').slice(0, -1).map(Number)
}
const isRising = (numbers: readonly number[]): boolean =>
  numbers.every((number, n) => n === 0 || number > (numbers[n - 1] as number))

test('whenever the daemon is killed, and however many have its state open, no counter comes twice', async (t) => {
  t.timeout(120_000)
  const file = newFile()
  openStore(file).close()
  let all: number[] = []
  for (let round = 0; round < 8; round += 1) {
    const before = Math.max(0, ...all)
    const drawn = await Promise.all(
      Array.from({ length: 1 + (round % 3) }, () => drawUntilKilled(file, Math.floor(Math.random() * 800))),
    )
    for (const numbers of drawn) {
      t.true(numbers.length > 0 && isRising(numbers))
      t.true((numbers[0] as number) > before, 'a process that is started goes on above all that were before')
    }
    all = [...all, ...drawn.flat()]
  }
  t.is(new Set(all).size, all.length)
  t.true(all.every((number) => Number.isSafeInteger(number) && number >= 1))
})

test('counters rise over time, whoever draws: a block that another has passed is given up', (t) => {
  const drawing = fc.property(fc.array(fc.nat(2), { minLength: 1, maxLength: 900 }), (turns) => {
    const file = newFile()
    const stores = [0, 1, 2].map(() => openStore(file))
    const counters = stores.map(createCounter)
    const drawn = turns.map((who) => counters[who]?.next() as number)
    for (const store of stores) store.close()
    return isRising(drawn)
  })
  // Its message has the seed.
  t.notThrows(() => fc.assert(drawing, { numRuns: 15 }))
})

test('state_unwritable: without the state no counter is given, not even one of a block that is reserved', (t) => {
  const store = openStore(newFile())
  const counter = createCounter(store)
  const first = counter.next()
  store.run('DELETE FROM counter')
  const error = t.throws(() => counter.next())
  t.like(error, { code: 'state_unwritable' })
  t.is(first, 1)
})
