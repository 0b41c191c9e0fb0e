import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { enrolledOf } from '@lenserfight/daemon/client'
import { decodeKey, encodeKey, publicKeyOf } from '@lenserfight/envelope'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type Machine, withSettings } from './_machine.ts'

export const identityOf = (machine: Machine) =>
  withSettings(machine, (settings) => {
    const identity = enrolledOf(settings.get('identity'))
    if (identity === undefined) throw new Error('the machine is not enrolled')
    return identity
  })

const textOf = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Public halves of the device's keys in the machine's keychain, by name. */
export const keptKeys = (machine: Machine): Map<string, string> => {
  const folder = join(machine.state, 'keys')
  const names = readdirSync(folder).filter((name) => /^device-.*\.key$/.test(name))
  const keys = names.flatMap((name): [string, string][] => {
    const text = textOf(join(folder, name))
    // Forgotten since it was listed.
    if (text === undefined) return []
    return [[name.replace(/\.key$/, ''), encodeKey(publicKeyOf(decodeKey(text.trim())))]]
  })
  return new Map(keys)
}

/** The key that the gateway has in force, and its number. */
export const keyInForce = (stack: Stack, deviceId: string) =>
  withClient(stack.owner, async (client) => {
    const { rows } = await client.query(
      `SELECT devices.fn_b64url(public_key) AS key, key_number::int AS number FROM devices.registered_devices WHERE id = $1`,
      [deviceId],
    )
    return rows[0] as { key: string; number: number }
  })
