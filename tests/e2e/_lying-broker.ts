import { connect, createServer, type Server, type Socket } from 'node:net'

/**
 * How a broker treats its clients. `honest`: all of it goes through. `mute`: what clients say goes through, and they hear
 * nothing any more. `admit`: whoever comes is let in, and what they say is thrown away. `refuse`: nobody is let in.
 * `drop`: it hangs up.
 */
export type Manner = 'honest' | 'mute' | 'admit' | 'refuse' | 'drop'

const info = `INFO ${JSON.stringify({
  ...{ server_id: 'liar', version: '2.10.0', proto: 1, headers: true, max_payload: 1_048_576 },
  ...{ auth_required: true, nonce: 'AAAAAAAAAAAAAAA', jetstream: false },
})}\r\n`

/** Says what a broker says that lets everybody in, or nobody, and reads nothing of what it is told. */
const pretend = (client: Socket, manner: 'admit' | 'refuse'): void => {
  client.write(info)
  client.on('data', (chunk) => {
    const text = chunk.toString('latin1')
    if (manner === 'refuse' && text.includes('CONNECT ')) client.end("-ERR 'Authorization Violation'\r\n")
    else if (text.includes('PING\r\n')) client.write('PONG\r\n')
  })
}

/** Stands between clients and the real broker, and lies as it is told to. */
export class LyingBroker {
  manner: Manner = 'honest'
  /** How many the real broker did not admit, and gave up that connection for it. */
  refused = 0
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #held = new Set<Socket>()

  private constructor(port: number) {
    this.#server = createServer((client) => this.#serve(client, port))
  }

  /** @param port where the real broker is */
  static async start(port: number): Promise<LyingBroker> {
    const broker = new LyingBroker(port)
    await new Promise<void>((resolve) => broker.#server.listen(0, '127.0.0.1', resolve))
    return broker
  }

  get url(): string {
    return `nats://127.0.0.1:${(this.#server.address() as { port: number }).port}`
  }

  /** Behaves so from now on; whoever is connected stays so unless told to hang up. */
  become(manner: Manner, { hangUp = true } = {}): void {
    this.manner = manner
    if (hangUp) for (const socket of this.#sockets) socket.destroy()
  }

  /**
   * Lets nothing through any more on the connections that stand, and keeps them open, whatever the real broker does; others
   * are served.
   * @returns cuts them
   */
  hold(): () => void {
    for (const socket of this.#sockets) this.#held.add(socket)
    return () => {
      for (const socket of this.#held) socket.destroy()
    }
  }

  #serve(client: Socket, port: number): void {
    this.#keep(client)
    if (this.manner === 'drop') client.destroy()
    else if (this.manner === 'admit' || this.manner === 'refuse') pretend(client, this.manner)
    else this.#pass(client, port)
  }

  #pass(client: Socket, port: number): void {
    const real = this.#keep(connect(port, '127.0.0.1'))
    const isHeld = (): boolean => this.#held.has(client)
    let isRefused = false
    client.on('data', (chunk) => {
      if (!isHeld()) real.write(chunk)
    })
    real.on('data', (chunk) => {
      if (this.manner === 'mute' || isHeld()) return
      isRefused ||= chunk.includes("-ERR 'Authorization Violation'")
      client.write(chunk)
    })
    // What was said last arrives.
    real.on('close', () => isHeld() || client.end())
    client.on('close', () => {
      if (isRefused) this.refused += 1
      real.destroy()
    })
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#sockets.delete(socket)
      this.#held.delete(socket)
    })
    return socket
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.become('drop')
    await closed
  }
}
