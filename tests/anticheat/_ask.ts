import { call } from '@lenserfight/db'
import type { KindName, ReasonCode } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import type { Outcome, Roles } from './_roads.ts'
import { type Said, type Sealed, seal } from './_seal.ts'

/** The function that does what each request of the ask door asks for. */
const functions: Partial<Record<KindName, string>> = {
  register: 'devices.fn_device_register_with_key',
  approve: 'devices.fn_device_approve',
  revoke: 'devices.fn_device_revoke',
  suspend: 'devices.fn_device_suspend',
  reinstate: 'devices.fn_device_reinstate',
  rotation_require: 'devices.fn_device_rotation_require',
  runner_bind: 'execution.fn_runner_bind',
  policy_set: 'agents.fn_policy_set',
  approval_decide: 'agents.fn_approval_decide',
  session_revoke: 'lensers.fn_session_revoke',
  api_key_create: 'lensers.fn_api_key_create',
}

/** Claims a request as the registrar does that found its signature good. Returns the verdict. */
export const claimRequestAs = async (roles: Roles, signer: Signatory, sealed: Sealed): Promise<string> => {
  const { kind, nonce, iat, digest } = sealed
  const public_key = Buffer.from(signer.keys.publicKey).toString('base64url')
  const claim = JSON.stringify({ kid: signer.kid, kind, nonce, iat, digest, public_key })
  const [row] = await call<{ fn_claim_ask: { verdict: string } }>(roles.pool('ltg_registrar'), 'devices.fn_claim_ask', [
    claim,
  ])
  return row?.fn_claim_ask.verdict ?? 'nothing'
}

/** Does what a request asks for, with the registrar's role. */
export const doAs = async (roles: Roles, { kind, text }: Sealed): Promise<Outcome> => {
  const [row] = await call<Record<string, Outcome>>(roles.pool('ltg_registrar'), functions[kind] ?? '', [text])
  return Object.values(row ?? {})[0] as Outcome
}

/** Asks for something with nobody but the registrar's role before the database. */
export const askAs = async (roles: Roles, gatewayId: string, signer: Signatory, said: Said): Promise<Outcome> => {
  const sealed = seal(gatewayId, signer, said)
  const verdict = await claimRequestAs(roles, signer, sealed)
  return verdict === 'ok' ? doAs(roles, sealed) : { digest: sealed.digest, ok: false, code: verdict as ReasonCode }
}
