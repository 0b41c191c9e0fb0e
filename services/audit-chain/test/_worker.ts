import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface PgTarget {
  host: string
  port: number
  database: string
  user: string
  password: string
}

/** One audit-chain process, with its own configuration, as a supervisor starts it. */
export class Worker {
  readonly #dir = mkdtempSync(join(tmpdir(), 'audit-chain-'))
  readonly #process: ChildProcess
  readonly #exit: Promise<unknown[]>
  log = ''

  constructor({ password, ...pg }: PgTarget) {
    const password_file = join(this.#dir, 'password')
    writeFileSync(password_file, password, { mode: 0o600 })
    const config = join(this.#dir, 'config.json')
    writeFileSync(
      config,
      JSON.stringify({
        service: 'audit-chain',
        gateway_id: '11111111-1111-4111-8111-111111111111',
        log_level: 'info',
        health: { port: 0, file: join(this.#dir, 'health.json') },
        pg: { ...pg, password_file, max: 2 },
        linking: { batch: 50, poll_ms: 20 },
      }),
      { mode: 0o600 },
    )
    const main = join(import.meta.dirname, '../src/main.ts')
    this.#process = spawn(process.execPath, [main, '--config', config], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#process.stdout?.on('data', (chunk: Buffer) => {
      this.log += chunk
    })
    // With its output: all that it logged is read by then.
    this.#exit = once(this.#process, 'close')
  }

  /** What /readyz says; undefined while nobody answers. */
  async ready(): Promise<{ status: number; state: string; linked: number } | undefined> {
    try {
      const { port } = JSON.parse(readFileSync(join(this.#dir, 'health.json'), 'utf8')) as { port: number }
      const response = await fetch(`http://127.0.0.1:${port}/readyz`)
      return { status: response.status, ...((await response.json()) as { state: string; linked: number }) }
    } catch {
      return undefined
    }
  }

  async until(state: string): Promise<void> {
    await until(async () => (await this.ready())?.state === state)
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.#process.kill(signal)
    const [code] = await this.#exit
    rmSync(this.#dir, { recursive: true, force: true })
    return code as number | null
  }
}

export const until = async (holds: () => Promise<boolean>, deadlineMs = 60_000): Promise<void> => {
  for (const end = Date.now() + deadlineMs; !(await holds()); await sleep(20)) {
    if (Date.now() > end) throw new Error('it did not come true in time')
  }
}
