import type { Answer } from '@lenserfight/bus'
import type { Reply } from './request-desk.ts'

/**
 * Gives a refused login the gateway's key list to carry. Whoever signs in for the first time knows no key of the gateway
 * yet: without the list the refusal could not be told from anybody's, and would be no answer at all.
 */
export const teachKeys = (kind: string, reply: Reply, keyList: string): Omit<Answer, 'digest'> =>
  kind === 'login' && !reply.ok ? { ...reply, result: { keys: keyList } } : reply
