import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { connectDaemon, type DaemonClient } from '@lenserfight/daemon/client'
import type { Stack } from '@lenserfight/local/stack'
import { LyingBroker } from '../e2e/_lying-broker.ts'
import { Machine, until, withSettings } from '../e2e/_machine.ts'
import type { Edit } from './_edits.ts'

/** An object as its machine shows it (`objects.get`). */
export interface Shown {
  readonly class: string
  readonly object: string
  readonly alive: boolean
  readonly paths: Readonly<Record<string, unknown>>
  readonly conflicts: readonly { readonly path: string; readonly sides: readonly { readonly value: unknown }[] }[]
  readonly edited_while_deleted: readonly string[]
  readonly pending: number
  readonly set_aside: { readonly code: string } | null
}

/** What a machine says of its own sync (`sync.status`). */
export interface SyncStatus {
  readonly gateway_status: string
  readonly code: string | null
  readonly epoch: number | null
  readonly pending: number
  readonly in_flight: number
  readonly set_aside: readonly { readonly class: string; readonly object: string; readonly code: string }[]
  readonly conflicts: number
  readonly diverged: readonly string[]
  readonly leader: { readonly held: boolean; readonly waiting: boolean }
}

/** A machine that edits: its daemon reaches the broker through a line that a test can cut. */
export class Edge extends Machine {
  readonly name: string
  line!: LyingBroker
  device = ''
  #client: DaemonClient | undefined

  /** Enrols machines of one person's, all at once. */
  static enrolled(stack: Stack, as: string, names: readonly string[]): Promise<Edge[]> {
    return Promise.all(
      names.map(async (name) => {
        const edge = new Edge(stack, name)
        edge.line = await LyingBroker.start(stack.nats.port)
        edge.device = await edge.enrol(as, name)
        return edge
      }),
    )
  }

  constructor(stack: Stack, name: string) {
    super(stack, name)
    this.name = name
    const file = join(this.state, 'daemon.json')
    const timing = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
    writeFileSync(file, JSON.stringify({ ...timing, sync_flush_ms: 200, sync_pull_ms: 1_000 }), { mode: 0o600 })
  }

  override async serve(): Promise<void> {
    withSettings(this, (settings) => settings.update('descriptor', (kept) => kept && { ...kept, url: this.line.url }))
    await super.serve()
  }

  /** One connection for as long as the daemon lives: an edit is a message, not a process. */
  async #ask<R>(method: string, params: object): Promise<R> {
    if (this.#client?.isOpen() !== true) this.#client = await connectDaemon(join(this.state, 'daemon.sock'))
    return (await this.#client.request(method as never, params as never)) as R
  }

  edit({ act, class: className, object, ...rest }: Edit): Promise<Record<string, unknown>> {
    return this.#ask(`objects.${act}`, { class: className, object, ...rest })
  }

  set(className: string, object: string, paths: Readonly<Record<string, unknown>>): Promise<Record<string, unknown>> {
    return this.edit({ act: 'set', class: className, object, paths })
  }

  get(className: string, object: string): Promise<Shown> {
    return this.#ask('objects.get', { class: className, object })
  }

  /** Names of all its objects, deleted ones included, as `class object`. */
  async names(): Promise<readonly string[]> {
    const names: string[] = []
    for (let after: unknown; ; ) {
      const page = await this.#ask<{ objects: { class: string; object: string }[]; more: boolean }>('objects.list', {
        deleted: true,
        ...(after === undefined ? {} : { after }),
      })
      names.push(...page.objects.map((each) => `${each.class} ${each.object}`))
      const last = page.objects.at(-1)
      if (!page.more || last === undefined) return names.sort()
      after = `${last.class}/${last.object}`
    }
  }

  sync(): Promise<SyncStatus> {
    return this.#ask('sync.status', {})
  }

  push(): Promise<Record<string, unknown>> {
    return this.#ask('sync.push', { timeout_ms: 20_000 })
  }

  pull(): Promise<Record<string, unknown>> {
    return this.#ask('sync.pull', { timeout_ms: 20_000 })
  }

  /** Cuts the line to the broker; `mute`: what the daemon says still goes through, and it hears nothing. */
  cut(manner: 'drop' | 'mute' = 'drop'): void {
    this.line.become(manner, { hangUp: manner === 'drop' })
  }

  join(): void {
    this.line.become('honest')
  }

  /** Keeps the state file as a backup would; the daemon is down meanwhile. */
  backUp(): void {
    copyFileSync(join(this.state, 'state.db'), join(this.home, 'backup.db'))
  }

  restore(): void {
    copyFileSync(join(this.home, 'backup.db'), join(this.state, 'state.db'))
    for (const rest of ['state.db-wal', 'state.db-shm']) rmSync(join(this.state, rest), { force: true })
  }

  /** Changes what a daemon that is down keeps, as a broken disk or program would. */
  tamper(sql: string, ...values: string[]): void {
    const db = new DatabaseSync(join(this.state, 'state.db'))
    try {
      db.prepare(sql).run(...values)
    } finally {
      db.close()
    }
  }

  /** Waits until nothing that was edited here is without a result, but what was set aside. */
  async flushed(): Promise<void> {
    await until(async () => {
      const { pending, in_flight } = await this.sync()
      return pending === 0 && in_flight === 0
    }, `what ${this.name} edited has a result`)
  }

  async leave(): Promise<void> {
    this.signal('SIGCONT')
    await this.end('SIGTERM')
    await this.line?.stop()
  }
}
