import { existsSync, readdirSync } from 'node:fs'
import { arch, platform, release, type } from 'node:os'
import {
  describeKey,
  type Enrolled,
  enrolledOf,
  fingerprintOf,
  type Identity,
  takeInstanceLock,
} from '@lenserfight/daemon/client'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { ensureKeyPair } from '@lenserfight/keychain'
import { CodedError, reasonOf } from '@lenserfight/schemas'
import type { CliConfig } from '../config.ts'
import type { Context } from '../context.ts'
import { enrolledHere } from '../daemon.ts'
import { fingerprintWords } from '../fingerprint.ts'
import { linesOfKey } from '../key-lines.ts'
import { machineName } from '../machine-name.ts'
import { plain } from '../output.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { listDevices } from '../owner/devices.ts'
import type { DeviceType } from './device-types.ts'

export interface InitArguments {
  readonly name?: string | undefined
  readonly type?: DeviceType | undefined
}

const batteryFolder = '/sys/class/power_supply'

const guessType = ({ isCi, hasDisplay }: CliConfig): DeviceType => {
  if (isCi) return 'ci'
  if (existsSync(batteryFolder) && readdirSync(batteryFolder).some((name) => name.startsWith('BAT'))) return 'laptop'
  return platform() === 'linux' && !hasDisplay ? 'server' : 'desktop'
}

const nameOf = (given: string | undefined): string => machineName(given) ?? 'unnamed'

/** What this machine registers as. */
const wanted = (context: Context, given: InitArguments, { session, descriptor }: Owner) => ({
  name: nameOf(given.name),
  device_type: given.type ?? guessType(context.config),
  os: `${type()} ${release()} ${arch()}`.slice(0, 64),
  gateway_id: descriptor.gateway_id,
  lenser: session.lenser,
})

/** Whether an enrolled identity is of no use any more, so that another may take its place. */
const isSpent = async (
  context: Context,
  owner: Owner,
  { device_id, challenge_op, lenser }: Enrolled,
): Promise<boolean> => {
  if (lenser !== owner.session.lenser) return false
  const { devices } = await listDevices(owner)
  const device = devices.find((each) => each.device_id === device_id)
  if (device !== undefined && device.trust_level !== 'revoked') {
    // A challenge that was not answered in time can only be had anew.
    const row = context.store().get<{ state: string }>('SELECT state FROM operations WHERE op_id = ?', challenge_op)
    return device.trust_level === 'pending' && !device.challenge_verified && row?.state === 'failed'
  }
  return device !== undefined
}

/** @throws CodedError `already_enrolled` where this machine has an identity that is of use */
const checkSpent = async (context: Context, owner: Owner): Promise<void> => {
  const enrolled = enrolledOf(context.settings().get('identity'))
  if (enrolled === undefined || (await isSpent(context, owner, enrolled))) return
  throw new CodedError('already_enrolled', plain(enrolled.name))
}

/**
 * Has this machine's identity for itself: two that enrol it at once would make two keys of one name, or take the identity
 * away from each other; and a daemon of the old identity would go on signing in its name.
 * @returns gives it up
 * @throws CodedError `daemon_running`, also where another `init` is at it; `already_enrolled`
 */
const holdIdentity = async (context: Context, owner: Owner): Promise<() => void> => {
  try {
    return takeInstanceLock(context.edge.lockFile)
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'daemon_running') throw error
    await checkSpent(context, owner)
    throw new CodedError(error.code, 'or something else has this identity: try again', { cause: error })
  }
}

/** Removes every key of an identity that is none any more. */
const forgetKeys = async (context: Context, { key_name, changes = [], spent_keys = [] }: Identity): Promise<void> => {
  const keychain = await context.keychain()
  for (const name of [key_name, ...changes.map((change) => change.key_name), ...spent_keys]) await keychain.delete(name)
}

/** The identity to register: the one begun before if it says the same, else a new one under a new key. */
const beginIdentity = async (context: Context, owner: Owner, given: InitArguments): Promise<Identity> => {
  const settings = context.settings()
  const before = settings.get('identity')
  const enrolled = enrolledOf(before)
  await checkSpent(context, owner)
  const now = wanted(context, given, owner)
  const isSame = Object.entries(now).every(([name, value]) => before?.[name as keyof Identity] === value)
  if (before !== undefined && enrolled === undefined && isSame) return before
  const op_id = newUuidV7()
  const identity: Identity = { ...now, op_id, key_name: `device-${op_id}` }
  settings.set('identity', identity)
  if (before !== undefined) await forgetKeys(context, before)
  return identity
}

/** Registers; a refusal for good means that the next try is another registration. */
const register = async (context: Context, owner: Owner, identity: Identity, publicKey: string) => {
  const { op_id, name, device_type, os } = identity
  const body = { op_id, name, device_type, os, public_key: publicKey, capabilities: ['execution'] }
  try {
    return (await owner.request('register', body)) as { device_id: string; challenge: string }
  } catch (error) {
    if (error instanceof CodedError && reasonOf(error.code).next === 'stop') {
      context.settings().delete('identity')
      await forgetKeys(context, identity)
    }
    throw error
  }
}

/** Registers this machine under a key of its own, or goes on with what was begun. */
const enrol = async (context: Context, owner: Owner, given: InitArguments) => {
  const unlock = await holdIdentity(context, owner)
  try {
    const identity = await beginIdentity(context, owner, given)
    const keys = await ensureKeyPair(await context.keychain(), identity.key_name)
    const public_key = encodeKey(keys.publicKey)
    const { device_id, challenge } = await register(context, owner, identity, public_key)
    const enrolled = { ...identity, device_id, public_key, challenge, challenge_op: newUuidV7() }
    context.settings().set('identity', { ...enrolled, registered_at: Math.floor(Date.now() / 1000) })
    return enrolled
  } finally {
    unlock()
  }
}

/**
 * `lf gateway identity init`: makes this machine's key and registers it (RFC-0003 §5). Taken again after a crash, it
 * goes on where it was: the key's name is kept before the key, and the operation's id before it is sent.
 */
export const initIdentity = (context: Context, given: InitArguments): Promise<void> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const { device_id, name, public_key } = await enrol(context, owner, given)
    const words = fingerprintWords(public_key)
    output.result(
      { ok: true, device_id, name, trust_level: 'pending', fingerprint: fingerprintOf(public_key), words },
      [
        `Registered as ${plain(name)}, device ${device_id}.`,
        `Key    ${fingerprintOf(public_key)}`,
        `Words  ${words}`,
        `Next: \`lf gateway serve\` here, then \`lf gateway approve-device ${device_id}\` as its owner, comparing the words.`,
      ],
    )
  })

/** `lf gateway identity show`: the public half of this machine's identity. */
export const showIdentity = async (context: Context): Promise<void> => {
  const identity = enrolledHere(context)
  const { device_id, name, device_type, os, lenser, gateway_id, public_key } = identity
  const key = describeKey(identity)
  context.output.result(
    {
      ...{ ok: true, device_id, name, device_type, os, lenser_id: lenser, gateway_id, public_key, key },
      ...{ fingerprint: key.fingerprint, words: fingerprintWords(public_key) },
    },
    [
      `Device   ${device_id}`,
      `Name     ${plain(name)}`,
      `Lenser   ${lenser}`,
      `Gateway  ${gateway_id}`,
      ...linesOfKey(public_key, key),
      ...key.changing.map((kind) => `Change   ${kind} is under way`),
    ],
  )
}

/** `lf gateway identity export-public`: the public key alone, for programs and people who are to check what this device signed. */
export const exportPublic = async (context: Context, { fingerprint }: { fingerprint: boolean }): Promise<void> => {
  const identity = enrolledHere(context)
  const { device_id, public_key } = identity
  const key = describeKey(identity)
  context.output.result(
    {
      ...{ ok: true, device_id, algorithm: 'ed25519', public_key, key_number: key.number },
      ...{ fingerprint: key.fingerprint, words: fingerprintWords(public_key) },
    },
    [fingerprint ? key.fingerprint : public_key],
  )
}
