/**
 * A machine that edits one object without end and flushes it to a gateway of its own, which answers at once, until it is killed:
 * `node _killed.ts STATE GATEWAY edit|drain`. Each edit writes the next number and is told on standard output once it is kept.
 */
import { createLogger } from '@lenserfight/runtime'
import type { SyncEntry } from '@lenserfight/schemas'
import { admit, type Clock, countOf, deltaOf, joinClocks, linkOf } from '@lenserfight/sync'
import { createOutbox } from '../outbox/outbox.ts'
import { openStore } from '../store.ts'
import { deviceA, reviewer } from './_machine.ts'
import { createSync } from './sync.ts'

const [stateFile = '', gatewayFile = '', mode] = process.argv.slice(2)
const logger = createLogger({ service: 'killed', level: 'silent' as never })
const store = openStore(stateFile)
const gateway = openStore(gatewayFile)
gateway.run('CREATE TABLE IF NOT EXISTS known (only INTEGER PRIMARY KEY, clock TEXT NOT NULL) STRICT')
gateway.run('CREATE TABLE IF NOT EXISTS links (actor TEXT, n INTEGER, link TEXT, PRIMARY KEY (actor, n)) STRICT')
gateway.run('CREATE TABLE IF NOT EXISTS merged (place INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT')

const linkAt = (actor: string, n: number): string | null =>
  gateway.get<{ link: string }>('SELECT link FROM links WHERE actor = ? AND n = ?', actor, n)?.link ?? null

/** Admits by the rules of the gateway and keeps what it merged, within one transaction: it is never killed half-way either. */
const apply = (entry: SyncEntry): object => {
  const clock = JSON.parse(gateway.get<{ clock: string }>('SELECT clock FROM known')?.clock ?? '{}') as Clock
  const delta = deltaOf(entry, deviceA)
  const [link, n] = [linkOf(delta), countOf(delta.clock, delta.actor)]
  const known = { clock, paths: {}, link: linkAt(delta.actor, countOf(clock, delta.actor)) }
  const there = linkAt(delta.actor, n)
  const admission = admit(there === null ? known : { ...known, linkAt: there }, delta, link)
  if (admission === 'duplicate') return { status: 'duplicate', seq: 1, digest: link }
  if (admission !== 'admitted') return { code: admission }
  gateway.run('INSERT OR REPLACE INTO known VALUES (1, ?)', JSON.stringify(joinClocks(clock, delta.clock)))
  gateway.run('INSERT INTO links VALUES (?, ?, ?)', delta.actor, n, link)
  gateway.run('INSERT INTO merged (value) VALUES (?)', String(delta.paths.notes))
  return { status: 'applied', seq: 1, digest: link }
}

let number = 0
const outbox = createOutbox({
  ...{ store, logger, timing: { resendFloorMs: 20, resendCeilingMs: 60, resignFloorMs: 5 } },
  onEnded: ({ kind }) => sync.ended(kind),
})
const sync = createSync({
  ...{ store, outbox, logger, deviceId: () => deviceA, account: 'one', flushMs: 1, pullMs: 3_600_000 },
  ...{ timing: { resendFloorMs: 20, resendCeilingMs: 60, resignFloorMs: 5 }, onRefused: () => {}, onUnable: () => {} },
})
const client = {
  ask: async () => {
    throw new Error('nothing is asked')
  },
  sign: (_kind: string, body: object) => {
    number += 1
    return { digest: `${process.pid}-${number}`, bytes: Buffer.from(JSON.stringify(body)) }
  },
  publish: () => {},
}
// The epoch is what the first pull learns.
store.run(`INSERT OR IGNORE INTO sync_facts VALUES ('epoch', '1')`)
sync.resume()
const signed = new Map<Uint8Array, string>()
outbox.attach({
  kinds: ['sync_push'],
  sign: (body) => {
    const made = client.sign('sync_push', body)
    signed.set(made.bytes, made.digest)
    return made
  },
  publish: (_kind, bytes) => {
    const { entries } = JSON.parse(Buffer.from(bytes).toString()) as { entries: SyncEntry[] }
    const digest = signed.get(bytes) ?? ''
    setImmediate(() => {
      const said = gateway.transaction(() => entries.map(apply))
      outbox.receive([{ digest, ok: true, result: { epoch: 1, entries: said } }], 'sync-applier')
    })
  },
})
sync.attach(client, ['sync_push'])

const next = (): number => {
  const has = sync.objects.list({}).objects.length > 0
  return has ? Number(sync.objects.get(reviewer).paths.notes) + 1 : 1
}
const edit = (): void => {
  const n = next()
  sync.objects.set(reviewer, { notes: String(n) })
  process.stdout.write(`${n}\n`)
  setImmediate(edit)
}
if (mode === 'edit') edit()
else {
  await sync.push(60_000)
  sync.close()
  outbox.close()
}
