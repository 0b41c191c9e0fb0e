/**
 * 2. A local agent: a loop that decides on a tool, logs it, uses it, and stops where the policy says so.
 *
 *     npx node edge/runner/examples/2-local-agent.ts FILE
 *
 * In the clone’s root: `npx node` is the Node that this repository brings. `RUNNER` is the runner’s id, if there is one.
 * Its tools are `fs/read`, `text/count` and `net/fetch`. Deny the last with `lf gateway policy set --deny-tool 'net/*'` and
 * see it go on without: a tool that was denied is logged too, and the run cannot become `fully_trusted` any more.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CodedError, hashFile, openRunner, type Run, type Runner } from '@lenserfight/runner'

interface Thought {
  readonly tool: keyof typeof tools
  readonly args: readonly string[]
}

const tools = {
  'fs/read': (path: string) => readFile(path, 'utf8'),
  'text/count': async (text: string) => String(text.split(/\s+/).filter((each) => each !== '').length),
  'net/fetch': async (url: string) => (await fetch(url)).text(),
} as const

/** What the agent does next, by what it knows: a model’s place. */
const think = (path: string, known: ReadonlyMap<string, string>): Thought | undefined => {
  if (!known.has('fs/read')) return { tool: 'fs/read', args: [path] }
  if (!known.has('net/fetch')) return { tool: 'net/fetch', args: ['http://127.0.0.1:9/'] }
  return known.has('text/count') ? undefined : { tool: 'text/count', args: [known.get('fs/read') ?? ''] }
}

/** Logs a tool, and only then uses it. What was denied, or failed, is an answer that the agent goes on with. */
const use = async (run: Run, { tool, args }: Thought): Promise<string> => {
  try {
    await run.tool(tool, args)
  } catch (error) {
    if (error instanceof CodedError && error.code === 'tool_denied') return 'denied'
    throw error
  }
  return tools[tool](...(args as [string])).catch((error: unknown) => `failed: ${error}`)
}

/** What the agent finds out. @throws CodedError where the run is to end, Error where the file is gone */
const answer = async (run: Run, path: string): Promise<string> => {
  const known = new Map<string, string>()
  for (let next = think(path, known); next !== undefined; next = think(path, known)) {
    // What withdrew the run ends the agent, between two steps at the latest.
    run.signal.throwIfAborted()
    known.set(next.tool, await use(run, next))
  }
  return `${known.get('text/count')} words; net/fetch: ${known.get('net/fetch')?.split(':')[0]}\n`
}

const work = async (runner: Runner, path: string): Promise<void> => {
  const run = await runner.permit({
    command: ['local-agent', path],
    inputs: [await hashFile(path)],
    label: 'count the words of a file',
    runner: process.env.RUNNER,
    onAwaiting: ({ runId }) => console.error(`waiting for approval: lf gateway approvals approve ${runId}`),
  })
  await run.start()
  const text = await answer(run, path).catch(async (failure: unknown) => {
    // A run that was started is completed, whatever became of it: else it stays open.
    await run.complete({ exitCode: 1 })
    throw failure
  })
  process.stdout.write(text)
  const stdoutHash = createHash('sha256').update(text).digest('base64url')
  const { state, outcome } = await run.complete({ exitCode: 0, stdoutHash })
  console.error(`run ${run.permit.runId}: ${state}, ${outcome?.result?.level ?? outcome?.code ?? 'no result yet'}`)
}

const [path = import.meta.filename] = process.argv.slice(2)
let runner: Runner | undefined
try {
  runner = await openRunner()
  await work(runner, path)
} catch (error) {
  if (!(error instanceof CodedError)) throw error
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = 1
} finally {
  runner?.close()
}
