import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { scanLogs } from '@lenserfight/local'
import { logOutput } from '@lenserfight/testkit'
import test from 'ava'

const lfFile = fileURLToPath(new URL('../../edge/cli/bin/lf', import.meta.url))

test('the scan after a run looks through what lf said, and finds a secret that was planted there', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-output-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const env = { PATH: process.env.PATH, LENSERFIGHT_HOME: join(folder, 'home') }
  // An id that is none is repeated to who gave it, so a token given there is a token said.
  const token = `${Buffer.from('{"alg":"EdDSA"}').toString('base64url')}.${Buffer.from('{"sub":"somebody"}').toString('base64url')}.c2ln`
  const say = (words: string[]): string => spawnSync(lfFile, words, { env, encoding: 'utf8', timeout: 60_000 }).stderr
  const logs = join(folder, 'logs')
  logOutput('lf-clean', say(['run', '--contender', 'nightly', '--', 'true']), logs)
  t.deepEqual(readdirSync(logs), ['lf-clean.log'])
  t.deepEqual(scanLogs(logs), [])
  logOutput('lf-planted', say(['run', '--contender', token, '--', 'true']), logs)
  t.deepEqual(
    scanLogs(logs).map(({ file, what }) => [file, what]),
    [['lf-planted.log', 'a token']],
  )
})
