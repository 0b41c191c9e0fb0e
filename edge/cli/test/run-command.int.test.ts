import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'

const program = fileURLToPath(new URL('./_run-alone.ts', import.meta.url))
const sha256 = (data: Buffer | string): string => createHash('sha256').update(data).digest('base64url')
const folders: string[] = []
const temporary = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-run-test-'))
  folders.push(folder)
  return folder
}
test.after.always('nothing stays', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

interface Report {
  exitCode: number | null
  signal: string | null
  stdinHash: string | null
  stdoutHash: string | null
  outputFailure: string | null
}

interface Ran {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  stderr: string
  report: () => Report
}

/** Starts the program; `ended` resolves when it has ended and its output is read. */
const start = (
  command: readonly string[],
  stdin: 'pipe' | 'ignore' | number = 'ignore',
  variables: Record<string, string> = {},
) => {
  const report = join(temporary(), 'report.json')
  const child = spawn(process.execPath, [program, report, ...command], {
    stdio: [stdin, 'pipe', 'pipe'],
    env: { ...process.env, ...variables },
  }) as ChildProcess
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk))
  const said = (text: string): Promise<void> =>
    new Promise((resolve) => {
      const look = () => Buffer.concat(out).includes(text) && resolve()
      child.stdout?.on('data', look)
      look()
    })
  const ended = new Promise<Ran>((resolve) => {
    child.on('close', (code, signal) => {
      const read = () => JSON.parse(readFileSync(report, 'utf8')) as Report
      resolve({ code, signal, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString(), report: read })
    })
  })
  return { child, said, ended }
}
const sh = (script: string): string[] => ['sh', '-c', script]

/** A shell pipeline in which `lf` stands for the program; says the exit statuses of its parts. */
const pipeline = async (script: string): Promise<{ output: string; report: () => Report }> => {
  const report = join(temporary(), 'report.json')
  const lf = `lf() { '${process.execPath}' '${program}' '${report}' "$@"; }\n`
  const { stdout: output } = await promisify(execFile)('bash', ['-c', lf + script], { timeout: 90_000 })
  return { output, report: () => JSON.parse(readFileSync(report, 'utf8')) as Report }
}

test.serial('the exit code is the command’s own', async (t) => {
  for (const code of [0, 1, 7, 255]) {
    const ran = await start(sh(`exit ${code}`)).ended
    t.deepEqual([ran.code, ran.signal], [code, null])
    t.is(ran.report().exitCode, code)
  }
})

test.serial('a command that dies by a signal takes its runner along by the same', async (t) => {
  for (const signal of ['TERM', 'INT', 'HUP', 'KILL', 'SEGV', 'PIPE', 'USR1'] as const) {
    const ran = await start(sh(`kill -${signal} $$`)).ended
    t.is(ran.signal, `SIG${signal}`)
    t.is(ran.report().signal, `SIG${signal}`)
  }
})

const signals = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const

for (const signal of signals) {
  test.serial(`${signal} sent to the runner reaches the command, which decides`, async (t) => {
    const name = signal.slice(3)
    const trapping = start(sh(`trap 'echo got ${name}; exit 42' ${name}; echo ready; while :; do sleep 0.05; done`))
    await trapping.said('ready')
    trapping.child.kill(signal)
    const trapped = await trapping.ended
    t.deepEqual([trapped.code, trapped.signal], [42, null])
    t.is(trapped.stdout.toString(), `ready\ngot ${name}\n`)
  })

  test.serial(`${signal} ends a command that does nothing about it, and the runner with it`, async (t) => {
    const running = start(sh('echo ready; exec sleep 60'))
    await running.said('ready')
    running.child.kill(signal)
    const ran = await running.ended
    t.deepEqual([ran.code, ran.signal], [null, signal])
  })
}

test.serial('a command that ignores a signal goes on', async (t) => {
  const running = start(sh(`trap '' TERM; echo ready; sleep 0.3; echo still here`))
  await running.said('ready')
  running.child.kill('SIGTERM')
  const ran = await running.ended
  t.deepEqual([ran.code, ran.stdout.toString()], [0, 'ready\nstill here\n'])
})

test.serial('10 MB of random bytes pass through unchanged, and what passed is what was hashed', async (t) => {
  const data = randomBytes(10 * 1024 * 1024 + 17)
  const running = start(['cat'], 'pipe')
  running.child.stdin?.end(data)
  const ran = await running.ended
  t.is(ran.code, 0)
  t.true(ran.stdout.equals(data))
  t.deepEqual([ran.report().stdinHash, ran.report().stdoutHash], [sha256(data), sha256(data)])
})

test.serial('a file as standard input is the command’s own, and can be sought in', async (t) => {
  const file = join(temporary(), 'input')
  const data = randomBytes(3_000_000)
  writeFileSync(file, data)
  const ran = await start(['cat'], openSync(file, 'r')).ended
  t.true(ran.stdout.equals(data))
  t.is(ran.report().stdinHash, sha256(data))
  const seeking = await start(
    [
      process.execPath,
      '-e',
      'const fs=require("fs");const b=Buffer.alloc(4);fs.readSync(0,b,0,4,1000);process.stdout.write(b)',
    ],
    openSync(file, 'r'),
  ).ended
  t.true(seeking.stdout.equals(data.subarray(1000, 1004)))
})

test.serial('a script’s own input is left to the script where the command does not read it', async (t) => {
  const file = join(temporary(), 'lines')
  writeFileSync(file, 'one\ntwo\nthree\n')
  const { output } = await pipeline(`while read -r line; do lf true; echo "$line"; done < '${file}'`)
  t.is(output, 'one\ntwo\nthree\n')
})

test.serial('an empty and a closed standard input are that to the command too', async (t) => {
  const empty = await start(['cat']).ended
  t.deepEqual([empty.code, empty.report().stdinHash], [0, sha256('')])
  t.is((await pipeline('lf wc -c <&-; echo "$?"')).output.trim().replace(/\s+/g, ' '), '0 0')
})

test.serial('/dev/stdin, /dev/stdout and /dev/stderr can be opened by name', async (t) => {
  t.is((await pipeline('echo hello | lf cat /dev/stdin')).output, 'hello\n')
  t.is(
    (await pipeline(`echo hello | lf sh -c 'cat > /dev/stdout; echo bye > /dev/stderr' 2>&1 | cat`)).output,
    'hello\nbye\n',
  )
})

test.serial('a command that reads only some of its input ends when it ends', async (t) => {
  const running = start(['head', '-c', '5'], 'pipe')
  running.child.stdin?.on('error', () => {})
  running.child.stdin?.write('12345678')
  const ran = await running.ended
  t.deepEqual([ran.code, ran.stdout.toString()], [0, '12345'])
})

test.serial('input that never ends does not keep a command that ended', async (t) => {
  const running = start(sh('exec <&-; echo done'), 'pipe')
  const ran = await running.ended
  t.deepEqual([ran.code, ran.stdout.toString()], [0, 'done\n'])
})

test.serial('large output comes out whole, however slowly it is read', async (t) => {
  const { output, report } = await pipeline(`lf seq 1 2000000 | { sleep 0.3; md5sum; }; seq 1 2000000 | md5sum`)
  const [ours, theirs] = output.trim().split('\n')
  t.is(ours, theirs)
  const expected = Array.from({ length: 2_000_000 }, (_, index) => `${index + 1}\n`).join('')
  t.is(report().stdoutHash, sha256(expected))
})

test.serial('a reader that goes away is SIGPIPE to the command, and so to who waits for the runner', async (t) => {
  const { output, report } = await pipeline(`lf yes | head -n 1; echo "\${PIPESTATUS[0]}"`)
  t.is(output, 'y\n141\n')
  t.is(report().signal, 'SIGPIPE')
})

test.serial('a command that outlives a gone reader keeps its own exit code', async (t) => {
  const { output } = await pipeline(
    `lf sh -c 'trap "" PIPE; seq 1 100000 2>/dev/null; exit 3' | head -n 1; echo "\${PIPESTATUS[0]}"`,
  )
  t.is(output, '1\n3\n')
})

test.serial('output that could not be written is no success, and a reader that went away is no failure', async (t) => {
  const full = await pipeline('lf echo lost > /dev/full; echo $?; lf sh -c "echo lost; exit 3" > /dev/full; echo $?')
  t.is(full.output, '1\n3\n')
  t.is(full.report().outputFailure, 'ENOSPC')
  const { report } = await pipeline('lf sh -c "trap \'\' PIPE; seq 1 100000 2>/dev/null; exit 0" | head -n 1')
  t.deepEqual([report().exitCode, report().outputFailure], [0, null])
})

/** A part of a script that stands until `release` is called. */
const stand = () => {
  const file = join(temporary(), 'go')
  return { script: `while [ ! -e '${file}' ]; do sleep 0.05; done`, release: () => writeFileSync(file, '') }
}
const exitOf = (child: ChildProcess): Promise<NodeJS.Signals | number | null> =>
  new Promise((resolve) => child.on('exit', (code, signal) => resolve(signal ?? code)))

test.serial('what outlives the command keeps its standard output', async (t) => {
  const { script, release } = stand()
  const running = start(sh(`(${script}; echo late) & echo early`))
  t.is(await exitOf(running.child), 0)
  release()
  const ran = await running.ended
  t.is(ran.stdout.toString(), 'early\nlate\n')
  t.is(ran.report().stdoutHash, sha256('early\n'))
})

test.serial('a signal ends a runner whose command left somebody behind', async (t) => {
  const { script, release } = stand()
  const running = start(sh(`(${script}) & echo ready; wait`))
  await running.said('ready')
  running.child.kill('SIGTERM')
  t.is(await exitOf(running.child), 'SIGTERM')
  release()
  await running.ended
})

test.serial('output and error that go to one place keep their order', async (t) => {
  const script = 'for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done'
  t.is(
    (await pipeline(`lf sh -c '${script}' 2>&1 | cat`)).output,
    (await pipeline(`sh -c '${script}' 2>&1 | cat`)).output,
  )
  const file = join(temporary(), 'log')
  await pipeline(`lf sh -c '${script}' > '${file}' 2>&1`)
  t.is(readFileSync(file, 'utf8'), (await pipeline(`sh -c '${script}' 2>&1`)).output)
})

test.serial('output and error that go apart stay apart', async (t) => {
  const ran = await start(sh('echo out; echo err >&2')).ended
  t.deepEqual([ran.stdout.toString(), ran.stderr], ['out\n', 'err\n'])
})

test.serial('a signal gets through while nobody reads the output', async (t) => {
  const report = join(temporary(), 'report.json')
  const child = spawn(process.execPath, [program, report, 'yes'], { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise((resolve) => child.stdout.once('readable', resolve))
  const gone = new Promise<NodeJS.Signals | null>((resolve) => child.on('exit', (_code, signal) => resolve(signal)))
  // One ends the command; one after that ends the wait for somebody who reads, whenever it begins.
  const again = setInterval(() => child.kill('SIGTERM'), 300)
  child.kill('SIGTERM')
  t.is(await gone, 'SIGTERM')
  clearInterval(again)
  child.stdout.destroy()
})

/** Types into a terminal of the command’s own, by the system’s `script`. */
const onTerminal = (t: ExecutionContext, command: string, typed: string): Promise<string> => {
  const report = join(temporary(), 'report.json')
  const line = `'${process.execPath}' '${program}' '${report}' ${command}`
  const child = spawn('script', ['-qec', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (!shown.includes('ready') && (shown + text).includes('ready')) setTimeout(() => child.stdin.write(typed), 100)
    shown += text
  })
  t.teardown(() => child.kill('SIGKILL'))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => resolve(shown.replaceAll('\r\n', '\n')))
  })
}

test.serial('a terminal is the command’s own', async (t) => {
  const shown = await onTerminal(
    t,
    `sh -c 'test -t 0 && test -t 1 && test -t 2 && echo ready; read -r x; echo "read $x"'`,
    'hello\n',
  )
  t.regex(shown, /ready\n(hello\n)?read hello\n/)
})

test.serial('Ctrl-C on a terminal reaches the command once', async (t) => {
  // Node counts each; a shell's trap would take two for one.
  const counting = `process.on("SIGINT", () => { console.log("interrupted"); setTimeout(process.exit, 1000) }); console.log("ready"); setInterval(() => {}, 1000)`
  const shown = await onTerminal(t, `'${process.execPath}' -e '${counting}'`, '\u0003')
  t.is(shown.match(/interrupted/g)?.length, 1)
})

/** Whether it still runs: one that is dead and was not waited for does not. */
const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test.serial('what may not go on is ended with all that it started, what is deaf to it after 5 s', async (t) => {
  const by = join(temporary(), 'withdrawn')
  const [deaf, kind] = [
    `sh -c 'trap "" TERM; echo deaf $$; while :; do sleep 0.1; done'`,
    `sh -c 'echo kind $$; sleep 60; :'`,
  ]
  const running = start(sh(`(${deaf} & wait) & (${kind} & wait) & echo ready; wait`), 'ignore', { WITHDRAWN_BY: by })
  await Promise.all(['deaf', 'kind', 'ready'].map(running.said))
  const began = performance.now()
  writeFileSync(by, '')
  const ran = await running.ended
  const took = performance.now() - began
  const pids = [...ran.stdout.toString().matchAll(/(?:deaf|kind) (\d+)/g)].map(([, pid]) => Number(pid))
  t.is(pids.length, 2)
  t.deepEqual(pids.filter(isAlive), [])
  t.is(ran.report().signal, 'SIGTERM')
  t.true(took >= 4_900 && took < 30_000, `${took}`)
})

test.serial('what ends when it is told to is not waited for any longer', async (t) => {
  const by = join(temporary(), 'withdrawn')
  const running = start(sh('echo ready; sleep 60; :'), 'ignore', { WITHDRAWN_BY: by })
  await running.said('ready')
  const began = performance.now()
  writeFileSync(by, '')
  t.is((await running.ended).report().signal, 'SIGTERM')
  t.true(performance.now() - began < 4_000)
})

test.serial(
  'PE-2: a command begins after its input was looked at, however long that took, and not before',
  async (t) => {
    const [file, begun] = [join(temporary(), 'input'), join(temporary(), 'begun')]
    writeFileSync(file, randomBytes(30_000_000))
    t.is((await start(['true'], openSync(file, 'r'), { BEGUN: begun }).ended).code, 0)
    t.true(Number(/^rchar: (\d+)/m.exec(readFileSync(begun, 'utf8'))?.[1]) > 30_000_000)
  },
)

test.serial('what may not begin does not', async (t) => {
  const by = join(temporary(), 'no-such-folder', 'begun')
  const ran = await start(sh('echo it runs'), 'ignore', { BEGUN: by }).ended
  t.deepEqual([ran.code, ran.stdout.toString()], [1, ''])
})
