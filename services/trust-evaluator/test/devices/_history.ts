import { setTimeout as sleep } from 'node:timers/promises'
import { newUuidV7 } from '@lenserfight/envelope'
import { attestation, runStart } from '../_bodies.ts'
import type { Device, World } from '../_world.ts'

export const hours = (n: number): number => n * 3_600_000
export const days = (n: number): number => hours(24 * n)

/** Waits out the end of a UTC day, so that a test that counts days back from today sees one today. */
export const withinOneDay = async (): Promise<void> => {
  const left = days(1) - (Date.now() % days(1))
  if (left < 60_000) await sleep(left + 1000)
}

/** What a device's history is told to have been; ages in milliseconds. */
export interface History {
  /** Days (UTC) with a heartbeat, counted back from today; 0 is today. */
  readonly on?: readonly number[]
  /** Age of the last heartbeat; absent where there was none. */
  readonly heard?: number
  /** Age of its attestation; absent where there is none. */
  readonly attested?: number
}

/** As many days with a heartbeat, ending today. */
export const lately = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

/** What earns trust, and nothing more. */
export const worthy: History = { on: lately(7), heard: hours(1), attested: hours(2) }

/** Writes a history as the functions would have left it over the weeks. */
export const tell = async (world: World, device: Device, { on = [], heard, attested }: History): Promise<void> => {
  await world.owner.query(
    `INSERT INTO devices.heartbeat_days SELECT $1, (now() AT TIME ZONE 'UTC')::date - n FROM unnest($2::int[]) n`,
    [device.id, on],
  )
  const at = heard === undefined ? null : new Date(Date.now() - heard)
  await world.owner.query('UPDATE devices.registered_devices SET last_heartbeat_at = $2 WHERE id = $1', [device.id, at])
  if (attested !== undefined) await attest(world, device, attested)
}

/** A run of the device and its attestation, as the broker would have stored them then. Returns the run's id. */
export const attest = async (world: World, device: Device, age: number, named: object = {}): Promise<string> => {
  const stored = Date.now() - age
  const { result } = await world.send(device, runStart({ op_id: newUuidV7(stored), ...named }), { stored })
  const outcome = await world.send(device, attestation(result, { op_id: newUuidV7(stored) }), { stored })
  if (!outcome.ok) throw new TypeError(`attestation: ${outcome.code}`)
  return result.run_id
}
