import type { Answer } from '@lenserfight/bus'
import type { Reply } from './request-desk.ts'

/** What is asked first, by who may know no key of the gateway yet: signing in, or an API key's status. */
const firstKinds = new Set(['login', 'status'])

/**
 * Gives a refused first request the gateway's key list to carry. Without the list the refusal could not be told from
 * anybody's, and would be no answer at all.
 */
export const teachKeys = (kind: string, reply: Reply, keyList: string): Omit<Answer, 'digest'> =>
  firstKinds.has(kind) && !reply.ok ? { ...reply, result: { keys: keyList } } : reply
