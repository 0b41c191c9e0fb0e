import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectDaemon, type DaemonClient } from '@lenserfight/daemon/client'
import { testStack } from '@lenserfight/testkit/stack'
import { Machine } from '../e2e/_machine.ts'
import { until } from './stack-times.ts'

export interface LatencyOptions {
  /** Edits that count; ten more warm up. */
  readonly edits: number
  readonly say: (sentence: string) => void
}

export interface LatencyFigures {
  /** From an edit on one machine to its presence on the other, sent at once: what is gathered otherwise waits up to five seconds. */
  readonly sync_latency_ms: { readonly p50: number; readonly p99: number }
  readonly edits: number
}

const warmUp = 10

const enrolled = async (machine: Machine, name: string): Promise<DaemonClient> => {
  await machine.enrol('ann', name)
  await machine.end('SIGTERM')
  // As installed, not with the short waits of tests.
  writeFileSync(join(machine.state, 'daemon.json'), '{}', { mode: 0o600 })
  await machine.serve()
  return connectDaemon(join(machine.state, 'daemon.sock'))
}

/** Milliseconds from an edit on one machine until the other shows it. */
const editOnce = async (from: DaemonClient, to: DaemonClient, value: string): Promise<number> => {
  const object = { class: 'agent_config', object: 'reviewer' }
  const start = performance.now()
  await from.request('objects.set' as never, { ...object, paths: { notes: value } } as never)
  const pushed = from.request('sync.push' as never, { timeout_ms: 60_000 } as never)
  await until(async () => {
    const shown = await to
      .request('objects.get' as never, object as never)
      .then((found) => found as { paths: { notes?: string } })
      // Not there yet.
      .catch(() => undefined)
    return shown?.paths.notes === value
  })
  const ms = performance.now() - start
  await pushed
  return ms
}

/**
 * `sync_latency_ms`: from an edit on one daemon to its presence on another of the same account, through the whole stack, fsync on:
 * stored, pushed, verified, merged, fed, noticed, pulled, joined.
 */
export const benchLatency = async ({ edits, say }: LatencyOptions): Promise<LatencyFigures> => {
  say('starting the stack (latency)')
  const stack = await testStack({ fsync: true })
  const machines: Machine[] = []
  try {
    await stack.whenReady()
    machines.push(new Machine(stack, 'one'), new Machine(stack, 'two'))
    const [one, two] = machines as [Machine, Machine]
    const [from, to] = await Promise.all([enrolled(one, 'one'), enrolled(two, 'two')])
    say('warming up')
    const all: number[] = []
    for (let n = 0; n < warmUp + edits; n++) {
      if (n === warmUp) say(`${edits} edits`)
      all.push(await editOnce(from, to, `edit ${n}`))
    }
    const counted = all.slice(warmUp).sort((a, b) => a - b)
    const at = (share: number): number => counted[Math.min(counted.length - 1, Math.floor(share * counted.length))] ?? 0
    from.close()
    to.close()
    return { sync_latency_ms: { p50: at(0.5), p99: at(0.99) }, edits }
  } finally {
    for (const machine of machines) await machine.end('SIGTERM')
    await stack.stop()
  }
}
