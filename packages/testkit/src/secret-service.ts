import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { readTestEnvironment } from './env.ts'

const run = promisify(execFile)

/** A real Secret Service (gnome-keyring) in a D-Bus session and a home of its own. */
export interface SecretService {
  /** What a program is started with to find it, and nothing of the session in which the tests run. */
  readonly env: NodeJS.ProcessEnv
  readonly home: string
  /** Locks its collection, as a screen lock may. */
  readonly lock: () => Promise<void>
  /** Ends the service; the D-Bus session stays. */
  readonly end: () => Promise<void>
  /** Starts it again, unlocked, with what it keeps on disk. */
  readonly start: () => Promise<void>
  /** Ends everything and removes its home. */
  readonly stop: () => Promise<void>
}

const programs = ['dbus-daemon', 'dbus-send', 'gnome-keyring-daemon', 'setpriv']
const debianPackages = ['dbus', 'gnome-keyring', 'libsecret-1-0']
const installMs = 180_000
const startMs = 30_000

const onPath = (program: string): boolean =>
  readTestEnvironment()
    .path.split(delimiter)
    .some((folder) => {
      try {
        accessSync(join(folder, program), constants.X_OK)
        return true
      } catch {
        return false
      }
    })

const missing = (): string[] => programs.filter((program) => !onPath(program))

/**
 * Makes sure that a Secret Service can be started here: installs Debian's packages where we are root and apt is there.
 * @returns why it cannot; undefined where it can
 */
export const whyNoSecretService = async (): Promise<string | undefined> => {
  if (process.platform !== 'linux') return 'the Secret Service is Linux’s'
  if (missing().length === 0) return undefined
  if (process.getuid?.() !== 0 || !onPath('apt-get')) return `not installed: ${missing().join(', ')}`
  const words = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120']
  const options = { timeout: installMs, env: { PATH: readTestEnvironment().path, DEBIAN_FRONTEND: 'noninteractive' } }
  try {
    await run('apt-get', ['install', ...words, ...debianPackages], options)
  } catch (error) {
    return `apt-get could not install ${missing().join(', ')}: ${(error as Error).message.split('\n')[0]}`
  }
  return missing().length === 0 ? undefined : `still missing: ${missing().join(', ')}`
}

/** No service folder: nothing is started on demand, so that what is ended stays ended. */
const sessionConfig = (socket: string): string => `<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
`

const endOf = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => {
        child.once('close', () => resolve())
        child.kill('SIGKILL')
      })

/** A program that ends with the test's process, however that ends. */
const startBound = (words: readonly string[], env: NodeJS.ProcessEnv): ChildProcess =>
  spawn('setpriv', ['--pdeathsig', 'KILL', ...words], { env, stdio: ['pipe', 'ignore', 'ignore'] })

const send = (env: NodeJS.ProcessEnv, ...words: string[]): Promise<{ stdout: string }> =>
  run('dbus-send', ['--session', '--print-reply', ...words], { env, timeout: startMs })

const ask = async (env: NodeJS.ProcessEnv, method: string, ...words: string[]): Promise<string> => {
  const to = ['--dest=org.freedesktop.DBus', '/', `org.freedesktop.DBus.${method}`]
  return (await send(env, ...to, ...words).catch(() => ({ stdout: '' }))).stdout
}
const isUp = async (env: NodeJS.ProcessEnv): Promise<boolean> => (await ask(env, 'GetId')).includes('string')
const ownsName = async (env: NodeJS.ProcessEnv): Promise<boolean> =>
  (await ask(env, 'NameHasOwner', 'string:org.freedesktop.secrets')).includes('boolean true')

const until = async (holds: () => Promise<boolean>, what: string): Promise<void> => {
  for (const limit = Date.now() + startMs; !(await holds()); ) {
    if (Date.now() > limit) throw new Error(`${what} did not start`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Starts one; `whyNoSecretService` has said before that it can be. */
export const startSecretService = async (): Promise<SecretService> => {
  const home = mkdtempSync(join(tmpdir(), 'ltg-secrets-'))
  const [runtime, data, socket] = [join(home, 'run'), join(home, 'data'), join(home, 'bus')]
  for (const folder of [runtime, data]) mkdirSync(folder, { mode: 0o700 })
  const config = join(home, 'session.conf')
  writeFileSync(config, sessionConfig(socket))
  const env = {
    PATH: readTestEnvironment().path,
    HOME: home,
    XDG_RUNTIME_DIR: runtime,
    XDG_DATA_HOME: data,
    DBUS_SESSION_BUS_ADDRESS: `unix:path=${socket}`,
  }
  const bus = startBound(['dbus-daemon', `--config-file=${config}`, '--nofork', '--nopidfile'], env)
  let service: ChildProcess | undefined
  const end = async (): Promise<void> => {
    if (service !== undefined) await endOf(service)
    service = undefined
  }
  const start = async (): Promise<void> => {
    // A service that finds no session stays without one.
    await until(() => isUp(env), 'the D-Bus session')
    service = startBound(['gnome-keyring-daemon', '--foreground', '--unlock', '--components=secrets'], env)
    service.stdin?.on('error', () => {})
    service.stdin?.end('a password')
    await until(() => ownsName(env), 'the Secret Service')
  }
  const collection = '/org/freedesktop/secrets/collection/login'
  const target = ['--dest=org.freedesktop.secrets', '/org/freedesktop/secrets']
  const stop = async (): Promise<void> => {
    await end()
    await endOf(bus)
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  return {
    env,
    home,
    lock: async () => {
      await send(env, ...target, 'org.freedesktop.Secret.Service.Lock', `array:objpath:${collection}`)
    },
    end,
    start,
    stop,
  }
}
