import Type, { type Static } from '../../typebox/index.mjs'
import { reasonCodes } from '../codes.ts'
import { Bytes32, body, OpId, ShortText, UnixSeconds, Uuid } from './common.ts'

const Code = Type.Enum([...reasonCodes])
const Result = Type.Record(Type.String(), Type.Unknown())
const outcome = {
  /** SHA-256 of the bytes received: what this is the answer to. */
  digest: Bytes32,
  ok: Type.Boolean(),
  code: Type.Optional(Code),
  detail: Type.Optional(ShortText(300)),
  result: Type.Optional(Result),
  retry_after: Type.Optional(Type.Integer({ minimum: 0, maximum: 3600 })),
  incident_id: Type.Optional(Uuid),
}

export const ReceiptItem = Type.Object({ ...outcome, op_id: Type.Optional(OpId) }, { additionalProperties: false })
/** Results of one batch for one device, in one signed message. `to` is the key id of the one addressed. */
export const ReceiptBody = body('receipt', {
  to: Uuid,
  time: UnixSeconds,
  items: Type.Array(ReceiptItem, { minItems: 1 }),
})
/** The answer to one request at the `ask` door. */
export const AnswerBody = body('answer', { to: Uuid, time: UnixSeconds, ...outcome })

/** What a gateway key may sign. */
export const keyUses = ['receipt', 'order', 'lease', 'answer'] as const
export type KeyUse = (typeof keyUses)[number]
export const GatewayKey = Type.Object(
  {
    kid: Uuid,
    public_key: Bytes32,
    service: ShortText(32),
    uses: Type.Array(Type.Enum([...keyUses]), { minItems: 1, maxItems: keyUses.length }),
    not_before: UnixSeconds,
    not_after: UnixSeconds,
  },
  { additionalProperties: false },
)
/** The gateway's keys, signed by its offline root key; a higher number replaces a lower. */
export const KeysBody = body('keys', {
  number: Type.Integer({ minimum: 1 }),
  issued_at: UnixSeconds,
  keys: Type.Array(GatewayKey, { minItems: 1, maxItems: 64 }),
})

/** What an edge is given out of band and pins; never learned from the broker. */
export const Descriptor = Type.Object(
  { url: ShortText(256), gateway_id: Uuid, root_key: Bytes32 },
  { additionalProperties: false },
)

export type ReceiptItem = Static<typeof ReceiptItem>
export type ReceiptBody = Static<typeof ReceiptBody>
export type AnswerBody = Static<typeof AnswerBody>
export type GatewayKey = Static<typeof GatewayKey>
export type KeysBody = Static<typeof KeysBody>
export type Descriptor = Static<typeof Descriptor>
