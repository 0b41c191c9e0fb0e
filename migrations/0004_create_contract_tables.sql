-- The database's copies of the contract (@lenserfight/schemas). A test holds each to its original.
SET LOCAL ROLE ltg_owner;

-- The figures of the contract that SQL needs, by the contract's names and in its units.
CREATE FUNCTION devices.fn_limits() RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN '{
    "envelopeBytes": 262144,
    "iatWindowSeconds": 300,
    "storeLagSeconds": 900,
    "storeLeadSeconds": 5,
    "claimMarginSeconds": 60,
    "heartbeatFreshSeconds": 300,
    "reevaluateSeconds": 60,
    "permitSeconds": 60,
    "permitRenewSeconds": 20,
    "claimedTimeSlackSeconds": 5,
    "approvalSeconds": 600,
    "approvalMaxSeconds": 86400,
    "openRuns": 256,
    "renewalsPerRequest": 64,
    "renewalsPerRun": 50000,
    "deniedTools": 256,
    "runsPerAnswer": 500,
    "deniedToolsBytes": 2048,
    "runnersPerHeartbeat": 64,
    "heartbeatsPerSecond": 8,
    "toolInvocationsPerRun": 10000,
    "xpAttempts": 8,
    "xpRetryFloorSeconds": 5,
    "xpRetryCeilingSeconds": 3600,
    "operationKeepDays": 90,
    "operationMaxAgeDays": 89,
    "operationLeadSeconds": 300,
    "userJwtMaxSeconds": 3600,
    "connectionsPerDevice": 8,
    "connectionsPerSession": 64,
    "sessionSeconds": 2592000,
    "challengeSeconds": 86400,
    "apiKeysPerLenser": 50,
    "apiKeyMaxDays": 365,
    "keyMaxAgeDays": 90,
    "keyWarnDays": 14,
    "keyOverlapSeconds": 30,
    "keyChangesPerWindow": 8,
    "accountChangesPerHour": 600,
    "apiKeyChangesPerHour": 500,
    "deviceChangesPerHour": 30,
    "rotationRequireSeconds": 2592000,
    "counterSettleSeconds": 660,
    "counterKeepSeconds": 1800,
    "trustedHeartbeatDays": 7,
    "trustedWindowDays": 30,
    "offlineSeconds": 86400,
    "devicesPerLenser": 100,
    "lensesPerLenser": 200,
    "versionsPerLens": 1000,
    "agentsPerLenser": 100,
    "contendersPerBattle": 16,
    "submissionsPerContender": 100,
    "runFiles": 100,
    "deviceNameChars": 64,
    "objectBytes": 65536,
    "objectStateBytes": 212992,
    "objectPaths": 500,
    "clockActors": 64,
    "writesPerPath": 32,
    "objectsPerLenser": 20000,
    "entriesPerPush": 100,
    "pushStateBytes": 4194304,
    "pullRows": 1000,
    "pullBytes": 196608,
    "syncOutboxKeepDays": 30,
    "tombstoneKeepDays": 90,
    "leaderSeconds": 30,
    "conflictsPerAnswer": 50
  }'::jsonb;
END
$$;

-- One of them. With a literal name the planner folds the call into a constant.
CREATE FUNCTION devices.fn_limit(p_name text) RETURNS bigint
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_limit bigint := (devices.fn_limits() ->> p_name)::bigint;
BEGIN
  IF v_limit IS NULL THEN
    RAISE EXCEPTION 'there is no limit %', p_name USING ERRCODE = 'LT004';
  END IF;
  RETURN v_limit;
END
$$;

-- The reason codes that SQL may give, each with what the edge does next. Only `stop` ends an operation.
CREATE TABLE devices.reasons (
  code text PRIMARY KEY CHECK (code ~ '^[a-z_]+$'),
  next text NOT NULL CHECK (next IN ('stop', 'resign', 'wait'))
);
INSERT INTO devices.reasons (code, next) VALUES
  ('malformed_envelope', 'stop'),
  ('not_canonical', 'stop'),
  ('unsupported_version', 'stop'),
  ('unsupported_algorithm', 'stop'),
  ('kid_mismatch', 'resign'),
  ('kind_mismatch', 'resign'),
  ('audience_mismatch', 'stop'),
  ('unsupported_kind', 'stop'),
  ('malformed_body', 'stop'),
  ('unknown_device', 'wait'),
  ('signature_mismatch', 'resign'),
  ('iat_window', 'resign'),
  ('nonce_replay', 'resign'),
  ('device_pending', 'wait'),
  ('device_unhealthy', 'wait'),
  ('device_revoked', 'stop'),
  ('device_blocked', 'wait'),
  ('key_expired', 'wait'),
  ('key_reused', 'stop'),
  ('device_key_changed', 'stop'),
  ('proof_mismatch', 'stop'),
  ('identity_forked', 'wait'),
  ('claim_expired', 'resign'),
  ('op_id_conflict', 'stop'),
  ('op_expired', 'stop'),
  ('unknown_run', 'stop'),
  ('run_not_owned', 'stop'),
  ('already_attested', 'stop'),
  ('policy_denied', 'stop'),
  ('workspace_paused', 'wait'),
  ('approval_not_pending', 'stop'),
  ('run_withdrawn', 'stop'),
  ('run_ended', 'stop'),
  ('renewal_limit', 'stop'),
  ('run_limit', 'wait'),
  ('tool_out_of_order', 'stop'),
  ('runner_device_unfit', 'stop'),
  ('nothing_to_explain', 'stop'),
  ('unknown_runner', 'stop'),
  ('unknown_contender', 'stop'),
  ('unknown_submission', 'stop'),
  ('unknown_version', 'stop'),
  ('submission_taken', 'stop'),
  ('unknown_class', 'stop'),
  ('cloud_authoritative', 'stop'),
  ('local_only_class', 'stop'),
  ('object_too_large', 'stop'),
  ('invalid_object', 'stop'),
  ('object_limit', 'stop'),
  ('clock_reused', 'stop'),
  ('clock_ahead', 'stop'),
  ('out_of_order', 'wait'),
  ('not_leader', 'wait'),
  ('rate_limited', 'wait'),
  ('cursor_ahead', 'stop'),
  ('resync_required', 'stop'),
  ('unknown_conflict', 'stop'),
  ('conflict_changed', 'stop'),
  ('conflict_closed', 'stop'),
  ('unknown_resolution', 'stop'),
  ('device_name_taken', 'stop'),
  ('device_limit', 'stop'),
  ('change_limit', 'wait'),
  ('device_not_found', 'stop'),
  ('awaiting_device_challenge', 'wait'),
  ('challenge_mismatch', 'stop'),
  ('challenge_expired', 'stop'),
  ('not_owner', 'stop'),
  ('invalid_transition', 'stop'),
  ('reprove_needed', 'stop'),
  ('not_permitted', 'stop'),
  ('session_not_found', 'stop'),
  ('api_key_name_taken', 'stop'),
  ('api_key_limit', 'stop'),
  ('unknown_session', 'stop'),
  ('session_expired', 'stop'),
  ('token_invalid', 'stop'),
  ('token_not_bound', 'stop');

-- Which kinds a device in a state may send.
CREATE TABLE devices.kind_states (
  kind text NOT NULL,
  trust_level text NOT NULL,
  PRIMARY KEY (kind, trust_level)
);
INSERT INTO devices.kind_states (kind, trust_level) VALUES
  ('challenge', 'pending'),
  ('challenge', 'approved'),
  ('challenge', 'trusted'),
  ('challenge', 'offline'),
  ('challenge', 'unhealthy'),
  ('heartbeat', 'approved'),
  ('heartbeat', 'trusted'),
  ('heartbeat', 'offline'),
  ('heartbeat', 'unhealthy'),
  ('run_start', 'approved'),
  ('run_start', 'trusted'),
  ('run_start', 'offline'),
  ('run_renew', 'approved'),
  ('run_renew', 'trusted'),
  ('run_renew', 'offline'),
  ('run_withdraw', 'approved'),
  ('run_withdraw', 'trusted'),
  ('run_withdraw', 'offline'),
  ('run_withdraw', 'unhealthy'),
  ('tool_invocation', 'approved'),
  ('tool_invocation', 'trusted'),
  ('tool_invocation', 'offline'),
  ('attestation', 'approved'),
  ('attestation', 'trusted'),
  ('attestation', 'offline'),
  ('rotate', 'approved'),
  ('rotate', 'trusted'),
  ('rotate', 'offline'),
  ('rotate', 'unhealthy'),
  ('lifecycle', 'approved'),
  ('lifecycle', 'trusted'),
  ('lifecycle', 'offline'),
  ('lifecycle', 'unhealthy'),
  ('sync_push', 'approved'),
  ('sync_push', 'trusted'),
  ('sync_push', 'offline'),
  ('sync_pull', 'approved'),
  ('sync_pull', 'trusted'),
  ('sync_pull', 'offline'),
  ('leader', 'approved'),
  ('leader', 'trusted'),
  ('leader', 'offline'),
  ('canary', 'pending'),
  ('canary', 'approved'),
  ('canary', 'trusted'),
  ('canary', 'offline'),
  ('canary', 'unhealthy'),
  ('status', 'pending'),
  ('status', 'approved'),
  ('status', 'trusted'),
  ('status', 'offline'),
  ('status', 'unhealthy'),
  ('status', 'revoked'),
  ('status', 'blocked');

-- Which requests a session of a scope may make; `login` is for whoever is no session yet.
CREATE TABLE devices.session_kinds (
  kind text NOT NULL,
  scope text NOT NULL CHECK (scope IN ('owner', 'api', 'api_approver')),
  PRIMARY KEY (kind, scope)
);
INSERT INTO devices.session_kinds (kind, scope)
SELECT k.kind, s.scope
  FROM (VALUES
    ('register', 'any'), ('approve', 'approver'), ('revoke', 'approver'), ('suspend', 'approver'), ('reinstate', 'approver'),
    ('rotation_require', 'approver'), ('reprove', 'approver'), ('list', 'any'), ('runners', 'any'), ('runner_bind', 'any'),
    ('runner_unbind', 'any'), ('policy_show', 'any'), ('policy_test', 'any'), ('policy_set', 'owner'), ('approvals', 'any'),
    ('approval_decide', 'approver'), ('runs', 'any'), ('explain', 'any'), ('sessions', 'owner'),
    ('session_revoke', 'owner'), ('api_key_create', 'owner'), ('status', 'any'), ('audit_verify', 'any'), ('sync_status', 'any'),
    ('sync_conflicts', 'any'), ('sync_resolve', 'any'), ('sync_undo', 'any')
  ) AS k (kind, least)
  JOIN (VALUES ('owner', 3), ('api_approver', 2), ('api', 1)) AS s (scope, rank)
    ON s.rank >= CASE k.least WHEN 'any' THEN 1 WHEN 'approver' THEN 2 ELSE 3 END;

-- Every change of a device's trust level that there is, and who may cause it.
CREATE TABLE devices.trust_transitions (
  from_level text NOT NULL,
  to_level text NOT NULL,
  actor text NOT NULL CHECK (actor IN ('owner', 'server', 'platform')),
  PRIMARY KEY (from_level, to_level, actor)
);
INSERT INTO devices.trust_transitions (from_level, to_level, actor) VALUES
  ('pending', 'approved', 'owner'),
  ('approved', 'trusted', 'server'),
  ('approved', 'offline', 'server'),
  ('trusted', 'offline', 'server'),
  ('offline', 'approved', 'server'),
  ('offline', 'trusted', 'server'),
  ('approved', 'unhealthy', 'server'),
  ('trusted', 'unhealthy', 'server'),
  ('offline', 'unhealthy', 'server'),
  ('approved', 'unhealthy', 'owner'),
  ('trusted', 'unhealthy', 'owner'),
  ('offline', 'unhealthy', 'owner'),
  ('unhealthy', 'approved', 'owner'),
  ('unhealthy', 'trusted', 'owner'),
  ('unhealthy', 'offline', 'owner'),
  ('pending', 'revoked', 'owner'),
  ('approved', 'revoked', 'owner'),
  ('trusted', 'revoked', 'owner'),
  ('offline', 'revoked', 'owner'),
  ('unhealthy', 'revoked', 'owner'),
  ('pending', 'blocked', 'platform'),
  ('approved', 'blocked', 'platform'),
  ('trusted', 'blocked', 'platform'),
  ('offline', 'blocked', 'platform'),
  ('unhealthy', 'blocked', 'platform'),
  ('revoked', 'blocked', 'platform'),
  ('blocked', 'pending', 'platform'),
  ('blocked', 'approved', 'platform'),
  ('blocked', 'trusted', 'platform'),
  ('blocked', 'offline', 'platform'),
  ('blocked', 'unhealthy', 'platform'),
  ('blocked', 'revoked', 'platform');

ALTER TABLE devices.reasons ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE devices.kind_states ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE devices.session_kinds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE devices.trust_transitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The outcome of what succeeded.
CREATE FUNCTION devices.fn_ok(p_result jsonb DEFAULT '{}'::jsonb) RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('ok', true, 'result', coalesce(p_result, '{}'::jsonb));
END
$$;

-- The outcome of what was refused. The only way for a code to leave SQL: one that the contract does not have raises LT004.
-- p_retry_after: seconds after which it may be asked again, 0 to 3,600.
CREATE FUNCTION devices.fn_refusal(p_code text, p_detail text DEFAULT NULL, p_retry_after integer DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM devices.reasons r WHERE r.code = p_code;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no reason code %', p_code USING ERRCODE = 'LT004';
  END IF;
  RETURN jsonb_strip_nulls(jsonb_build_object('ok', false, 'code', p_code, 'detail', p_detail, 'retry_after', p_retry_after));
END
$$;
