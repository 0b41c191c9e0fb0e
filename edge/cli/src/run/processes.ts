import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** A process; with its beginning, since numbers are given again. */
interface Process {
  readonly pid: number
  readonly parent: number
  readonly began: string
}

/** Linux. pid (comm) state ppid … starttime …; comm may hold anything, so count from its end. */
const readOne = (pid: number): Process | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // What is dead and not yet waited for runs nothing.
    return fields[0] === 'Z' ? undefined : { pid, parent: Number(fields[1]), began: String(fields[19]) }
  } catch {
    return undefined
  }
}
const readAll = (): Process[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readOne(Number(name)))
    .filter((each) => each !== undefined)
/** Elsewhere. */
const askAll = (): Process[] => {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid=,stat=,lstart='], { encoding: 'utf8' })
  return [...(stdout ?? '').matchAll(/^\s*(\d+)\s+(\d+)\s+([^Z\s]\S*)\s+(.+)$/gm)].map(([, pid, parent, , began]) => ({
    ...{ pid: Number(pid), parent: Number(parent), began: String(began) },
  }))
}
const listProcesses = (): Process[] => {
  try {
    const all = readAll()
    return all.length > 0 ? all : askAll()
  } catch {
    return askAll()
  }
}

/** A process and all that it started, as far as those between are alive: who lost its parent is nobody's. */
export interface ProcessTree {
  /** Sends it to each that is alive, those included that were started since. */
  readonly kill: (signal: NodeJS.Signals) => void
  readonly isAlive: () => boolean
}

export const processTree = (root: number): ProcessTree => {
  const members = new Map<number, string>()
  let isFirst = true
  const look = (): number[] => {
    const all = listProcesses()
    const alive = all.filter(({ pid, began }) => (isFirst ? pid === root : members.get(pid) === began))
    isFirst = false
    for (const { pid, began } of alive) {
      members.set(pid, began)
      // What is added is looked at in its turn.
      alive.push(...all.filter((each) => each.parent === pid && !alive.includes(each)))
    }
    return alive.map(({ pid }) => pid)
  }
  return {
    kill: (signal) => {
      for (const pid of look()) {
        try {
          process.kill(pid, signal)
        } catch {
          // It is gone, or another user's.
        }
      }
    },
    isAlive: () => look().length > 0,
  }
}
