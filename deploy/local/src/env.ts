import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What the local stack takes from its surroundings. The only place in this package that reads the environment. */
export interface LocalEnvironment {
  /** Root of the repository, absolute. */
  repository: string
  /** Numeric user that runs this; undefined where the platform has none. */
  uid: number | undefined
  /** Server binary that the operator chose (`NATS_SERVER`). */
  natsServer: string | undefined
  /** Folders to search for programs. */
  path: string[]
  /** Folders that may hold downloads, the preferred one first. */
  cacheFolders: string[]
  /** Where short-lived run folders go; short enough for a Unix socket below it. */
  tmp: string
  /** What every child gets: enough to find programs and a home, nothing of the operator's secrets. */
  childEnv: Record<string, string>
  /** Everything, for programs that the operator could have started by hand (test runner, linter). */
  inherited: NodeJS.ProcessEnv
}

/** Leaves 60 of the 103 bytes of a socket address to the folders of a run and the socket's name. */
const longestTmp = 43

/** Reads the surroundings once; hand the result on. */
export function readEnvironment(env: NodeJS.ProcessEnv = process.env): LocalEnvironment {
  const repository = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))))
  const uid = process.getuid?.()
  // macOS gives each user a temporary folder whose path alone fills half a socket address.
  const tmp = tmpdir().length > longestTmp ? '/tmp' : tmpdir()
  return {
    repository,
    uid,
    natsServer: env.NATS_SERVER || undefined,
    path: (env.PATH ?? '').split(':').filter((folder) => folder.startsWith('/')),
    cacheFolders: [
      join(env.XDG_CACHE_HOME || join(home(env), '.cache'), 'lenserfight'),
      join(repository, '.local', 'cache'),
      join(tmp, `ltg-${uid ?? 'user'}-cache`),
    ],
    tmp,
    childEnv: pick(env, ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'NODE_COMPILE_CACHE']),
    inherited: env,
  }
}

function home(env: NodeJS.ProcessEnv): string {
  return env.HOME || homedir()
}

function pick(env: NodeJS.ProcessEnv, names: string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])))
}
