import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { scanLogs } from './scan-logs.ts'
import { countTests } from './test-summary.ts'

test('the counts of a run that held are those that ava states', (t) => {
  t.deepEqual(countTests('  ✔ a › b\n  ✔ a › c (1.2s)\n  ─\n\n  2 tests passed\n', 0), { passed: 2, failed: 0 })
})

test('colours do not hide the counts', (t) => {
  t.deepEqual(countTests('\u001b[32m  1 test passed\u001b[39m\n', 0), { passed: 1, failed: 0 })
})

test('when something failed, the passed ones are counted by their ticks', (t) => {
  const output = '  ✔ a › b\n  ✘ [fail]: a › c It is not so\n  ✔ a › d\n  ─\n\n  1 test failed\n  1 hook failed\n'
  t.deepEqual(countTests(output, 1), { passed: 2, failed: 2 })
})

test('a run that fails without a failed test has one failure all the same', (t) => {
  t.deepEqual(countTests('  ✘ Couldn’t find any files to test\n', 1), { passed: 0, failed: 1 })
})

test('the scan of the logs finds secrets and bodies by kind, says where, and does not repeat them', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ltg-scan-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  mkdirSync(join(folder, 'stack'))
  const signature = 'Ab_-'.repeat(21).concat('xy')
  const lines = [
    '{"event":"applied","digest":"0123456789","sig":"12345678"}',
    `{"event":"refused","data":"${signature}"}`,
    'run LTG-CANARY',
    'SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4',
    'hunter2hunter2',
    '{"nonce":"AAAAAAAAAAAAAAAAAAAAAA"}',
    `as ${'lfk_'}${'Ab_-'.repeat(17)}xy`,
  ]
  writeFileSync(join(folder, 'stack', 'worker.log'), `${lines.join('\n')}\n`)
  writeFileSync(join(folder, 'stack', 'secrets.list'), 'hunter2hunter2\n')
  // A log that was turned over is a log still.
  const turned = join('stack', 'nats.log.2026.11.21.10.48.33.834016963')
  writeFileSync(join(folder, turned), 'Publish Violation\nLTG-CANARY\n')
  const all = scanLogs(folder)
  t.deepEqual(
    all.filter(({ file }) => file === turned).map(({ line, what }) => [line, what]),
    [[2, 'part of a body']],
  )
  const found = all.filter(({ file }) => file !== turned)
  t.deepEqual(
    found.map(({ line, what }) => [line, what]),
    [
      [2, 'a signature'],
      [3, 'part of a body'],
      [4, 'a private NKey'],
      [5, 'a secret of this run'],
      [6, 'a field that holds a secret'],
      [7, 'an API key'],
    ],
  )
  t.true(found.every(({ file }) => file === join('stack', 'worker.log')))
  t.notRegex(JSON.stringify(all), /hunter2|CANARY/)
})
