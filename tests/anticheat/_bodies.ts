import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { type KindName, kinds, kindsOf } from '@lenserfight/schemas'
import type { InKind } from './_roads.ts'
import { attestationOf, hashOf, heartbeatOf, nobodys, type Party, runStartOf } from './_scene.ts'
import type { Said } from './_seal.ts'

const key = (): string => encodeKey(generateKeyPair().publicKey)

/** One body of each kind of the ingress door, in the form that its kind wants, about the party's own. `run`: one of its runs. */
export const ingressBodies = (party: Party, run: string): Record<InKind, Said> => ({
  challenge: { kind: 'challenge', device_id: party.device.kid, challenge: hashOf(1).slice(0, 21).concat('A') },
  heartbeat: heartbeatOf(party),
  run_start: runStartOf(party, { submission_id: undefined }),
  run_renew: { kind: 'run_renew', runs: [run] },
  run_withdraw: { kind: 'run_withdraw', run_id: run },
  tool_invocation: { kind: 'tool_invocation', run_id: run, seq: 1, tool: 'shell', arguments_hash: hashOf(1) },
  attestation: attestationOf({ run_id: run, lens_hash: hashOf(4), workflow_hash: hashOf(5) }),
  rotate: {
    kind: 'rotate',
    device_id: party.device.kid,
    new_public_key: key(),
    proof: Buffer.alloc(64).toString('base64url'),
  },
  lifecycle: { kind: 'lifecycle', event: 'start', daemon_version: '0.1.0', at: Date.now() },
  canary: { kind: 'canary', sent_at: Date.now() },
  sync_push: {
    kind: 'sync_push',
    epoch: 1,
    entries: [
      {
        ...{ class: 'agent_config', object: 'reviewer', incarnation: 1, prev: null },
        ...{ clock: { [`${party.device.kid}~1`]: 1 }, paths: { $life: true, name: 'Reviewer' } },
      },
    ],
  },
  sync_pull: {
    kind: 'sync_pull',
    epoch: null,
    cursors: { agent_config: 0 },
    report: { pending: 0, set_aside: 0, diverged: [] },
  },
})

const device_id = nobodys()
/** One request of each kind that sessions make at the ask door; what they ask for is nobody's, so that asking changes nothing. */
const requests: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  login: { public_key: key(), token: `${'a'.repeat(16)}.b.c` },
  register: { name: newUuidV7(), device_type: 'ci', os: 'linux', public_key: key(), capabilities: [] },
  approve: { device_id },
  revoke: { device_id },
  suspend: { device_id },
  reinstate: { device_id },
  rotation_require: { device_id, within_seconds: 60 },
  reprove: { device_id, new_public_key: key(), proof: Buffer.alloc(64).toString('base64url') },
  runner_bind: { name: 'runner', device_id },
  runner_unbind: { runner_id: nobodys() },
  policy_set: {},
  approval_decide: { run_id: nobodys(), decision: 'approve' },
  explain: { id: nobodys() },
  session_revoke: { session: nobodys() },
  api_key_create: { name: newUuidV7(), public_key: key(), may_approve: false, expires_in_days: 1 },
  audit_verify: { chain_kind: 'gateway' },
  sync_resolve: { conflict_id: nobodys(), sides_digest: hashOf(1), winner: { base: true } },
  sync_undo: { resolution_id: nobodys() },
}
const isOfSession = (kind: KindName): boolean => (kinds[kind].signers as readonly string[]).includes('session')
export const askBodies = (): Said[] =>
  kindsOf('ask')
    .filter(isOfSession)
    .map((kind) => ({ kind, ...requests[kind] }))
