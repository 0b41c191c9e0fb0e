import { connectGateway, createGatewayClient, createTrust, type TrustOptions } from '@lenserfight/daemon'
import { type ClockReading, type DeviceStanding, measureClock, readDeviceKeys } from '@lenserfight/daemon/checks'
import { type Enrolled, takeInstanceLock } from '@lenserfight/daemon/client'
import { createSigner } from '@lenserfight/envelope'
import { CodedError, type Descriptor, deviceLevels, isReasonCode } from '@lenserfight/schemas'
import Type, { Check } from '@lenserfight/schemas/typebox'
import type { Context } from '../context.ts'
import { connectOwner } from '../owner/connect.ts'
import type { Facts, Report } from './facts.ts'

/** What somebody on this machine heard from the gateway, and who asked. */
export interface Heard {
  readonly by: 'session' | 'device' | 'daemon'
  readonly clock: ClockReading
  readonly standing: DeviceStanding | undefined
}

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))
/** What a device's status, its line in the owner's list, and the daemon's own status have in common. */
const Standing = Type.Object({
  trust_level: Type.Enum([...deviceLevels]),
  trust_reason: Nullable(Type.String()),
  challenge_verified: Type.Optional(Type.Boolean()),
  key_expires_at: Nullable(Type.Number()),
  paused: Type.Optional(Type.Boolean()),
})

const standingOf = (value: unknown, code?: unknown): DeviceStanding | undefined =>
  Check(Standing, value) ? { ...value, ...(isReasonCode(code) ? { code } : {}) } : undefined

const status = ['status', { keys_number: 0 }] as const

const askAsOwner = async (context: Context, deadlineMs: number, deviceId: string | undefined): Promise<Heard> => {
  const owner = await connectOwner(context)
  try {
    const { answer, clock } = await measureClock(() => owner.ask(...status, { deadlineMs }))
    if (!answer.ok || deviceId === undefined) return { by: 'session', clock, standing: undefined }
    const { devices } = (await owner.request('list', {})) as { devices?: { device_id?: unknown }[] }
    const own = devices?.find(({ device_id }) => device_id === deviceId)
    // Of the account, so the session's own status says it.
    const standing = standingOf({ ...own, paused: answer.result?.paused === true })
    return { by: 'session', clock, standing }
  } finally {
    await owner.close()
  }
}

/** Whoever holds the instance lock may sign for the device: no daemon does at the same time. */
const askAsDevice = async (context: Context, deadlineMs: number, facts: Facts): Promise<Heard> => {
  const { identity, descriptor } = facts
  if (identity === undefined) throw new CodedError('not_enrolled')
  if (descriptor === undefined) throw new CodedError('descriptor_missing')
  const unlock = takeInstanceLock(context.edge.lockFile)
  try {
    return await askWithKey(context, deadlineMs, { identity, descriptor })
  } finally {
    unlock()
  }
}

const askWithKey = async (
  context: Context,
  deadlineMs: number,
  { identity, descriptor }: { identity: Enrolled; descriptor: Descriptor },
): Promise<Heard> => {
  const settings = context.settings()
  const keys = await readDeviceKeys(await context.keychain(), identity)
  const { device_id: kid, lenser } = identity
  const connection = { url: descriptor.url, gatewayId: descriptor.gateway_id, kid, lenser, key: keys.privateKey }
  const link = await connectGateway(connection)
  try {
    const onKeys: TrustOptions['onKeys'] = (choose) => settings.update('keys', choose)
    const trust = createTrust({ descriptor, keys: settings.get('keys'), onKeys })
    const client = createGatewayClient({ link, lenser, trust, signer: createSigner({ kid, key: keys.privateKey }) })
    const { answer, clock } = await measureClock(() => client.ask(...status, { deadlineMs }))
    return { by: 'device', clock, standing: answer.ok ? standingOf(answer.result) : undefined }
  } finally {
    await link.close()
  }
}

/** What the running daemon heard last. */
const askDaemon = (report: Report): Heard => {
  const { clock_offset_ms: offset, code } = report
  if (typeof offset !== 'number') throw new CodedError(isReasonCode(code) ? code : 'gateway_unreachable')
  const clock = { offset_ms: Math.round(offset), uncertainty_ms: 1_000 }
  return { by: 'daemon', clock, standing: standingOf(report, code) }
}

/** Whoever asks, it is the same gateway: if it does not answer one of us, it does not answer. */
const isGone = ({ code }: CodedError): boolean => code === 'gateway_unreachable' || code === 'answer_timeout'

const tryEach = async (ways: readonly (() => Promise<Heard>)[]): Promise<Heard> => {
  let first: CodedError | undefined
  for (const ask of ways) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof CodedError) || isGone(error)) throw error
      first ??= error
    }
  }
  throw first ?? new CodedError('not_signed_in')
}

/**
 * Asks the gateway for its time, and what it says of this device: as whoever is signed in, else as the device where no
 * daemon runs, else what the daemon heard last.
 * @throws CodedError `gateway_unreachable`, `answer_timeout`; or why nobody is signed in, where no other can ask either
 */
export const askGateway = (context: Context, facts: Facts, deadlineMs: number): Promise<Heard> =>
  tryEach([
    () => askAsOwner(context, deadlineMs, facts.identity?.device_id),
    () => askAsDevice(context, deadlineMs, facts),
    async () => askDaemon(await facts.daemon()),
  ])
