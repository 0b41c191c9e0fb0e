import { readdirSync, readFileSync } from 'node:fs'

/** CPU time of a process and all its threads, microseconds; 0 where it is gone. Linux counts in hundredths of a second. */
const cpuOf = (pid: number): number => {
  const fields = statOf(pid)
  return fields === undefined ? 0 : (Number(fields[11]) + Number(fields[12])) * 10_000
}

/** The fields of `/proc/<pid>/stat` after the name, which may hold anything. */
const statOf = (pid: number): string[] | undefined => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

const childrenOf = (pid: number): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => Number(statOf(candidate)?.[1]) === pid)

/** CPU time by process, microseconds since each began; `postgres` is the server and all its backends. */
export const cpuByProcess = (
  pids: Readonly<Record<string, readonly number[]>>,
  postgres: number,
): Record<string, number> => {
  const sum = (list: readonly number[]): number => list.reduce((total, pid) => total + cpuOf(pid), 0)
  const named = Object.entries(pids).map(([name, list]) => [name, sum(list)] as const)
  return Object.fromEntries([...named, ['postgres', sum([postgres, ...childrenOf(postgres)])]])
}

/** CPU time of what works on envelopes, by process, microseconds since each began. */
export interface CpuTimes {
  readonly verifier: number
  readonly nats_server: number
  /** The server and all its backends. */
  readonly postgres: number
}

export const cpuTimes = (pids: { verifier: number; nats: number; postgres: number }): CpuTimes => ({
  verifier: cpuOf(pids.verifier),
  nats_server: cpuOf(pids.nats),
  postgres: [pids.postgres, ...childrenOf(pids.postgres)].reduce((sum, pid) => sum + cpuOf(pid), 0),
})
