import { createSigner, encodeBase64Url, envelopeDigest, generateKeyPair } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { CodedError, type DeviceLevel, outSubject } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import type { Outbox, Sender } from '../outbox/types.ts'
import type { Enrolled } from '../settings.ts'
import { createCanary } from './canary.ts'
import { type NoStanding, openDeviceSession, type Standing } from './device-session.ts'
import type { Link } from './link.ts'
import type { GatewayTrust } from './trust.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const uuid = (last: string): string => `00000000-0000-4000-8000-00000000000${last}`
const [kid, lenser] = [uuid('c'), uuid('b')]
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

/** A device whose gateway answers every question after its state at once, and whose disk takes what `isFull` lets it. */
const open = (
  t: ExecutionContext,
  {
    level,
    isFull,
    keeps,
  }: { level: DeviceLevel; isFull: () => boolean; keeps: (said: Standing | NoStanding) => boolean },
) => {
  const write = (): void => {
    if (isFull()) throw new CodedError('state_unwritable')
  }
  let hear: (subject: string, bytes: Uint8Array) => void = () => {}
  const link: Link = {
    isConnected: () => true,
    publish: (_, bytes) => {
      const digest = encodeBase64Url(envelopeDigest(bytes))
      queueMicrotask(() => hear(outSubject(lenser, kid, 'answer'), Buffer.from(digest)))
    },
    onMessage: (listener) => {
      hear = listener
    },
    onEvent: () => {},
    reconnect: async () => {},
    close: async () => {},
  }
  const result = { trust_level: level, challenge_verified: false, paused: false }
  const trust = {
    descriptor: { url: 'nats://127.0.0.1:9', gateway_id: uuid('a'), root_key: '' },
    keysNumber: () => 1,
    offerKeys: () => false,
    open: (_: string, bytes: Uint8Array) => ({
      body: { digest: Buffer.from(bytes).toString(), ok: true, time: Math.floor(Date.now() / 1000), result },
      service: 'registrar',
    }),
  } as unknown as GatewayTrust
  const enqueued: string[] = []
  let attached: Sender | undefined
  const outbox = {
    enqueue: ({ kind }: { kind: string }) => {
      write()
      enqueued.push(kind)
    },
    attach: (sender: Sender) => {
      attached = sender
    },
    detach: () => {
      attached = undefined
    },
  } as unknown as Outbox
  const session = openDeviceSession({
    ...{ link, trust, outbox, logger, canary: createCanary() },
    identity: { lenser, device_id: kid, challenge: 'x', challenge_op: uuid('d') } as Enrolled,
    signer: createSigner({ kid, key: generateKeyPair().privateKey }),
    counter: { next: () => 1, reserve: () => {} },
    heartbeat: { start: () => {}, stop: () => {}, beatFor: () => {}, receive: () => {}, acceptedAt: () => null },
    runs: { attach: () => {}, detach: () => {}, receive: () => {} },
    timing: { pendingPollMs: 5, statusPollMs: 5 },
    onStanding: (said) => {
      if (!keeps(said)) write()
    },
  })
  t.teardown(session.end)
  return { session, enqueued, isAttached: () => attached !== undefined }
}

test('a challenge that a full disk kept from being answered is answered when there is room', async (t) => {
  let isFull = true
  const { session, enqueued, isAttached } = open(t, { level: 'pending', isFull: () => isFull, keeps: () => true })
  await session.refresh()
  t.deepEqual([enqueued, isAttached()], [[], false])
  isFull = false
  await soon()
  await session.refresh()
  t.deepEqual([enqueued, isAttached()], [['challenge'], true])
})

test('where a full disk cannot keep what a device’s state means, the daemon goes on, and keeps it at a later look', async (t) => {
  let isFull = true
  let kept = 0
  const { session } = open(t, {
    ...{ level: 'revoked', isFull: () => isFull },
    keeps: () => {
      if (!isFull) kept += 1
      return false
    },
  })
  await t.notThrowsAsync(session.refresh())
  isFull = false
  await soon()
  await session.refresh()
  t.true(kept > 0)
})
