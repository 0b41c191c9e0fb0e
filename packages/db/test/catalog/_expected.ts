/** The schemas that are ours. */
export const ourSchemas = [
  'lensers',
  'devices',
  'execution',
  'agents',
  'lenses',
  'battles',
  'reputation',
  'xp',
  'audit',
  'auth',
  'public',
]

/**
 * Who may execute what: each role has exactly these functions. A new grant is written here by whoever makes it, so that
 * it is seen.
 */
export const grantedFunctions: Record<string, readonly string[]> = {
  ltg_broker_auth: [
    'devices.fn_admissions_kicked',
    'devices.fn_admissions_prune',
    'devices.fn_admissions_to_cut',
    'devices.fn_claim_connect',
    'devices.fn_signers',
  ],
  ltg_registrar: [
    'audit.fn_audit_verify',
    'devices.fn_claim_ask',
    'devices.fn_device_approve',
    'devices.fn_device_list',
    'devices.fn_device_post_challenge',
    'devices.fn_device_register_with_key',
    'devices.fn_device_reinstate',
    'devices.fn_device_reprove',
    'devices.fn_device_revoke',
    'devices.fn_device_rotate',
    'devices.fn_device_rotation_require',
    'devices.fn_device_suspend',
    'devices.fn_retired_keys',
    'devices.fn_signers',
    'devices.fn_status',
    'execution.fn_runner_bind',
    'lensers.fn_api_key_create',
    'lensers.fn_session_list',
    'lensers.fn_session_login',
    'lensers.fn_session_revoke',
  ],
  ltg_verifier: ['devices.fn_claim_ingress', 'devices.fn_claims_maintain', 'devices.fn_signers'],
  ltg_trust_evaluator: [
    'devices.fn_device_canary',
    'devices.fn_device_heartbeat',
    'devices.fn_device_lifecycle',
    'devices.fn_dismiss_fork',
    'devices.fn_fork_suspicions',
    'devices.fn_judge_fork',
    'devices.fn_mark_offline',
    'devices.fn_promote_trusted',
    'devices.fn_retired_keys',
    'devices.fn_settle_counters',
    'devices.fn_signers',
    'execution.fn_compute_submission_trust',
    'execution.fn_queue_compromised',
    'execution.fn_queue_invalidated',
    'execution.fn_record_execution_attestation',
    'execution.fn_reevaluate_due',
    'execution.fn_run_start',
  ],
  ltg_audit_chain: ['audit.fn_chain_link'],
  anon: ['auth.uid'],
  authenticated: [
    'audit.fn_chain_verify',
    'auth.uid',
    'execution.fn_get_run_trust',
    'execution.fn_get_submission_trust',
  ],
  service_role: ['auth.uid', 'devices.fn_device_block', 'devices.fn_device_unblock', 'devices.fn_invalidate_claims'],
}

/** The login roles of the services. */
export const serviceRoles = Object.keys(grantedFunctions).filter((role) => role.startsWith('ltg_'))

/** What people may read of their own; nobody may do more with any table, and no other role anything with one. */
export const readableByTheirOwners = [
  'agents.ai_lensers',
  'agents.approvals',
  'agents.policy_evaluations',
  'agents.quotas',
  'agents.tool_invocations',
  'agents.workspace_settings',
  'audit.hash_chains',
  'battles.battles',
  'battles.contenders',
  'battles.submissions',
  'devices.compromises',
  'devices.device_keys',
  'devices.identity_forks',
  'devices.registered_devices',
  'execution.attestations',
  'execution.links',
  'execution.runner_device_bindings',
  'execution.runners',
  'execution.runs',
  'execution.trust_evaluations',
  'lensers.profiles',
  'lenses.lenses',
  'lenses.version_changes',
  'lenses.versions',
  'lenses.workflows',
]

/** Evidence: never changed, never removed. */
export const appendOnly = [
  'agents.policy_evaluations',
  'agents.tool_invocations',
  'audit.hash_chains',
  'devices.claim_invalidations',
  'devices.compromises',
  'devices.identity_forks',
  'devices.operations',
  'execution.attestations',
  'execution.links',
  'execution.runs',
  'execution.trust_evaluations',
  'lenses.version_changes',
  'public.migrations',
]
