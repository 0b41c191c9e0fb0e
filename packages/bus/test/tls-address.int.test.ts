import { createServer } from 'node:net'
import { generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { connectEdge } from '../src/index.ts'

/** A broker, or somebody before it, that offers no TLS; notes what it is told. */
const startPlain = async () => {
  const heard: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      heard.push(data.toString('latin1'))
      if (heard.join('').includes('PING')) socket.write('PONG\r\n')
    })
    const info = {
      server_id: 'N',
      version: '2.10.27',
      proto: 1,
      headers: true,
      max_payload: 1024,
      nonce: 'abcdefghijk',
    }
    socket.write(`INFO ${JSON.stringify(info)}\r\n`)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return { port, heard, close: () => void server.close() }
}

const edge = (url: string) => ({
  url,
  gatewayId: newUuidV7(),
  kid: newUuidV7(),
  lenser: newUuidV7(),
  key: generateKeyPair().privateKey,
})

test('whoever takes TLS away between an edge and a tls:// address learns nothing', async (t) => {
  const plain = await startPlain()
  t.teardown(plain.close)
  await t.throwsAsync(connectEdge(edge(`tls://127.0.0.1:${plain.port}`)), { code: 'gateway_unreachable' })
  t.is(plain.heard.join(''), '')

  const bus = await connectEdge(edge(`nats://127.0.0.1:${plain.port}`))
  await bus.close()
  t.regex(plain.heard.join(''), /CONNECT/, 'the trap is live')
})
