import { once } from 'node:events'
import { connect as dial, type Socket } from 'node:net'
import { signEnvelope } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import type { Signatory } from '@lenserfight/testkit'
import type { ExecutionContext } from 'ava'
import { asOwner } from './_door.ts'

/** One TCP connection to the broker and what was said on it: no client in between that would come back by itself. */
export interface Line {
  readonly clientId: number
  readonly socket: Socket
  readonly isOpen: () => boolean
  /** Unix milliseconds of its end, when it has come. */
  readonly ended: Promise<number>
  readonly say: (text: string) => void
  /** All that the broker said so far. */
  readonly heard: () => string
  /** Whether the broker lets it publish there. Rejects when the connection ends meanwhile. */
  readonly mayPublish: (subject: string) => Promise<boolean>
}

/** What a client says of itself beside its envelope. */
export type ConnectOptions = Readonly<Record<string, unknown>>

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const until = async (what: string, holds: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> => {
  const end = Date.now() + ms
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
    await delay(10)
  }
}

/** The CONNECT line of a signatory for a server's nonce. */
export const connectLine = (
  stack: Stack,
  { kid, keys }: Signatory,
  nonce: string,
  options: ConnectOptions = {},
): string => {
  const body = { kind: 'connect', aud: stack.descriptor.gateway_id, server_nonce: nonce }
  const auth_token = Buffer.from(signEnvelope({ kid, key: keys.privateKey, body }).bytes).toString('utf8')
  return `CONNECT ${JSON.stringify({ verbose: false, pedantic: false, auth_token, sig: 'any', ...options })}\r\n`
}

/** Dials the broker and says CONNECT; resolves before there is an answer. */
export const openLine = async (
  t: ExecutionContext,
  stack: Stack,
  who: Signatory,
  options?: ConnectOptions,
): Promise<Line & { nonce: string }> => {
  const socket = dial({ host: '127.0.0.1', port: stack.nats.port })
  t.teardown(() => void socket.destroy())
  let heard = ''
  let open = true
  const ended = new Promise<number>((resolve) => {
    socket.once('close', () => {
      open = false
      resolve(Date.now())
    })
  })
  socket.on('error', () => {})
  socket.on('data', (bytes) => {
    heard += bytes.toString('utf8')
  })
  await once(socket, 'connect')
  await until('the broker greets', () => heard.includes('\r\n'))
  const info = JSON.parse(heard.slice(heard.indexOf('{'), heard.indexOf('\r\n'))) as {
    client_id: number
    nonce: string
  }
  const say = (text: string) => void socket.write(text)
  say(connectLine(stack, who, info.nonce, options))
  let asked = 0
  const pong = async (): Promise<void> => {
    const before = heard.split('PONG').length
    say('PING\r\n')
    await until('the broker answers', () => {
      if (!open) throw new Error('the connection ended')
      return heard.split('PONG').length > before
    })
  }
  const mayPublish = async (subject: string): Promise<boolean> => {
    const from = heard.length
    asked += 1
    say(`PUB ${subject} 1\r\n${asked % 10}\r\n`)
    await pong()
    return !heard.slice(from).includes('Permissions Violation')
  }
  const rest = { clientId: info.client_id, nonce: info.nonce, isOpen: () => open, heard: () => heard }
  return { ...rest, socket, ended, say, mayPublish }
}

/** Dials, says CONNECT and waits until it is admitted. */
export const enterLine = async (...args: Parameters<typeof openLine>): Promise<Line & { nonce: string }> => {
  const line = await openLine(...args)
  line.say('PING\r\n')
  await until('it is admitted', () => {
    if (!line.isOpen()) throw new Error(`refused: ${line.heard().slice(-200)}`)
    return line.heard().includes('PONG')
  })
  return line
}

/**
 * Cuts a connection, and another where that took longer than it may: others run beside, so that it may be the next that
 * shows how long it takes. Each of them is cut.
 * @param attempt opens a connection and changes something; when the change began, Unix milliseconds
 */
export const isCutWithin = async (
  t: ExecutionContext,
  boundMs: number,
  what: string,
  attempt: () => Promise<{ line: Line; began: number }>,
): Promise<void> => {
  const all: number[] = []
  while (all.length < 5 && all.every((took) => took >= boundMs)) {
    const { line, began } = await attempt()
    all.push((await line.ended) - began)
  }
  t.log(`${what}: cut ${all.join(', ')} ms after the change began`)
  t.true(Math.min(...all) < boundMs, `${what}: ${all.join(', ')} ms`)
}

/** Changes something as the owner. Returns when that began, Unix milliseconds: its commit is later. */
export const changing = (stack: Stack, text: string, values: readonly unknown[]): Promise<number> =>
  asOwner(stack, async (client) => {
    const began = Date.now()
    await client.query(text, [...values])
    return began
  })

export const admissionsOf = (stack: Stack, kid: string) =>
  asOwner(stack, async (client) => {
    const { rows } = await client.query<{ client_id: string; trust_level: string; due_at: Date | null; cause: string }>(
      'SELECT * FROM devices.admissions WHERE kid = $1 ORDER BY id',
      [kid],
    )
    return rows
  })
