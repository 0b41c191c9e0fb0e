import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type LocalEnvironment, readEnvironment } from './env.ts'
import { temporaryRunFolder } from './folders.ts'
import { startOf } from './process-identity.mjs'
import { openRun, type Run } from './run.ts'

/** A run in a folder of its own; whoever asks for it closes it. */
export async function newRun(): Promise<{ env: LocalEnvironment; run: Run }> {
  const env = readEnvironment()
  const folder = temporaryRunFolder(env)
  return { env, run: await openRun({ dir: folder, folder }) }
}

/** A run of the test's own, closed when the test ends. */
export async function ownRun(t: ExecutionContext): Promise<{ env: LocalEnvironment; run: Run }> {
  const { env, run } = await newRun()
  t.teardown(() => run.close())
  return { env, run }
}

/** A private folder of the test's own, removed when it ends. */
export function ownTemporary(t: ExecutionContext): string {
  const folder = mkdtempSync(join(readEnvironment().tmp, 'ltg-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** What `_stack-program.ts` prints. */
export interface StartedStack {
  child: ChildProcess
  pids: number[]
  folder: string
  socket: string
}

/** Starts `_stack-program.ts` and waits for its line. */
export async function startStackProgram(dir: string, as: SpawnOptions = {}): Promise<StartedStack> {
  const script = fileURLToPath(new URL('_stack-program.ts', import.meta.url))
  const child = spawn(process.execPath, [script, dir], { ...as, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text
  })
  const line = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the program ended with ${code}: ${err}`)))
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text
      if (out.includes('\n')) resolve(out)
    })
  })
  return { child, ...(JSON.parse(line) as Omit<StartedStack, 'child'>) }
}

/** Waits until something holds; false when it did not in time. */
export async function eventually(holds: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; ) {
    if (await holds()) return true
    await new Promise((done) => setTimeout(done, 20))
  }
  return holds()
}

/** Whether none of these processes runs. */
export const allGone = (pids: number[]): boolean => pids.every((pid) => startOf(pid) === undefined)

/** How a child process ended. */
export function exitOf(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  if (child.exitCode !== null || child.signalCode !== null) {
    return Promise.resolve({ code: child.exitCode, signal: child.signalCode })
  }
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })))
}
