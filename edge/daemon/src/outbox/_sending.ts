import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KindName } from '@lenserfight/schemas'
import type { GatewayClient } from '../gateway/client.ts'
import type { Outbox, Sender } from './types.ts'

export const newFile = (): string => join(mkdtempSync(join(tmpdir(), 'lf-outbox-')), 'state.db')

/** A run as nobody minds: no two are told apart but by their operation. */
export const plainRun = { command_hash: 'A'.repeat(43), inputs: [] }

export const add = (outbox: Outbox, kid: string, body: object = plainRun): string =>
  outbox.enqueue({ kid, kind: 'run_start', body: { ...body } }).opId

export interface Sent {
  readonly opId: string
  readonly digest: string
  readonly kind: KindName
  readonly bytes: Uint8Array
}

/**
 * A device's connection as the daemon hands it to its outbox, and what went over it.
 * @param isLost whether what is sent next is lost on its way
 */
export const createWire = (client: GatewayClient, isLost: () => boolean = () => false) => {
  const sent: Sent[] = []
  const signed = new Map<Uint8Array, Omit<Sent, 'kind'>>()
  const sender: Sender = {
    kinds: ['run_start', 'attestation', 'tool_invocation', 'rotate'],
    sign: (body) => {
      const { kind, op_id: opId } = body as { kind: KindName; op_id: string }
      const { digest, bytes } = client.sign(kind, body)
      signed.set(bytes, { opId, digest, bytes })
      return { digest, bytes }
    },
    publish: (kind, bytes) => {
      sent.push({ ...(signed.get(bytes) as Omit<Sent, 'kind'>), kind })
      if (!isLost()) client.publish(kind, bytes)
    },
  }
  return { sent, sender }
}
