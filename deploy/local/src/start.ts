import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { runFolderOf } from './folders.ts'
import { type Stack, startStack } from './stack.ts'
import { onStopRequest } from './stop-signals.ts'

const help = `usage: npm start [-- --verifiers N] [--dir FOLDER]

Runs the whole gateway on this machine until Ctrl-C: PostgreSQL, nats-server, a development issuer and every worker.
Each start is a gateway of its own with an empty state; what enrolled with the one before enrols anew. Its logs stay.

  --verifiers N   so many verifier processes (1 to 8, default 1)
  --dir FOLDER    where its description and logs go (default .local); several may run at once, each in its own`

const defaultDir = '.local'

/** A word as a shell reads it. */
const quoted = (word: string): string => (/^[\w@%+:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/**
 * What to type next, to be copied as it stands.
 * @param home goes with the stack: sessions and keys of a gateway that is gone serve nobody
 */
const usageOf = (stack: Stack, repository: string, home: string): string => {
  const description = join(stack.dir, 'stack.json')
  // The default one is found from anywhere in the repository.
  const named = stack.dir === join(repository, defaultDir) ? '' : ` --stack ${quoted(description)}`
  return `
The gateway is up. It describes itself in ${relative(process.cwd(), description)}.

In another terminal (keys are kept in files, since this is a development stack, and go with it):

  cd ${quoted(repository)}
  export PATH="$PWD/edge/cli/bin:$PWD/node_modules/.bin:$PATH"
  export LENSERFIGHT_HOME=${quoted(home)} LF_GATEWAY_KEY_FILE_FALLBACK=1

  lf login --dev --as alice${named}
  lf gateway identity init --name my-machine            # a key for this machine, registered and pending
  lf gateway serve >"$LENSERFIGHT_HOME/daemon.log" &    # the daemon; it answers the gateway's challenge
  lf gateway approve-device my-machine                  # shows the key, and asks
  lf gateway doctor                                     # what is wrong here, if anything is
  lf run -- echo hello                                  # runs, attests, shows the level that the server derived
  lf gateway explain                                    # what that level rests on, and what is missing
  lf gateway objects set agent_config reviewer name=Reviewer    # what your machines share, offline too
  lf gateway objects get agent_config reviewer
  lf gateway sync status                                # what of it waits here, and what awaits your decision
  lf gateway audit verify

A second machine is the same in another terminal, with its own LENSERFIGHT_HOME and \`lf gateway serve --port 0\`.

Ctrl-C, or \`kill -INT ${process.pid}\`, stops everything but that daemon; \`kill %1\` in its terminal does.`
}

const refuse = (message: string): never => {
  console.error(`usage: ${message}\n\n${help}`)
  process.exit(1)
}

const argumentsOf = (args: string[]) => {
  const string = { type: 'string' } as const
  try {
    const options = { verifiers: string, dir: string, help: { type: 'boolean' } } as const
    return parseArgs({ args, options }).values
  } catch (error) {
    return refuse((error as Error).message)
  }
}

const verifiersOf = (given = '1'): number =>
  /^[1-8]$/.test(given) ? Number(given) : refuse('--verifiers takes a whole number from 1 to 8')

const start = async (given: { verifiers?: string | undefined; dir?: string | undefined }): Promise<void> => {
  const verifier = verifiersOf(given.verifiers)
  const env = readEnvironment()
  const dir = given.dir === undefined ? join(env.repository, defaultDir) : resolve(given.dir)
  const stop = onStopRequest()
  const onStep = (step: string) => {
    stop.signal.throwIfAborted()
    console.error(`starting ${step}`)
  }
  let isUp = false
  try {
    const stack = await startStack({ env, dir, replicas: { verifier }, onStep })
    isUp = true
    console.log(usageOf(stack, env.repository, join(runFolderOf(dir, env), 'home')))
    await stop.requested
    console.error('stopping')
    await stack.stop()
  } catch (error) {
    if (stop.signal.aborted && !isUp) console.error('stopped before it was up')
    else console.error(error instanceof LocalError ? `${error.code}: ${error.message}` : error)
    process.exitCode = 1
  }
  stop.release()
}

const given = argumentsOf(process.argv.slice(2))
if (given.help) console.log(help)
else await start(given)
