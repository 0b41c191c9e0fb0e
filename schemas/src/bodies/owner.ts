import Type, { type Static } from 'typebox'
import { deviceLevels } from '../ladders.ts'
import { limits } from '../limits.ts'
import { Bytes32, body, operation, ShortText, Uuid } from './common.ts'

/** Registers the session key that signs this envelope for the account that the token names. */
export const LoginBody = operation('login', {
  public_key: Bytes32,
  token: Type.String({
    minLength: 16,
    maxLength: limits.tokenBytes,
    pattern: '^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
  }),
})

/** RFC §5: a new device with its public key; it starts `pending` (DR-2). */
export const RegisterBody = operation('register', {
  name: Type.String({ minLength: 1, maxLength: limits.deviceNameChars, pattern: '^[^\\p{C}]+$' }),
  device_type: Type.Union([
    Type.Literal('desktop'),
    Type.Literal('laptop'),
    Type.Literal('server'),
    Type.Literal('ci'),
  ]),
  os: ShortText(64),
  public_key: Bytes32,
  capabilities: Type.Array(ShortText(32), { maxItems: 32 }),
})
export const ApproveBody = operation('approve', { device_id: Uuid })
export const RevokeBody = operation('revoke', { device_id: Uuid, reason: Type.Optional(ShortText(200)) })
export const ListBody = body('list', {
  trust: Type.Optional(Type.Enum([...deviceLevels])),
})
/** Binds a runner of the account to one of its devices; made by `name` where it does not exist (RH-1). */
export const RunnerBindBody = operation('runner_bind', { name: ShortText(64), device_id: Uuid })
/** What the gateway knows of the signer; a device or a session may ask. */
export const StatusBody = body('status', { keys_number: Type.Optional(Type.Integer({ minimum: 0 })) })
/** AU-4: verifies the account's own audit chain. */
export const AuditVerifyBody = body('audit_verify', { chain_kind: Type.Literal('gateway') })

export type LoginBody = Static<typeof LoginBody>
export type RegisterBody = Static<typeof RegisterBody>
export type ApproveBody = Static<typeof ApproveBody>
export type RevokeBody = Static<typeof RevokeBody>
export type ListBody = Static<typeof ListBody>
export type RunnerBindBody = Static<typeof RunnerBindBody>
export type StatusBody = Static<typeof StatusBody>
export type AuditVerifyBody = Static<typeof AuditVerifyBody>
