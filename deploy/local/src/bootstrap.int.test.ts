import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readEnvironment } from './env.ts'

const { repository } = readEnvironment()
const bootstrap = join(repository, 'deploy', 'local', 'bootstrap.mjs')

/** From another folder, as a program that has nothing to do with this repository would call it. */
function call(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [bootstrap, ...args], { cwd: '/', encoding: 'utf8' })
}

test('a command that does not exist is answered with the list of those that do, on stderr, status 2', (t) => {
  const { status, stdout, stderr } = call('bogus')
  t.is(status, 2)
  t.is(stdout, '')
  t.regex(stderr, /no command “bogus”[\s\S]*npm run demo/)
})

test('help is an answer: stdout, status 0', (t) => {
  const { status, stdout } = call('--help')
  t.is(status, 0)
  t.regex(stdout, /npm run verify/)
})

test('what the bootstrap says never mixes with what a command prints', (t) => {
  const { status, stdout } = call('requirements', '--json')
  t.is(status, 0)
  t.notThrows(() => JSON.parse(stdout))
})

test('every script of package.json that goes through the bootstrap is a command of it', (t) => {
  const { scripts } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { scripts: object }
  const called = Object.values(scripts).flatMap((script) => /bootstrap\.mjs (\w+)/.exec(script)?.[1] ?? [])
  const { stdout } = call('help')
  t.deepEqual(
    called.filter((name) => !stdout.includes(`npm run ${name} `)),
    [],
  )
  t.true(existsSync(bootstrap) && called.length > 0)
})
