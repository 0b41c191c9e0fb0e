import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** A server binary and the version that it states itself. */
export interface NatsServer {
  path: string
  version: string
}

/** The oldest server that has what we rest on: auth callout and several filter subjects a consumer. */
export const oldestSupported = '2.10.0'

/** Asks a binary for its version; undefined when it does not run or does not say. */
export async function versionOf(path: string): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 10_000 })
    return /\bv(\d+\.\d+\.\d+)\b/.exec(stdout)?.[1]
  } catch {
    return undefined
  }
}

/** Orders two versions by number: negative when `a` is the older. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  return left.map((part, index) => part - (right[index] ?? 0)).find((difference) => difference !== 0) ?? 0
}

/** Whether a version is one that we run on. */
export function isSupported(version: string): boolean {
  return compareVersions(version, oldestSupported) >= 0
}
