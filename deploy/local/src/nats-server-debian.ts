import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { LocalError } from './errors.ts'

/** A Debian suite whose package is new enough. */
export type DebianSuite = 'trixie' | 'sid'

/** The archive's keys, on every Debian. Without them apt would have to be told not to check, which we never do. */
const archiveKeys = '/usr/share/keyrings/debian-archive-keyring.gpg'
const aptTimeoutMs = 120_000
const run = promisify(execFile)

/**
 * Fetches the nats-server package of a newer Debian suite from the mirror that this host is configured for, without touching
 * the host's own package lists or installing anything: needs no root. apt checks the archive's signature.
 * @returns path of the binary, below `folder`
 * @throws {LocalError} `nats_server_missing` with the reason
 */
export async function fetchDebianPackage(options: { suite: DebianSuite; folder: string }): Promise<string> {
  const { suite, folder } = options
  const reasons: string[] = []
  for (const mirror of await configuredMirrors()) {
    try {
      return await fetchFrom({ ...mirror, suite, folder: join(folder, `apt-${reasons.length}`) })
    } catch (error) {
      reasons.push(firstLine(error))
    }
  }
  throw new LocalError(
    'nats_server_missing',
    `no Debian package from ${suite}: ${reasons.join('; ') || 'no Debian mirror is configured'}`,
  )
}

interface Mirror {
  uri: string
  keys: string
}

/** The Debian mirrors that apt is configured for, as apt itself states them; those of the distribution proper come first. */
async function configuredMirrors(): Promise<Mirror[]> {
  const format = '$(REPO_URI)\t$(SIGNED_BY)'
  const listed = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']).catch(
    () => undefined,
  )
  const mirrors = new Map<string, Mirror>()
  for (const line of listed?.stdout.split('\n') ?? []) {
    const [uri = '', signedBy = ''] = line.split('\t')
    const keys = signedBy.startsWith('/') ? signedBy : archiveKeys
    if (uri !== '' && existsSync(keys)) mirrors.set(uri, { uri, keys })
  }
  const isSide = (mirror: Mirror) => (/security|backports/.test(mirror.uri) ? 1 : 0)
  return [...mirrors.values()].sort((a, b) => isSide(a) - isSide(b))
}

async function fetchFrom(source: Mirror & { suite: DebianSuite; folder: string }): Promise<string> {
  const { uri, keys, suite, folder } = source
  for (const part of ['sources', 'lists/partial', 'cache/archives/partial', 'unpacked']) {
    mkdirSync(join(folder, part), { recursive: true })
  }
  writeFileSync(
    join(folder, 'sources', 'suite.sources'),
    `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keys}\n`,
  )
  const settings = {
    'Dir::Etc::SourceList': '/dev/null',
    'Dir::Etc::SourceParts': join(folder, 'sources'),
    'Dir::State::Lists': join(folder, 'lists'),
    'Dir::Cache': join(folder, 'cache'),
    'Acquire::Languages': 'none',
    'Acquire::Retries': '1',
    'Acquire::http::Timeout': '15',
    'Acquire::https::Timeout': '15',
    // Root's apt would hand over to a user who cannot write to this private folder.
    'APT::Sandbox::User': 'root',
    // An update with no index at all is a failure here, not a warning.
    'APT::Update::Error-Mode': 'any',
  }
  const apt = (...args: string[]) =>
    run(
      'apt-get',
      [...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]), '-q', ...args],
      {
        cwd: folder,
        timeout: aptTimeoutMs,
      },
    )
  await apt('update')
  await apt('download', 'nats-server')
  const file = readdirSync(folder).find((name) => name.endsWith('.deb'))
  if (file === undefined) throw new Error('apt-get download left no package')
  await run('dpkg', ['-x', join(folder, file), join(folder, 'unpacked')])
  return join(folder, 'unpacked', 'usr', 'sbin', 'nats-server')
}

/** What apt says is long; its first error line is what matters. */
function firstLine(error: unknown): string {
  const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr) : ''
  const lines = (stderr || String(error)).split('\n')
  return (lines.find((line) => line.startsWith('E:')) ?? lines[0] ?? '').trim()
}
