import Type, { type TSchema } from '../../typebox/index.mjs'

const uuidPattern = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'

/** Lower-case UUID of any version. */
export const Uuid = Type.String({ pattern: uuidPattern })
/** UUIDv7: its time is the operation's. */
export const OpId = Type.String({
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
})
/** 32 raw bytes (a public key or a SHA-256) as base64url without padding. */
export const Bytes32 = Type.String({ pattern: '^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$' })
/** 64 raw bytes (an Ed25519 signature) as base64url without padding. */
export const Bytes64 = Type.String({ pattern: '^[A-Za-z0-9_-]{85}[AQgw]$' })
/** 16 raw bytes as base64url without padding. */
export const Bytes16 = Type.String({ pattern: '^[A-Za-z0-9_-]{21}[AQgw]$' })
export const UnixSeconds = Type.Integer({ minimum: 0, maximum: 253402300799 })
export const UnixMilliseconds = Type.Integer({ minimum: 0, maximum: 253402300799999 })
/**
 * Rises with every envelope that a device signs for the `in` door and is used once (protocol.md, Clone detection): a second
 * use of one proves that two hold the device's key. Not of an operation's content, since each attempt has its own.
 */
export const Counter = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
export const ShortText = (max: number) => Type.String({ minLength: 1, maxLength: max })
export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

/** A body: its kind, the gateway that it is for, and its own members; nothing else is allowed. */
export const body = <K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) =>
  Type.Object({ kind: Type.Literal(kind), aud: Uuid, ...properties }, { additionalProperties: false })

/** A body that asks for a change: it carries the operation's id. */
export const operation = <K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) =>
  body(kind, { op_id: OpId, ...properties })

/** What a device says through the `in` door: it carries the device's counter. */
export const counted = <K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) =>
  body(kind, { counter: Counter, ...properties })

/** The same, asking for a change. */
export const countedOperation = <K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) =>
  operation(kind, { counter: Counter, ...properties })
