import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { isatty } from 'node:tty'

/** Signals that somebody may send to `lf run` and means its command. */
const forwarded: readonly NodeJS.Signals[] = [
  'SIGTERM',
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGCONT',
  'SIGALRM',
]
/** What a terminal sends to every process in its foreground by itself: forwarding it would deliver it twice. */
const fromTerminal: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT', 'SIGWINCH']
/** Those that mean an end. */
const ending: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT']

/** Whether this process is in the foreground of a terminal. */
const isInForeground = (): boolean => {
  try {
    // pid (comm) state ppid pgrp session tty_nr tpgid …; comm may hold anything, so count from its end.
    const stat = readFileSync('/proc/self/stat', 'utf8')
    const [, , pgrp, , tty, tpgid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return tty !== '0' && pgrp === tpgid
  } catch {
    return isatty(0) || isatty(1) || isatty(2)
  }
}

export interface SignalForwarding {
  /** Resolves with the first signal that means an end and comes when the command is gone already. */
  readonly interrupted: Promise<NodeJS.Signals>
  /** Whether one that means an end came at all. */
  readonly wasEnded: () => boolean
  readonly commandEnded: () => void
}

/** Hands signals on to the command, each once. From here on none of them ends this process by itself. */
export const forwardSignals = (child: () => ChildProcess | undefined): SignalForwarding => {
  const { promise: interrupted, resolve } = Promise.withResolvers<NodeJS.Signals>()
  let isCommandGone = false
  let wasEnded = false
  const inForeground = isInForeground()
  for (const signal of forwarded) {
    process.on(signal, () => {
      wasEnded ||= ending.includes(signal)
      if (isCommandGone) {
        if (ending.includes(signal)) resolve(signal)
      } else if (!inForeground || !fromTerminal.includes(signal)) {
        child()?.kill(signal)
      }
    })
  }
  return {
    interrupted,
    wasEnded: () => wasEnded,
    commandEnded: () => {
      isCommandGone = true
    },
  }
}

/** Ends this process as the command ended: by the same signal, so that whoever waits for it sees the same. */
export const dieBy = (signal: NodeJS.Signals): never => {
  // Taking the last listener away gives the signal its default meaning back; Node ignores SIGPIPE from the start, so one
  // is put there to be taken away.
  if (signal !== 'SIGKILL' && signal !== 'SIGSTOP') process.on(signal, () => {}).removeAllListeners(signal)
  process.kill(process.pid, signal)
  // It is on its way. Should the system not deliver it, the shell's convention says the same.
  setTimeout(() => process.exit(128 + constants.signals[signal]), 1000)
  throw new Ending()
}

/** Thrown after this process was told to end, so that nothing more is done. */
export class Ending extends Error {}
