import { lookup } from 'node:dns/promises'
import { BlockList, isIPv6 } from 'node:net'
import { CodedError } from '@lenserfight/schemas'

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether an address, as the system writes it, is this machine's loopback. */
export const isLoopback = (address: string): boolean => loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')

const forbidden = (name: string, cause?: unknown): CodedError =>
  new CodedError('public_bind_forbidden', JSON.stringify(name), cause === undefined ? undefined : { cause })

/**
 * The address to listen on. What was given is resolved once, as listening would, and the address that came of it is what
 * is listened on: so `0`, `0x0`, `::0` and names are judged by what they mean, and cannot mean something else later (R1).
 * @param given an address or a name; an IPv6 address may stand in brackets
 * @throws CodedError `public_bind_forbidden` where any address that it means is not loopback, or it means none
 */
export const resolveBind = async (given: string): Promise<string> => {
  const name = /^\[(.*)\]$/.exec(given)?.[1] ?? given
  // An empty name means every address to whoever listens.
  if (name.trim() === '') throw forbidden(given)
  const found = await lookup(name, { all: true }).catch((cause: unknown) => {
    throw forbidden(given, cause)
  })
  const [first] = found
  if (first === undefined || !found.every(({ address }) => isLoopback(address))) throw forbidden(given)
  return first.address
}
