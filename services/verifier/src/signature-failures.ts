/** Signature failures by device, the worst first. */
export interface SignatureFailures {
  readonly count: (kid: string) => void
  readonly summary: () => { total: number; devices: { kid: string; failures: number }[] }
}

const keptDevices = 1000
const shownDevices = 20

/**
 * Counts failures against a device. Called only where the subject, whom the broker authenticated, and a well-formed
 * envelope both name it (law 8): whoever can write neither cannot blame it. The longest silent is forgotten first.
 */
export const createSignatureFailures = (): SignatureFailures => {
  const failures = new Map<string, number>()
  let total = 0
  const count = (kid: string): void => {
    total += 1
    const before = failures.get(kid) ?? 0
    failures.delete(kid)
    failures.set(kid, before + 1)
    if (failures.size <= keptDevices) return
    const [silent] = failures.keys()
    if (silent !== undefined) failures.delete(silent)
  }
  const summary = () => {
    const devices = [...failures].map(([kid, number]) => ({ kid, failures: number }))
    return { total, devices: devices.sort((a, b) => b.failures - a.failures).slice(0, shownDevices) }
  }
  return { count, summary }
}
