import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, type KeyPair, kidOfKey, signEnvelope } from '@lenserfight/envelope'
import type { KeyUse } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { createSettings } from '../settings.ts'
import { openStore } from '../store.ts'
import { createTrust } from './trust.ts'

const [gateway_id, kid] = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000c']
const [root, registrar] = [generateKeyPair(), generateKeyPair()]
const descriptor = { url: 'nats://127.0.0.1:9', gateway_id, root_key: encodeKey(root.publicKey) }
const seconds = (): number => Math.floor(Date.now() / 1000)

const sign = (pair: KeyPair, body: object): Uint8Array =>
  signEnvelope({ kid: kidOfKey(pair.publicKey), key: pair.privateKey, body }).bytes

const listOf = (number: number, keys: readonly (readonly [KeyPair, KeyUse[]])[]): string => {
  const entries = keys.map(([{ publicKey }, uses]) => ({
    ...{ kid: kidOfKey(publicKey), public_key: encodeKey(publicKey), service: 'registrar', uses },
    ...{ not_before: seconds() - 60, not_after: seconds() + 3600 },
  }))
  const body = { kind: 'keys', aud: gateway_id, number, issued_at: seconds(), keys: entries }
  return Buffer.from(sign(root, body)).toString()
}
const item = { digest: 'A'.repeat(43), ok: true }
const receiptBy = (by: KeyPair): Uint8Array =>
  sign(by, { kind: 'receipt', aud: gateway_id, to: kid, time: seconds(), items: [item] })

/** A program of this machine's: what it trusts, on a disk that others may have open too. */
const open = (t: ExecutionContext, file: string) => {
  const store = openStore(file)
  t.teardown(store.close)
  const settings = createSettings(store)
  const trust = createTrust({
    descriptor,
    keys: settings.get('keys'),
    onKeys: (choose) => settings.update('keys', choose),
  })
  return { store, settings, trust }
}
const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-keys-')), 'state.db')

test('a receipt is believed only from a key for receipts', (t) => {
  const answerer = generateKeyPair()
  const { trust } = open(t, newFile())
  trust.offerKeys(
    listOf(1, [
      [registrar, ['receipt']],
      [answerer, ['answer']],
    ]),
  )
  t.throws(() => trust.open('receipt', receiptBy(answerer), kid), { code: 'signer_untrusted' })
  t.deepEqual(trust.open('receipt', receiptBy(registrar), kid).body.items, [item])
})

test('a newer key list replaces an older one, and never the other way', (t) => {
  const other = generateKeyPair()
  const { trust, settings } = open(t, newFile())
  t.true(trust.offerKeys(listOf(1, [[registrar, ['answer', 'receipt']]])))
  t.is(trust.open('receipt', receiptBy(registrar), kid).service, 'registrar')
  const older = listOf(1, [[other, ['answer']]])
  const newer = listOf(2, [[other, ['answer']]])
  const foreign = sign(root, { kind: 'keys', aud: kid, number: 9, issued_at: 1, keys: [] })
  for (const text of [older, Buffer.from(foreign).toString(), '', '{}']) t.false(trust.offerKeys(text))
  t.true(trust.offerKeys(newer))
  t.deepEqual([trust.keysNumber(), settings.get('keys')], [2, newer])
  t.false(trust.offerKeys(older))
  t.throws(() => trust.open('receipt', receiptBy(registrar), kid), { code: 'signer_untrusted' })
})

test('a newer key list that another process kept meanwhile is not replaced by an older one', (t) => {
  const file = newFile()
  const [daemon, commandLine] = [open(t, file), open(t, file)]
  const [second, third] = [2, 3].map((number) => listOf(number, [[registrar, ['answer']]])) as [string, string]
  t.true(daemon.trust.offerKeys(third))
  t.false(commandLine.trust.offerKeys(second))
  t.is(commandLine.trust.keysNumber(), 3)
  t.is(daemon.settings.get('keys'), third)
})

test('a newer key list that a full disk does not take counts at once, and is kept as soon as the disk takes it', (t) => {
  const { trust, settings, store } = open(t, newFile())
  const older = listOf(1, [[generateKeyPair(), ['receipt']]])
  // Longer than the file has room for.
  const others = Array.from({ length: 30 }, (): [KeyPair, KeyUse[]] => [generateKeyPair(), ['answer']])
  const newer = listOf(2, [[registrar, ['receipt']], ...others])
  t.true(trust.offerKeys(older))
  const { page_count } = store.get<{ page_count: number }>('PRAGMA page_count') ?? { page_count: 0 }
  store.get(`PRAGMA max_page_count = ${page_count}`)
  t.throws(() => trust.offerKeys(newer), { code: 'state_unwritable' })
  const opened = () => trust.open('receipt', receiptBy(registrar), kid).service
  t.is(opened(), 'registrar', 'nobody is kept from what the gateway says')
  t.is(settings.get('keys'), older)
  store.get('PRAGMA max_page_count = 100000')
  t.is(opened(), 'registrar')
  t.is(settings.get('keys'), newer)
})
