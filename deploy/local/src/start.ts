import { relative, resolve } from 'node:path'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { type Stack, startStack } from './stack.ts'
import { onStopRequest } from './stop-signals.ts'

const help = `usage: npm start [-- --verifiers N] [--dir FOLDER]

Runs the whole gateway on this machine until Ctrl-C: PostgreSQL, nats-server, a development issuer and every worker.
Its state is made anew at each start and removed when it stops.

  --verifiers N   so many verifier processes (1 to 8, default 1)
  --dir FOLDER    where its state goes (default .local); several may run at once, each in its own`

const usageOf = (stack: Stack, repository: string): string => {
  const home = relative(process.cwd(), `${stack.dir}/home`) || '.'
  return `
The gateway is up. It describes itself in ${relative(process.cwd(), `${stack.dir}/stack.json`)}.

In another terminal, in this folder (keys are kept in files here, since this is a development stack):

  export LENSERFIGHT_HOME="$PWD/${home}" LF_GATEWAY_KEY_FILE_FALLBACK=1
  alias lf="$PWD/${relative(process.cwd(), `${repository}/edge/cli/bin/lf`)}"

  lf login --dev --as alice          # a session of the development issuer
  lf gateway identity init           # a key for this machine, registered and pending
  lf gateway serve &                 # the daemon; it answers the gateway's challenge
  lf gateway devices                 # the id that you approve
  lf gateway approve-device ID
  lf run -- echo hello               # runs, attests, and shows the level that the server derived

Ctrl-C stops everything.`
}

const verifiersOf = (args: readonly string[]): number => {
  const at = args.indexOf('--verifiers')
  if (at < 0) return 1
  const count = Number(args[at + 1])
  if (!Number.isInteger(count) || count < 1 || count > 8) {
    console.error('usage: --verifiers takes a whole number from 1 to 8')
    process.exit(1)
  }
  return count
}

const dirOf = (args: readonly string[]): string | undefined => {
  const at = args.indexOf('--dir')
  if (at < 0) return undefined
  const dir = args[at + 1]
  if (dir === undefined) {
    console.error('usage: --dir takes a folder')
    process.exit(1)
  }
  return resolve(dir)
}

const args = process.argv.slice(2)
if (args.includes('--help')) {
  console.log(help)
} else {
  const env = readEnvironment()
  const stop = onStopRequest()
  const verifiers = verifiersOf(args)
  const dir = dirOf(args)
  try {
    const stack = await startStack({
      env,
      ...(dir === undefined ? {} : { dir }),
      replicas: { verifier: verifiers },
      onStep: (step) => console.error(`starting ${step}`),
    })
    console.log(usageOf(stack, env.repository))
    await stop.requested
    console.error('stopping')
    await stack.stop()
  } catch (error) {
    console.error(error instanceof LocalError ? `${error.code}: ${error.message}` : error)
    process.exitCode = 1
  }
  stop.release()
}
