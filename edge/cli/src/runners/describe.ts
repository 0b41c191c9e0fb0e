import { plain, wordOf } from '../output.ts'
import type { Runner } from '../owner/runners.ts'
import { relativeTo } from '../times.ts'

export const runnersHeader = ['RUNNER', 'ID', 'DEVICE', 'LEVEL', 'HEARTBEAT', 'OPEN RUNS'] as const

/** Device levels under which a runner starts nothing (RH-3). */
const unfit: readonly string[] = ['unhealthy', 'revoked', 'blocked']

const seen = (at: number | null, now: number): string => (at === null ? 'never' : relativeTo(at, now))

/** A runner as a line of a table. */
export const rowOf = (runner: Runner, now = Date.now()): string[] => [
  plain(runner.name),
  runner.runner_id,
  runner.device_id === null ? 'not bound' : plain(runner.device_name ?? runner.device_id),
  plain(runner.device_trust_level ?? ''),
  seen(runner.last_heartbeat_at, now),
  String(runner.open_runs),
]

/** What to do with runners that can start nothing as they are. */
export const unboundLines = (runners: readonly Runner[]): string[] =>
  runners.flatMap(({ name, device_id, device_name, device_trust_level: level }) => {
    const bind = `\`lf gateway runners bind ${wordOf(name)}\``
    if (device_id === null) return [`${plain(name)} runs nowhere: ${bind} on its machine, or with --device.`]
    if (level === null || !unfit.includes(level)) return []
    return [
      `${plain(name)} starts nothing: ${plain(device_name ?? device_id)} is ${level}. ${bind} with another --device.`,
    ]
  })

/** What binding a runner changed, as the gateway tells it. @param where the device it is bound to */
export const boundLine = (
  { name, runner_id, where }: { name: string; runner_id: unknown; where: string },
  { change, former_device_id, former_device_name }: Readonly<Record<string, unknown>>,
): string => {
  const runner = `Runner ${plain(name)} (${runner_id})`
  if (change === 'unchanged') return `${runner} runs on ${where}, as before.`
  if (change !== 'moved') return `${runner} runs on ${where} from now on.`
  const former = `${plain(String(former_device_name))} (${former_device_id})`
  return `${runner} runs on ${where} from now on, and no longer on ${former}. Its runs under way there reach device_verified at most.`
}
