import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import { createLogger, InfrastructureError, short } from '../src/index.ts'

const capture = () => {
  const lines: string[] = []
  const logger = createLogger({
    service: 'verifier',
    level: 'info',
    destination: { write: (line: string) => lines.push(line) },
  })
  return { logger, lines }
}
const sig = 'a'.repeat(86)

test('a line is JSON with a constant message, an event and who wrote it', (t) => {
  const { logger, lines } = capture()
  logger.info({ event: 'started', count: 3 }, 'worker started')
  const line = JSON.parse(lines[0] ?? '')
  t.like(line, { level: 'info', service: 'verifier', event: 'started', count: 3, message: 'worker started' })
  t.is(typeof line.time, 'string')
})

test('SH-3: secrets, nonces and bodies are blanked wherever they stand', (t) => {
  const { logger, lines } = capture()
  const secret = { sig, nonce: 'N'.repeat(22), body: { text: 'private words' }, seed: 'SUseed', password: 'hunter2' }
  logger.info({ event: 'x', ...secret, deep: { list: [{ envelope: secret }] } }, 'x')
  logger.info({ event: 'x', text: `envelope ${sig} came` }, 'x')
  logger.child({ token: 'tok-123' }).info({ event: 'x', bytes: Buffer.from('private words') }, 'x')
  const text = lines.join('')
  for (const word of [sig, 'NNNN', 'private words', 'SUseed', 'hunter2', 'tok-123']) t.false(text.includes(word), word)
  t.true(text.includes(`${short(sig)}…`))
})

test('SH-3: an error is described by its code, and its message only where that quotes no data', (t) => {
  const { logger, lines } = capture()
  const database = Object.assign(new Error('invalid input: "private words"'), {
    code: '22P02',
    severity: 'ERROR',
    detail: 'private words',
    constraint: 'c1',
  })
  logger.error({ event: 'x', err: new InfrastructureError('connection lost', { cause: database }) }, 'x')
  const parse = t.throws(() => JSON.parse('private words'))
  logger.error({ event: 'x', err: parse }, 'x')
  logger.error(new CodedError('config_invalid', 'the port'), 'x')
  t.false(lines.join('').includes('private words'))
  t.like(JSON.parse(lines[0] ?? '').err, { code: 'unavailable', cause: { code: '22P02', constraint: 'c1' } })
  t.true(JSON.parse(lines[2] ?? '').err.message.includes('the port'))
})
