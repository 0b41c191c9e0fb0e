import type { PublicKey, SignerRecord } from '@lenserfight/envelope'

/** What is on record of a device. */
export interface DeviceRecord extends SignerRecord {
  /** The key before the one in force, as long as something that it signed may still be judged. */
  readonly formerKey?: PublicKey
}

/** Reads the records of signers; kids that nobody has are left out. */
export type LoadSigners = (kids: readonly string[]) => Promise<readonly DeviceRecord[]>

export interface SignerCache {
  /** The records of these kids, as far as there are any. */
  readonly find: (kids: ReadonlySet<string>) => Promise<ReadonlyMap<string, DeviceRecord>>
  /** The same, read anew now. */
  readonly refresh: (kids: ReadonlySet<string>) => Promise<ReadonlyMap<string, DeviceRecord>>
  /** Reads them anew the next time. */
  readonly forget: (kids: Iterable<string>) => void
  readonly size: () => number
}

/**
 * Keys of the devices seen last. It may be out of date: the claim compares the key that was checked with the one on
 * record, what a known key did not sign is checked again with the record read anew, and a key once known is never missing
 * later. Unknown kids are asked for each time.
 */
export const createSignerCache = (load: LoadSigners, capacity: number): SignerCache => {
  const records = new Map<string, DeviceRecord>()

  const put = (record: DeviceRecord): void => {
    records.delete(record.kid)
    records.set(record.kid, record)
    if (records.size <= capacity) return
    const [oldest] = records.keys()
    if (oldest !== undefined) records.delete(oldest)
  }
  const find = async (kids: ReadonlySet<string>): Promise<ReadonlyMap<string, DeviceRecord>> => {
    const found = new Map<string, DeviceRecord>()
    const missing: string[] = []
    for (const kid of kids) {
      const record = records.get(kid)
      if (record === undefined) missing.push(kid)
      else found.set(kid, record)
    }
    for (const record of found.values()) put(record)
    if (missing.length > 0) {
      for (const record of await load(missing)) {
        put(record)
        found.set(record.kid, record)
      }
    }
    return found
  }
  const refresh = async (kids: ReadonlySet<string>): Promise<ReadonlyMap<string, DeviceRecord>> => {
    const found = await load([...kids])
    for (const record of found) put(record)
    return new Map(found.map((record) => [record.kid, record]))
  }
  const forget = (kids: Iterable<string>): void => {
    for (const kid of kids) records.delete(kid)
  }
  return { find, refresh, forget, size: () => records.size }
}
