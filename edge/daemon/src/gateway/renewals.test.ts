import { createLogger } from '@lenserfight/runtime'
import { CodedError, limits, type ReasonCode } from '@lenserfight/schemas'
import test from 'ava'
import { createRenewals } from './renewals.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const service = 'trust-evaluator'
const id = (number: number): string => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`

const create = () => {
  let at = 0
  let isFull = false
  const published: string[][] = []
  const words: [unknown, number][] = []
  const refused: ReasonCode[] = []
  const renewals = createRenewals({
    logger,
    onWord: (said, since) => words.push([said.run_id, since()]),
    onRefused: (code) => refused.push(code),
    start: () => {
      const began = at
      return () => at - began
    },
  })
  const client = {
    sign: (_kind: string, body: object) => {
      if (isFull) throw new CodedError('state_unwritable')
      published.push([...(body as { runs: string[] }).runs])
      return { digest: `digest-${published.length}`, bytes: new Uint8Array() }
    },
    publish: () => {},
  }
  return {
    ...{ renewals, client, published, words, refused },
    pass: (ms: number) => {
      at += ms
    },
    fill: () => {
      isFull = true
    },
  }
}

test('runs are renewed in as few requests as may be, and nothing where nothing can be sent', (t) => {
  const { renewals, client, published, fill } = create()
  t.is(renewals.ask([id(1)]), undefined)
  renewals.attach(client)
  const ids = Array.from({ length: limits.renewalsPerRequest + 1 }, (_, number) => id(number))
  t.not(renewals.ask(ids), undefined)
  t.deepEqual(published, [ids.slice(0, -1), ids.slice(-1)])
  fill()
  t.is(renewals.ask([id(1)]), undefined, 'a disk that is full counts nothing')
  renewals.detach()
  t.is(renewals.ask([id(1)]), undefined)
})

test('an answer counts from before it was asked for, once, and only from who applies renewals', (t) => {
  const { renewals, client, words, pass } = create()
  renewals.attach(client)
  renewals.ask([id(1), id(2)])
  pass(700)
  const item = { digest: 'digest-1', ok: true, result: { runs: [{ run_id: id(1) }, { run_id: id(2) }, 'none'] } }
  renewals.receive([{ ...item, digest: 'another' }], service)
  renewals.receive([item], 'registrar')
  t.deepEqual(words, [])
  renewals.receive([item, item], service)
  t.deepEqual(words, [
    [id(1), 700],
    [id(2), 700],
  ])
})

test('a refusal is told, and no word on any run', (t) => {
  const { renewals, client, words, refused } = create()
  renewals.attach(client)
  renewals.ask([id(1)])
  renewals.receive([{ digest: 'digest-1', ok: false, code: 'device_unhealthy' }], 'verifier')
  t.deepEqual([words, refused], [[], ['device_unhealthy']])
})
