import { spawn } from 'node:child_process'
import { readdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Stack } from '@lenserfight/local/stack'
import { Machine, type Ran, until } from '../e2e/_machine.ts'
import type { Chance } from '../fault/_random.ts'

const lfFile = fileURLToPath(new URL('../../edge/cli/bin/lf', import.meta.url))

/** How long each step takes here when it is not killed, milliseconds: measured on, since others run beside. */
export type Pace = Record<'login' | 'init' | 'serve' | 'approve', number>

/** How long a program works, at most, once it has written to the state folder, milliseconds. */
const workMs = 250

/**
 * Runs `lf` and kills it so many milliseconds after its start, or after it first wrote to the state folder, since most of
 * its time goes by before it does anything; says whether it had ended by itself.
 */
const killedAfter = (
  machine: Machine,
  words: readonly string[],
  { ms, from }: { ms: number; from: 'start' | 'write' },
): Promise<boolean> =>
  new Promise((resolve) => {
    const child = spawn(lfFile, words, { env: machine.env, cwd: machine.home, stdio: 'ignore' })
    let timer: NodeJS.Timeout | undefined
    const start = (): void => {
      timer ??= setTimeout(() => child.kill('SIGKILL'), ms)
    }
    const watcher = watch(machine.state, () => start())
    if (from === 'start') start()
    child.once('close', (_code, signal) => {
      watcher.close()
      clearTimeout(timer)
      resolve(signal !== 'SIGKILL')
    })
  })

/** What became of a round: how many processes were killed, and how many ended before. */
export interface Tally {
  killed: number
  missed: number
}

/** Somebody who enrols a machine, and whose programs are killed at any moment: each step is taken again until it is done. */
export class Clumsy {
  readonly machine: Machine
  readonly #stack: Stack
  readonly #name: string
  readonly #chance: Chance
  readonly #pace: Pace
  readonly tally: Tally = { killed: 0, missed: 0 }

  constructor(stack: Stack, name: string, { chance, pace }: { chance: Chance; pace: Pace }) {
    this.machine = new Machine(stack, name)
    this.#stack = stack
    this.#name = name
    this.#chance = chance
    this.#pace = pace
  }

  get #login(): string[] {
    return ['login', '--dev', '--as', this.#name, '--stack', join(this.#stack.dir, 'stack.json')]
  }

  /** One to three times the step, each killed at a moment anywhere within what it takes, or a little later. */
  async #spoil(step: keyof Pace, words: readonly string[]): Promise<void> {
    const times = 1 + Math.floor(this.#chance.next() * 3)
    for (let time = 0; time < times; time += 1) {
      const from = this.#chance.next() < 0.3 ? 'start' : 'write'
      const ms = this.#chance.next() * (from === 'start' ? this.#pace[step] * 1.5 : workMs)
      const isOver = await killedAfter(this.machine, words, { ms, from })
      this.tally[isOver ? 'missed' : 'killed'] += 1
    }
  }

  /** The step, until it is done; one that an earlier attempt had finished unseen says so. */
  async #finish(step: keyof Pace, words: readonly string[], isDone: (ran: Ran) => boolean) {
    await until(async () => {
      const began = performance.now()
      const ran = await this.machine.lf(words)
      this.#pace[step] = (this.#pace[step] + performance.now() - began) / 2
      return isDone(ran)
    }, words.join(' '))
  }

  async enrol(): Promise<void> {
    const init = ['gateway', 'identity', 'init', '--name', 'machine']
    const approve = ['gateway', 'approve-device', 'machine', '--yes']
    await this.#spoil('login', this.#login)
    await this.#finish('login', this.#login, ({ code }) => code === 0)
    await this.#spoil('init', init)
    await this.#finish('init', init, ({ code, stderr }) => code === 0 || stderr.startsWith('already_enrolled'))
    await this.#spoil('serve', ['gateway', 'serve'])
    await this.machine.serve()
    if (this.#chance.next() < 0.5) {
      await this.machine.end('SIGKILL')
      await this.machine.serve()
    }
    await this.#spoil('approve', approve)
    await this.machine.untilChallengeAnswered()
    await this.#finish('approve', approve, ({ code }) => code === 0)
  }

  /** Names of the private keys that this machine holds, and whatever else lies beside them. */
  keys(): string[] {
    return readdirSync(join(this.machine.state, 'keys')).sort()
  }
}

/** How long the steps take undisturbed. */
export const measurePace = async (stack: Stack): Promise<Pace> => {
  const machine = new Machine(stack, 'pace')
  const timed = async (act: () => Promise<unknown>): Promise<number> => {
    const began = performance.now()
    await act()
    return performance.now() - began
  }
  const login = await timed(() => machine.login('pace'))
  const init = await timed(() => machine.ask('gateway', 'identity', 'init', '--name', 'machine'))
  const serve = await timed(() => machine.serve())
  const approveOnce = async () => (await machine.lf(['gateway', 'approve-device', 'machine', '--yes'])).code === 0
  await machine.untilChallengeAnswered()
  await until(approveOnce, 'the pace-maker’s approval')
  const approve = await timed(approveOnce)
  await machine.end('SIGTERM')
  return { login, init, serve, approve }
}
