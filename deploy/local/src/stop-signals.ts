/** Signals by which an operator, a terminal or an init system asks a program to end. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** One Ctrl-C reaches us up to three times (terminal, npm, bootstrap): what comes within this time is one request, in milliseconds. */
const sameRequestMs = 400

/** A request to stop: resolves once; `signal.aborted` tells those who poll. */
export interface StopRequest {
  /** Resolves with the name of what asked. The process stays alive until `release`. */
  requested: Promise<string>
  signal: AbortSignal
  /** Stops listening: signals do again what they do by themselves. */
  release(): void
}

/**
 * Listens for the request to stop: the first one is orderly and the caller's to carry out; a second one, given while that goes
 * on, exits with status 1 at once (the reaper does the rest). Also the end of the process that started us through the bootstrap.
 */
export function onStopRequest(): StopRequest {
  const abort = new AbortController()
  const { promise, resolve } = Promise.withResolvers<string>()
  let firstAt: number | undefined
  const ask = (by: string) => {
    if (firstAt === undefined) {
      firstAt = Date.now()
      abort.abort(new Error(by))
      resolve(by)
    } else if (Date.now() - firstAt > sameRequestMs) {
      process.exit(1)
    }
  }
  for (const name of signals) process.on(name, ask)
  const onDisconnect = () => ask('parent ended')
  process.on('disconnect', onDisconnect)
  process.channel?.unref()
  // A signal handler alone does not keep a process alive.
  const awake = setInterval(() => {}, 60_000)
  return {
    requested: promise,
    signal: abort.signal,
    release() {
      clearInterval(awake)
      for (const name of signals) process.off(name, ask)
      process.off('disconnect', onDisconnect)
    },
  }
}
