import { randomBytes } from 'node:crypto'
import { limits, type Permissions, type ReasonCode } from '@lenserfight/schemas'
import type { JwtSigner } from './jwt.ts'
import type { CalloutRequest } from './request.ts'

/** What a connection is admitted to, and for how long at most. */
export interface Grant {
  readonly kid: string
  readonly permissions: Permissions
  /** Of the key that connects, or of a login that is yet to come. */
  readonly seconds?: number
}

/** An edge hears its answers and its orders, and needs no more subscriptions than these. */
const subscriptions = 16

const allow = (subjects: readonly string[]) => (subjects.length === 0 ? { deny: ['>'] } : { allow: subjects })

/** The user JWT: permissions and limits of one connection, with no leave to answer anybody (protocol.md, Accounts). */
const userClaims = ({ kid, permissions, seconds = Infinity }: Grant, userNkey: string, now: number) => {
  const lifetime = limits.userJwtMinSeconds + Math.random() * (limits.userJwtMaxSeconds - limits.userJwtMinSeconds)
  return {
    aud: 'EDGE',
    sub: userNkey,
    name: kid,
    jti: randomBytes(16).toString('hex'),
    iat: now,
    exp: now + Math.floor(Math.min(lifetime, seconds)),
    nats: {
      pub: allow(permissions.publish),
      sub: allow(permissions.subscribe),
      subs: subscriptions,
      data: -1,
      payload: limits.userPayloadBytes,
      type: 'user',
      version: 2,
    },
  }
}

const answer = (signer: JwtSigner, { serverId, userNkey }: CalloutRequest, nats: object): string =>
  signer.sign({
    aud: serverId,
    sub: userNkey,
    jti: randomBytes(16).toString('hex'),
    iat: Math.floor(Date.now() / 1000),
    nats: { ...nats, type: 'authorization_response', version: 2 },
  })

/** The answer that admits a connection. */
export const admit = (signer: JwtSigner, request: CalloutRequest, grant: Grant): string => {
  const now = Math.floor(Date.now() / 1000)
  return answer(signer, request, { jwt: signer.sign(userClaims(grant, request.userNkey, now)) })
}

/** The answer that refuses one: the client reads "Authorization Violation", the code is for the broker's log. */
export const refuseConnection = (signer: JwtSigner, request: CalloutRequest, code: ReasonCode): string =>
  answer(signer, request, { error: code })
