import {
  Bytes32,
  isReasonCode,
  limits,
  objectIdPattern,
  type ReasonCode,
  reasonCodes,
  Uuid,
} from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'

/** Limits of the local socket: who may reach it is this user alone, and may still be broken. */
export const socketLimits = {
  lineBytes: 512 * 1024,
  connections: 64,
  requestsPerConnection: 16,
  /** A line must be whole within this, milliseconds. */
  lineMs: 10_000,
  /** The longest that a request may ask to wait, milliseconds. */
  waitMs: 10 * 60_000,
  /** Answers that a client does not read pile up to this many bytes. */
  unreadBytes: 4 * 1024 * 1024,
} as const

const TimeoutMs = Type.Integer({ minimum: 0, maximum: socketLimits.waitMs })
const ApprovalTimeoutMs = Type.Integer({ minimum: 0, maximum: limits.approvalMaxSeconds * 1000 })
/** A body of the contract without what the daemon adds: kind, aud and op_id. */
const Partial = Type.Record(Type.String(), Type.Unknown())
const Outcome = Type.Union([
  Type.Object({ ok: Type.Literal(true), result: Partial }, { additionalProperties: false }),
  Type.Object({ ok: Type.Literal(false), code: Type.Enum([...reasonCodes]) }, { additionalProperties: false }),
])
const closed = { additionalProperties: false } as const
const ClassName = Type.String({ minLength: 1, maxLength: 64 })
const objectName = { class: ClassName, object: Type.String({ pattern: objectIdPattern }) }
const Named = Type.Object(objectName, closed)

/** The methods, with what each takes. */
export const methods = {
  status: Type.Object({}, closed),
  /** Asks for a run; its permit, once the policy, or a person where the policy wants one, allows it. */
  'run.permit': Type.Object(
    { run: Partial, timeout_ms: TimeoutMs, approval_timeout_ms: Type.Optional(ApprovalTimeoutMs) },
    closed,
  ),
  /** The permit of a run that awaits a person, once one approved it. */
  'run.approval': Type.Object({ run_id: Uuid, approval_timeout_ms: ApprovalTimeoutMs }, closed),
  /** Takes back a run that awaits a person, or has not begun since: it frees its place, and nobody can approve it any more. */
  'run.withdraw': Type.Object({ run_id: Uuid, timeout_ms: Type.Optional(TimeoutMs) }, closed),
  /** It begins to run now. */
  'run.start': Type.Object({ run_id: Uuid }, closed),
  /** Logs that it is to use a tool, and whether it may. */
  'run.tool': Type.Object(
    { run_id: Uuid, tool: Type.String(), arguments_hash: Bytes32, timeout_ms: Type.Optional(TimeoutMs) },
    closed,
  ),
  /** Its runner is alive; what the policy says of it by now. */
  'run.heartbeat': Type.Object({ run_id: Uuid, timeout_ms: Type.Optional(TimeoutMs) }, closed),
  /** It has ended: attests it. */
  'run.complete': Type.Object({ attestation: Partial, timeout_ms: TimeoutMs }, closed),
  /** Rotates this device's key; one that is under way is the same. */
  'identity.rotate': Type.Object({ timeout_ms: TimeoutMs }, closed),
  /** Makes the key of a reproof, for the owner to ask the gateway with. */
  'identity.prepare': Type.Object({}, closed),
  /** What the gateway answered the owner. */
  'identity.settle': Type.Object({ op_id: Type.String(), outcome: Outcome }, closed),
  /** Changes paths of an object, made where there is none; null deletes a path. */
  'objects.set': Type.Object({ ...objectName, paths: Partial }, closed),
  'objects.delete': Named,
  'objects.undelete': Named,
  /** Gives up the edits of an object that was set aside. */
  'objects.discard': Named,
  'objects.get': Named,
  'objects.list': Type.Object(
    {
      class: Type.Optional(ClassName),
      deleted: Type.Optional(Type.Boolean()),
      /** The last one of the page before, `<class>/<object>`. */
      after: Type.Optional(Type.String({ maxLength: 200 })),
    },
    closed,
  ),
  /** How this machine's objects stand to the gateway's. */
  'sync.status': Type.Object({}, closed),
  /** Reads the feed now. */
  'sync.pull': Type.Object({ timeout_ms: TimeoutMs }, closed),
  /** Flushes edits now, or tells which would be. */
  'sync.push': Type.Object({ dry_run: Type.Optional(Type.Boolean()), timeout_ms: TimeoutMs }, closed),
  canary: Type.Object({ timeout_ms: TimeoutMs }, closed),
  'operation.wait': Type.Object({ op_id: Type.String(), timeout_ms: TimeoutMs }, closed),
} as const
export type MethodName = keyof typeof methods
export type MethodParams<N extends MethodName> = Static<(typeof methods)[N]>

const RequestId = Type.Union([Type.Integer({ minimum: 0 }), Type.String({ minLength: 1, maxLength: 64 })])
export type RequestId = Static<typeof RequestId>
const Request = Type.Object({ id: RequestId, method: Type.String(), params: Type.Optional(Type.Unknown()) }, closed)

/** One request; it is of its method's form. */
export type SocketRequest = { [N in MethodName]: { id: RequestId; method: N; params: MethodParams<N> } }[MethodName]

export type SocketResponse =
  | { readonly id: RequestId | null; readonly ok: true; readonly result: Readonly<Record<string, unknown>> }
  | {
      readonly id: RequestId | null
      readonly ok: false
      readonly code: ReasonCode
      readonly detail?: string
      /** Of a run that may not begin. */
      readonly run_id?: string
      readonly reason?: string
    }

const refusal = (id: RequestId | null, detail: string): SocketResponse => ({ id, ok: false, code: 'usage', detail })

/** Reads one line. What is no request of a known method is its refusal. */
export const parseRequest = (
  line: string,
): { readonly request: SocketRequest } | { readonly refusal: SocketResponse } => {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return { refusal: refusal(null, 'a line is not JSON') }
  }
  if (!Check(Request, value)) return { refusal: refusal(null, 'a request has id, method and params') }
  const { id, method, params = {} } = value
  if (!Object.hasOwn(methods, method)) return { refusal: refusal(id, 'there is no such method') }
  if (!Check(methods[method as MethodName], params)) return { refusal: refusal(id, 'the params are not the method’s') }
  return { request: { id, method, params } as SocketRequest }
}

/** Reads one line of the daemon's. Undefined for what is no response. */
export const parseResponse = (line: string): SocketResponse | undefined => {
  let value: Partial<SocketResponse> | null
  try {
    value = JSON.parse(line) as Partial<SocketResponse> | null
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  if (value.ok === true) return typeof value.result === 'object' ? (value as SocketResponse) : undefined
  return value.ok === false && isReasonCode(value.code) ? (value as SocketResponse) : undefined
}
