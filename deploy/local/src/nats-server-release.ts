import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { LocalError } from './errors.ts'

/** A published release and the SHA-256 of its archives, by platform. */
export interface NatsRelease {
  version: string
  digests: Record<string, string>
}

/** The digests are those of the project's own SHA256SUMS, as its container images pin them too. */
export const releases: { current: NatsRelease; oldest: NatsRelease } = {
  current: {
    version: '2.11.8',
    digests: {
      'linux-amd64': '397a6deffb5533e160de0cca322bc3dcaec7fb7282d66a3dfa87a9c183152ad1',
      'linux-arm64': 'b08936cb1dc0ae7086137bda14c352df64397c4af45ed2b392705c19585aeb84',
      'darwin-amd64': '002c943c1ed39c55cc5e024debfc02685111fcb2b1cbd887aad39ac977037477',
      'darwin-arm64': '23e0c5354c2da385708946a21900c944fcb9a3bbfd02aae27a4ae750dea0b682',
    },
  },
  oldest: {
    version: '2.10.29',
    digests: {
      'linux-amd64': 'e314da74a83a1d3876db8814c27eb990fe729640fd6452025b441bcede8390da',
      'linux-arm64': 'da4b27942ecfb4c5f0c54553d2e7f470ddda9d7581cfe8131b351a0e223ed401',
    },
  },
}

/** Where releases are published. */
export const releaseSite = 'https://github.com/nats-io/nats-server/releases/download'

/** Time for the site to begin to answer, and for the whole download, in milliseconds. */
const answerMs = 8000
const downloadMs = 120_000

/** The platform as releases name it. */
export function releasePlatform(): string {
  return `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`
}

/**
 * Downloads a release into `folder`, checks its pinned digest before anything of it is unpacked, and unpacks it.
 * @returns path of the binary
 * @throws {LocalError} `nats_server_digest_mismatch`; `nats_server_missing` when the platform has no pinned digest or the download failed
 */
export async function fetchRelease(options: { release: NatsRelease; folder: string; site?: string }): Promise<string> {
  const { release, folder, site = releaseSite } = options
  const platform = releasePlatform()
  const expected = release.digests[platform]
  if (expected === undefined) throw new LocalError('nats_server_missing', `no pinned release for ${platform}`)
  const name = `nats-server-v${release.version}-${platform}`
  const archive = await download(`${site}/v${release.version}/${name}.tar.gz`)
  const digest = createHash('sha256').update(archive).digest('hex')
  if (digest !== expected) {
    throw new LocalError(
      'nats_server_digest_mismatch',
      `${name}.tar.gz has digest ${digest}, pinned is ${expected}; not used`,
    )
  }
  const file = join(folder, 'release.tar.gz')
  writeFileSync(file, archive)
  await promisify(execFile)('tar', ['-xzf', file, '-C', folder])
  return join(folder, name, 'nats-server')
}

async function download(url: string): Promise<Uint8Array> {
  const abort = new AbortController()
  const answerTimer = setTimeout(() => abort.abort(new Error(`no answer in ${answerMs} ms`)), answerMs)
  const downloadTimer = setTimeout(() => abort.abort(new Error(`not complete in ${downloadMs} ms`)), downloadMs)
  try {
    const response = await fetch(url, { signal: abort.signal })
    clearTimeout(answerTimer)
    if (!response.ok) throw new Error(`HTTP status ${response.status}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (cause) {
    throw new LocalError('nats_server_missing', `the release could not be downloaded: ${reason(cause)}`, { cause })
  } finally {
    clearTimeout(answerTimer)
    clearTimeout(downloadTimer)
  }
}

/** `fetch failed` says nothing; what it was caused by does. */
function reason(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return inner instanceof Error ? inner.message || inner.name : String(inner)
}
