import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { ensureNatsServer } from './nats-server.ts'

// For the bootstrap: the path on stdout, what is being fetched on stderr.
const say = (sentence: string): void => {
  process.stderr.write(`${sentence}\n`)
}
try {
  const server = await ensureNatsServer({ env: readEnvironment(), say })
  say(`nats-server ${server.version}: ${server.path}`)
  process.stdout.write(`${server.path}\n`)
} catch (error) {
  if (!(error instanceof LocalError)) throw error
  say(`${error.code}: ${error.message}`)
  process.exitCode = 1
}
