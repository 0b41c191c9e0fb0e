#!/usr/bin/env node
// Plain JavaScript that any Node from 20 on runs: makes a fresh clone runnable, then hands over to the TypeScript under Node 24.
// What it says goes to stderr, so that a command's --json on stdout stays clean.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const modules = join(root, 'node_modules')

/** @type {Record<string, { script: string, servers: boolean, what: string }>} */
const commands = {
  start: {
    script: 'deploy/local/src/start.ts',
    servers: true,
    what: 'start the whole gateway here and keep it up until Ctrl-C',
  },
  demo: {
    script: 'deploy/local/src/demo.ts',
    servers: true,
    what: 'start it, walk through everything it does, and stop it',
  },
  test: {
    script: 'deploy/local/src/test.ts',
    servers: true,
    what: 'run the tests (npm test -- PATH… runs some of them)',
  },
  bench: { script: 'tests/bench/main.ts', servers: true, what: 'measure the speed (--json for programs)' },
  verify: { script: 'deploy/local/src/verify.ts', servers: true, what: 'types, lint, tests and demo: what must hold' },
  requirements: {
    script: 'tests/requirements/main.ts',
    servers: false,
    what: 'print which requirement is proved by which test',
  },
  generate: {
    script: 'deploy/local/src/generate.ts',
    servers: false,
    what: 'write the files that are made from the contract',
  },
}

/** @param {string} line */
const say = (line) => process.stderr.write(`${line}\n`)

/** Ends with a message that says what to do. @param {string} message @returns {never} */
function fail(message) {
  say(message)
  process.exit(1)
}

function help() {
  const list = Object.entries(commands).map(([name, { what }]) => `  npm run ${name.padEnd(14)}${what}\n`)
  return `The LenserFight Trust Gateway. Arguments follow after “--”.\n\n${list.join('')}`
}

/** Whether what is installed is what the lock file names: by the stamp of an earlier run, or by npm's own record. */
function isInstalled() {
  const lock = readFileSync(join(root, 'package-lock.json'))
  const stamp = join(modules, '.lenserfight-lock')
  const hash = createHash('sha256').update(lock).digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return true
  if (!installedAgrees(JSON.parse(lock.toString('utf8')).packages)) return false
  try {
    writeFileSync(stamp, hash)
  } catch {
    // Another user's installation: it serves, it only has to be compared again next time.
  }
  return true
}

/** @param {Record<string, { version?: string, optional?: boolean, link?: boolean }>} wanted */
function installedAgrees(wanted) {
  const record = join(modules, '.package-lock.json')
  if (!existsSync(record)) return false
  const have = JSON.parse(readFileSync(record, 'utf8')).packages
  return Object.entries(wanted).every(
    ([path, { version, optional, link }]) =>
      !path.startsWith('node_modules/') || link || (optional && !(path in have)) || have[path]?.version === version,
  )
}

/** Links packages of this repository that came since the installation: as npm would, and nothing has to be fetched for them. */
function linkPackages() {
  /** @type {Record<string, { resolved?: string, link?: boolean }>} */
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  for (const [path, { resolved, link }] of Object.entries(wanted)) {
    const place = join(root, path)
    if (!link || resolved === undefined || existsSync(place)) continue
    try {
      symlinkSync(relative(dirname(place), join(root, resolved)), place, 'junction')
    } catch {
      fail(`${path} is missing and could not be linked to ${resolved}. Run npm ci and try again.`)
    }
  }
}

function install() {
  if (isInstalled()) return linkPackages()
  /** @type {Record<string, { link?: boolean, os?: string[], cpu?: string[], libc?: string[] }>} */
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  // Those of other systems stay where they are. Of two C libraries one is here, and which is not asked for the sake of a rough count.
  const count = Object.entries(locked).filter(
    ([path, { link, os, cpu, libc }]) =>
      path.includes('node_modules/') &&
      !link &&
      (os?.includes(process.platform) ?? true) &&
      (cpu?.includes(process.arch) ?? true) &&
      (libc?.includes('glibc') ?? true),
  ).length
  say(`Fetching what this needs with npm ci: about ${count} packages (Node 24, PostgreSQL 18 and libraries),`)
  say('about 250 MB to download and 550 MB on disk, into node_modules. This happens once.')
  // npm tells its children where it is; without npm around us, the one on the PATH serves.
  const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : ['npm']
  const [command = 'npm', ...rest] = npm
  // Packages that only Node 24 runs are met by the Node that asks npm; it would be warned of each of them.
  const quietly = ['--no-audit', '--no-fund', '--loglevel=error']
  const done = spawnSync(command, [...rest, 'ci', ...quietly], { cwd: root, stdio: ['ignore', 2, 2] })
  if (done.error) fail(`npm could not be started (${done.error.message}). Install Node.js with npm and try again.`)
  if (done.status !== 0) fail('npm ci failed; its messages are above. Check the network and try again.')
  if (!isInstalled())
    fail('npm ci ended, and node_modules is still not what package-lock.json names. Remove node_modules and try again.')
}

/** The Node that runs TypeScript as it stands: the one that was installed with the dependencies. */
function modernNode() {
  const installed = join(modules, '.bin', 'node')
  if (existsSync(installed)) return installed
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  return fail('Node 24 is needed and the package that brings it has no build for this platform. Install Node 24.')
}

/** @param {string} node @returns {string} path of a nats-server that is new enough */
function natsServer(node) {
  const found = spawnSync(node, [join(root, 'deploy/local/src/find-nats-server.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (found.status !== 0) process.exit(found.status ?? 1)
  return found.stdout.toString('utf8').trim()
}

/**
 * Where Node keeps what it compiled, so that the next start need not compile it again. What lies there is run: only a folder that is
 * this user's alone will do, and without one each process compiles for itself.
 */
function compiledFolder() {
  const folder = join(root, '.local', 'compiled')
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const isOurs = [dirname(folder), folder].every((path) => {
      const stat = lstatSync(path)
      return stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o077) === 0
    })
    return isOurs ? { NODE_COMPILE_CACHE: folder } : {}
  } catch {
    // The repository may belong to somebody else.
    return {}
  }
}

/** Becomes the command, as far as a parent can: its streams, signals and exit status. @param {string} node @param {string[]} args @param {NodeJS.ProcessEnv} env */
function become(node, args, env) {
  // The channel carries nothing. It closes when this process ends, even by SIGKILL, and the command then stops too.
  const child = spawn(node, args, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'], env })
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(name, () => child.kill(name))
  child.on('error', (error) => fail(`${node} could not be started: ${error.message}`))
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
}

const [name = 'help', ...args] = process.argv.slice(2)
const command = Object.hasOwn(commands, name) ? commands[name] : undefined
if (command === undefined) {
  const isAsked = ['help', '--help', '-h'].includes(name)
  if (!isAsked) say(`There is no command “${name}”.\n`)
  process[isAsked ? 'stdout' : 'stderr'].write(help())
  process.exit(isAsked ? 0 : 2)
}
if (process.platform === 'win32') fail('Windows is served through WSL 2: run this inside a Linux distribution there.')

install()
const node = modernNode()
const env = { ...compiledFolder(), ...process.env, PATH: `${join(modules, '.bin')}:${process.env.PATH ?? ''}` }
if (command.servers) Object.assign(env, { NATS_SERVER: natsServer(node) })
become(node, [join(root, command.script), ...args], env)
