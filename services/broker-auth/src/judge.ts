import { checkSigner, type Message } from '@lenserfight/envelope'
import type { ReasonCode } from '@lenserfight/schemas'
import { type KnownSigner, permissionsFor, readConnect, secondsLeft, selfNamed } from './decide.ts'
import type { CalloutRequest } from './request.ts'
import type { Grant } from './response.ts'
import type { Store } from './store.ts'

export interface JudgeOptions {
  readonly gatewayId: string
  readonly store: Store
  /** Whether another connect by a key that nobody knows may be worked on now. */
  readonly mayBeUnproven: () => boolean
}

/** What became of a request. `kid` where it is known, unproven with a refusal. */
export type Judgement = { readonly grant: Grant } | { readonly code: ReasonCode; readonly kid?: string }

interface Found {
  readonly signer: KnownSigner | undefined
  readonly code?: ReasonCode
}

/**
 * Judges one connection: form, signer, signature, then the claim, which the database decides (protocol.md, Accounts).
 * @throws InfrastructureError when the database is gone: nobody gets in
 */
export const createJudge = ({ gatewayId, store, mayBeUnproven }: JudgeOptions) => {
  const find = async (message: Message): Promise<Found> => {
    const known = await store.signerOf(message.envelope.kid)
    if (known !== undefined) return { signer: known }
    const named = selfNamed(message)
    if (named !== undefined && !mayBeUnproven()) return { signer: undefined, code: 'rate_limited' }
    return { signer: named }
  }
  const judgeOnce = async (message: Message, request: CalloutRequest): Promise<Judgement | 'key_changed'> => {
    const { kid } = message.envelope
    const { signer, code } = await find(message)
    if (code !== undefined) return { code, kid }
    const refusal = checkSigner(message, signer, null)
    if (refusal !== null || signer === undefined) return { code: refusal?.code ?? 'unknown_device', kid }
    const claim = await store.claim({ message, publicKey: signer.publicKey, connection: request })
    if (claim.verdict === 'key_changed') return 'key_changed'
    const decided = permissionsFor(kid, claim)
    if ('code' in decided) return { code: decided.code, kid }
    const seconds = secondsLeft(claim, signer, Math.floor(Date.now() / 1000))
    return { grant: { kid, permissions: decided.permissions, ...(seconds === undefined ? {} : { seconds }) } }
  }
  return async (request: CalloutRequest): Promise<Judgement> => {
    const read = readConnect(request, gatewayId)
    if ('code' in read) return { code: read.code }
    const { message } = read
    // The key was replaced between the reading and the claim: the new one decides.
    const first = await judgeOnce(message, request)
    const judged = first === 'key_changed' ? await judgeOnce(message, request) : first
    return judged === 'key_changed' ? { code: 'signature_mismatch', kid: message.envelope.kid } : judged
  }
}
export type Judge = ReturnType<typeof createJudge>
