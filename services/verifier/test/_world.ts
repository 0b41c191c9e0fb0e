import { createPool, type Pool } from '@lenserfight/db'
import { createSigner, encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { type DeviceLevel, inSubject, type KindName } from '@lenserfight/schemas'
import { makeAccount, makeDevice, nextCounter, type Signatory } from '@lenserfight/testkit'
import { openRawEdge, type RawEdge, tapVerified, type VerifiedTap } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import type { ExecutionContext } from 'ava'

type Stack = Awaited<ReturnType<typeof testStack>>

export const digestOf = (bytes: Uint8Array): string => encodeBase64Url(envelopeDigest(bytes))

/** Broker, database, provisioner and verifiers, real ones; nobody who would refuse before the verifier does, nobody after it. */
export interface World {
  readonly stack: Stack
  readonly owner: Pool
  readonly edge: RawEdge
  readonly tap: VerifiedTap
  readonly device: (level?: DeviceLevel) => Promise<Signatory>
  /** A good heartbeat, or another body of a kind, with `aud` this gateway. */
  readonly sign: (device: Signatory, body?: object, at?: { iat?: number; nonce?: string }) => Uint8Array
  readonly subject: (device: Pick<Signatory, 'kid' | 'lenser'>, kind?: KindName) => string
  /** What `/readyz` of the first verifier says. */
  readonly health: () => Promise<{ status: number; body: Record<string, unknown> }>
  readonly close: () => Promise<void>
}

export const startWorld = async (verifiers = 1): Promise<World> => {
  const stack = await testStack({
    callout: false,
    replicas: {
      'broker-auth': 0,
      registrar: 0,
      verifier: verifiers,
      'trust-evaluator': 0,
      'sync-applier': 0,
      'audit-chain': 0,
    },
  })
  const logger = createLogger({ service: 'verifier', level: 'silent' })
  const owner = createPool({ ...stack.owner, max: 8, logger })
  const [edge, tap] = [await openRawEdge(stack), await tapVerified(stack)]
  const heartbeat = { kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' }
  return {
    ...{ stack, owner, edge, tap },
    device: async (level = 'approved') => {
      const { lenser } = await makeAccount(owner)
      return makeDevice(owner, { lenser, level })
    },
    sign: ({ kid, keys }, body = heartbeat, at = {}) =>
      createSigner({ kid, key: keys.privateKey }).sign({
        body: { aud: stack.descriptor.gateway_id, counter: nextCounter(), ...body },
        ...at,
      }).bytes,
    subject: ({ lenser, kid }, kind = 'heartbeat') => inSubject({ lenser, kid, kind }),
    health: () => readHealth(stack.dir),
    close: async () => {
      await Promise.all([edge.close(), tap.close(), owner.end()])
      await stack.stop()
    },
  }
}

const readHealth = async (dir: string): Promise<{ status: number; body: Record<string, unknown> }> => {
  const { readFile } = await import('node:fs/promises')
  const { port } = JSON.parse(await readFile(`${dir}/health/verifier.json`, 'utf8')) as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/readyz`)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** Looks again and again until something holds. */
export const eventually = async (t: ExecutionContext, look: () => Promise<boolean>, what: string): Promise<void> => {
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    if (await look().catch(() => false)) return
    await new Promise((done) => setTimeout(done, 50))
  }
  t.fail(`waited in vain: ${what}`)
}
