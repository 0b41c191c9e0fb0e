-- Why a run, a submission or a device has the level that it has, for its owner. The level and the rules are the derivation's own:
-- what is read here besides is what they were judged by.
SET LOCAL ROLE ltg_owner;

-- A device's transitions, newest first, without reading its account's whole chain.
CREATE INDEX hash_chains_transitions_idx ON audit.hash_chains (device_id, seq DESC) WHERE event_kind = 'trust_transition';

-- The beginning of a hash, as people compare them.
CREATE FUNCTION execution.fn_short_hash(p_hash bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN left(devices.fn_b64url(p_hash), 8);
END
$$;

-- What the facts up to runner_verified of a run were judged by, fact by fact. Times are Unix seconds.
CREATE FUNCTION execution.fn_explain_parties(p_run_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'requester_is_submitter', jsonb_build_object(
        'requester_id', r.requester_lenser_id, 'submission_id', s.id, 'submitter_id', s.submitter_lenser_id),
      'contender_is_agent', jsonb_build_object(
        'contender_id', coalesce(r.contender_id, s.contender_id), 'contender_kind', coalesce(r.contender_kind, c.kind),
        'runner_id', r.runner_id),
      'contender_owned', jsonb_build_object(
        'contender_id', r.contender_id, 'submission_contender_id', s.contender_id, 'owned_when_started', r.contender_owned),
      'attested', jsonb_build_object('attestation_id', a.id, 'stored_at', devices.fn_unix(a.stored_at)),
      'device_trusted', jsonb_build_object(
        'device_id', d.id, 'device_level', d.trust_level, 'trusted_when_stored', a.device_trusted, 'key_number', a.key_number,
        'compromised_since', (
          SELECT devices.fn_unix(min(k.since)) FROM devices.compromises k
           WHERE k.device_id = a.device_id AND (k.key_number IS NULL OR k.key_number = a.key_number))),
      'heartbeat_fresh', jsonb_build_object(
        'runner_id', r.runner_id, 'device_id', r.device_id, 'stored_at', devices.fn_unix(a.stored_at),
        'within_seconds', devices.fn_limit('heartbeatFreshSeconds'),
        'last_heartbeat_at', (
          SELECT devices.fn_unix(max(h.stored_at)) FROM devices.heartbeats h
           WHERE h.device_id = r.device_id AND h.stored_at <= coalesce(a.stored_at, now())
             AND (r.runner_id IS NULL OR r.runner_id = ANY (h.runners)))),
      'version_unchanged', jsonb_build_object(
        'version_id', r.version_id,
        'permitted_lens_hash', execution.fn_short_hash(r.lens_hash), 'attested_lens_hash', execution.fn_short_hash(a.lens_hash),
        'permitted_workflow_hash', execution.fn_short_hash(r.workflow_hash),
        'attested_workflow_hash', execution.fn_short_hash(a.workflow_hash),
        'changed_at', (
          SELECT devices.fn_unix(min(x.changed_at)) FROM lenses.version_changes x
           WHERE x.version_id = r.version_id AND x.changed_at >= r.issued_at)),
      'runner_named', jsonb_build_object('runner_id', r.runner_id, 'runner_name', n.name),
      'binding_active', jsonb_build_object(
        'binding_id', b.id, 'bound_at', devices.fn_unix(b.bound_at), 'permit_issued_at', devices.fn_unix(r.issued_at),
        'stored_at', devices.fn_unix(a.stored_at), 'ended_at', devices.fn_unix(b.ended_at)))
      FROM execution.runs r
      JOIN devices.registered_devices d ON d.id = r.device_id
      LEFT JOIN execution.runners n ON n.id = r.runner_id
      LEFT JOIN execution.runner_device_bindings b ON b.id = r.binding_id
      LEFT JOIN execution.links l ON l.run_id = r.id
      LEFT JOIN battles.submissions s ON s.id = l.submission_id
      LEFT JOIN battles.contenders c ON c.id = s.contender_id
      LEFT JOIN execution.attestations a ON a.run_id = r.id
     WHERE r.id = p_run_id);
END
$$;

-- The same for the facts from execution_verified on.
CREATE FUNCTION execution.fn_explain_execution(p_run_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  -- Of the denied tools so many are named.
  c_most_names CONSTANT int := 8;
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'signed', jsonb_build_object('key_number', a.key_number, 'digest', execution.fn_short_hash(a.digest)),
      'gateway_verified', jsonb_build_object(
        'verified_when_stored', a.gateway_verified, 'recorded_at', devices.fn_unix(a.recorded_at),
        'invalidated_since', (
          SELECT devices.fn_unix(min(i.since)) FROM devices.claim_invalidations i
           WHERE i.since <= a.recorded_at AND i.until > a.stored_at)),
      'policy_passed', jsonb_build_object(
        'verdict', start.verdict, 'reason', start.reason, 'decision', p.decision, 'decided_at', devices.fn_unix(p.decided_at),
        'decision_reason', p.reason,
        'answer_until', devices.fn_unix(p.expires_at), 'answer_expired', p.decision IS NULL AND p.expires_at <= now(),
        'withdrawn_reason', withdrawn.reason, 'withdrawn_at', devices.fn_unix(withdrawn.asked_at),
        'covered_since', devices.fn_unix(cover.since), 'covered_until', devices.fn_unix(cover.until),
        'claimed_start_at', devices.fn_unix(a.started_at), 'claimed_end_at', devices.fn_unix(a.ended_at),
        'as_permitted', a.as_permitted, 'tools_attested', a.tool_invocations, 'tools_logged', tools.logged,
        'tools_denied', tools.denied, 'denied_tools', tools.names),
      'workflow_hash', jsonb_build_object('workflow_hash', execution.fn_short_hash(a.workflow_hash)),
      'lens_hash', jsonb_build_object('lens_hash', execution.fn_short_hash(a.lens_hash)))
      FROM execution.runs r
      LEFT JOIN execution.attestations a ON a.run_id = r.id
      LEFT JOIN agents.approvals p ON p.run_id = r.id
      LEFT JOIN LATERAL (
        SELECT e.verdict, e.reason FROM agents.policy_evaluations e
         WHERE e.run_id = r.id AND e.phase = 'start' ORDER BY e.id LIMIT 1) start ON true
      LEFT JOIN LATERAL (
        SELECT e.reason, e.asked_at FROM agents.policy_evaluations e
         WHERE e.run_id = r.id AND e.phase IN ('renewal', 'withdrawal') AND e.verdict IN ('deny', 'pause')
           -- A renewal that repeats the person's answer, or that there was none, withdraws nothing.
           AND e.reason NOT IN ('approval_denied', 'approval_expired')
         ORDER BY e.asked_at LIMIT 1) withdrawn ON true
      LEFT JOIN LATERAL (
        SELECT min(e.asked_at) AS since, max(e.covered_until) AS until FROM agents.policy_evaluations e
         WHERE e.run_id = r.id AND e.covered_until IS NOT NULL) cover ON true
      LEFT JOIN LATERAL (
        SELECT count(*) AS logged, count(*) FILTER (WHERE t.verdict = 'deny') AS denied,
               (SELECT jsonb_agg(n.tool ORDER BY n.tool)
                  FROM (SELECT DISTINCT d.tool FROM agents.tool_invocations d
                         WHERE d.run_id = r.id AND d.verdict = 'deny' ORDER BY d.tool LIMIT c_most_names) n) AS names
          FROM agents.tool_invocations t WHERE t.run_id = r.id) tools ON true
     WHERE r.id = p_run_id);
END
$$;

-- Every rule of the ladder in its order, as the facts have it, with what it was judged by.
CREATE FUNCTION execution.fn_explain_rules(p_facts jsonb, p_inputs jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_agg(jsonb_build_object(
             'level', l.level, 'fact', f.name, 'holds', coalesce(p_facts -> f.name = 'true', false),
             'inputs', coalesce(p_inputs -> f.name, '{}')) ORDER BY l.step, f.place)
      FROM execution.fn_ladder() l, unnest(l.facts) WITH ORDINALITY AS f (name, place));
END
$$;

-- What a run is, for people.
CREATE FUNCTION execution.fn_explain_run_subject(p_run_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
             'run_id', r.id, 'label', r.label, 'device_id', d.id, 'device_name', d.name, 'runner_id', n.id,
             'runner_name', n.name, 'contender_id', r.contender_id, 'submission_id', l.submission_id,
             'version_id', r.version_id, 'lens_name', lens.name, 'version_number', v.number,
             'asked_at', devices.fn_unix(r.started_at), 'issued_at', devices.fn_unix(r.issued_at),
             'judged_again_at', (SELECT devices.fn_unix(q.due_at) FROM execution.reevaluations q WHERE q.run_id = r.id))
      FROM execution.runs r
      JOIN devices.registered_devices d ON d.id = r.device_id
      LEFT JOIN execution.runners n ON n.id = r.runner_id
      LEFT JOIN execution.links l ON l.run_id = r.id
      LEFT JOIN lenses.versions v ON v.id = r.version_id
      LEFT JOIN lenses.lenses lens ON lens.id = v.lens_id
     WHERE r.id = p_run_id);
END
$$;

-- Explains a run, or a submission by the run that backs it (p_run_id null: none yet), by its last evaluation.
CREATE FUNCTION execution.fn_explain_run(p_run_id uuid, p_submission_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  c_most CONSTANT int := 20;
  v_last execution.trust_evaluations;
  v_judged record;
  v_history jsonb;
BEGIN
  SELECT e.* INTO v_last FROM execution.trust_evaluations e
   WHERE e.run_id = p_run_id AND (p_submission_id IS NULL OR e.submission_id = p_submission_id)
   ORDER BY e.id DESC LIMIT 1;
  SELECT * INTO v_judged FROM execution.fn_judge(coalesce(v_last.facts, '{}'));
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', h.trust_level, 'reason', h.reason, 'at', devices.fn_unix(h.evaluated_at))
                            ORDER BY h.id DESC), '[]')
    INTO v_history
    FROM (SELECT e.* FROM execution.trust_evaluations e
           WHERE e.run_id = p_run_id AND (p_submission_id IS NULL OR e.submission_id = p_submission_id)
           ORDER BY e.id DESC LIMIT c_most) h;
  RETURN jsonb_build_object(
    'level', v_judged.level, 'evaluated_at', devices.fn_unix(v_last.evaluated_at),
    'rules', execution.fn_explain_rules(
      coalesce(v_last.facts, '{}'), execution.fn_explain_parties(p_run_id) || execution.fn_explain_execution(p_run_id)),
    'first_failed', v_judged.reason, 'history', v_history);
END
$$;

-- The device ladder's rules in their order, with what each is judged by. Trusted is earned once and kept: its rules are told,
-- and fail it no more.
CREATE FUNCTION devices.fn_device_rules(p_device devices.registered_devices) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_evidence record;
  v_level CONSTANT text := CASE p_device.trust_level WHEN 'blocked' THEN p_device.earlier_level ELSE p_device.trust_level END;
BEGIN
  SELECT * INTO v_evidence FROM devices.fn_trust_evidence(p_device.id);
  RETURN (
    SELECT jsonb_agg(jsonb_build_object('level', r.level, 'fact', r.fact, 'holds', coalesce(r.holds, false), 'inputs', r.inputs)
                     ORDER BY r.place)
      FROM (VALUES
        (1, 'approved', 'challenge_answered', p_device.challenge_verified_at IS NOT NULL OR p_device.is_legacy,
         jsonb_build_object('answered_at', devices.fn_unix(p_device.challenge_verified_at),
                            'answer_until', devices.fn_unix(p_device.challenge_expires_at), 'legacy', p_device.is_legacy)),
        (2, 'approved', 'owner_approved', p_device.approved_at IS NOT NULL,
         jsonb_build_object('approved_at', devices.fn_unix(p_device.approved_at))),
        (3, 'approved', 'not_revoked', p_device.revoked_at IS NULL,
         jsonb_build_object('revoked_at', devices.fn_unix(p_device.revoked_at))),
        (4, 'approved', 'not_blocked', p_device.trust_level <> 'blocked',
         jsonb_build_object('reason', CASE p_device.trust_level WHEN 'blocked' THEN p_device.trust_reason END)),
        (5, 'approved', 'not_unhealthy', p_device.unhealthy_since IS NULL,
         jsonb_build_object('unhealthy_since', devices.fn_unix(p_device.unhealthy_since), 'reason', CASE v_level
           WHEN 'unhealthy' THEN coalesce(p_device.earlier_reason, p_device.trust_reason) END)),
        (6, 'approved', 'key_in_force', p_device.public_key IS NOT NULL AND coalesce(p_device.key_expires_at > now(), true),
         jsonb_build_object('key_number', p_device.key_number, 'key_expires_at', devices.fn_unix(p_device.key_expires_at))),
        (7, 'trusted', 'heard_lately', p_device.last_heartbeat_at >= devices.fn_offline_before(),
         jsonb_build_object('last_heartbeat_at', devices.fn_unix(p_device.last_heartbeat_at),
                            'within_seconds', devices.fn_limit('offlineSeconds'))),
        (8, 'trusted', 'heartbeat_days', v_evidence.heartbeat_days >= devices.fn_limit('trustedHeartbeatDays'),
         jsonb_build_object('days', v_evidence.heartbeat_days, 'needed', devices.fn_limit('trustedHeartbeatDays'),
                            'window_days', devices.fn_limit('trustedWindowDays'))),
        (9, 'trusted', 'attestation_verified', v_evidence.attested_at IS NOT NULL,
         jsonb_build_object('attested_at', devices.fn_unix(v_evidence.attested_at),
                            'window_days', devices.fn_limit('trustedWindowDays')))
      ) AS r (place, level, fact, holds, inputs));
END
$$;

-- Explains a device, by its row as it is now and its transitions in its owner's chain.
CREATE FUNCTION devices.fn_explain_device(p_device devices.registered_devices) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  c_most CONSTANT int := 20;
  v_rules CONSTANT jsonb := devices.fn_device_rules(p_device);
  v_history jsonb;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_build_object('level', h.payload -> 'to', 'reason', h.payload -> 'reason',
                                               'at', devices.fn_unix(h.created_at)) ORDER BY h.seq DESC), '[]')
    INTO v_history
    FROM (SELECT c.seq, c.payload, c.created_at
            FROM audit.hash_chains c
           WHERE c.device_id = p_device.id AND c.lenser_id = p_device.lenser_id AND c.chain_kind = 'gateway'
             AND c.event_kind = 'trust_transition'
           ORDER BY c.seq DESC LIMIT c_most) h;
  RETURN jsonb_build_object(
    'kind', 'device', 'id', p_device.id, 'level', p_device.trust_level, 'evaluated_at', v_history -> 0 -> 'at',
    'subject', jsonb_build_object(
      'name', p_device.name, 'device_type', p_device.device_type, 'os', p_device.os,
      'created_at', devices.fn_unix(p_device.created_at), 'reason', p_device.trust_reason,
      'gateway_status', p_device.gateway_status),
    'rules', v_rules,
    'first_failed', (
      SELECT r.rule -> 'fact' FROM jsonb_array_elements(v_rules) WITH ORDINALITY AS r (rule, place)
       WHERE r.rule -> 'holds' = 'false' AND NOT (p_device.trust_level = 'trusted' AND r.rule ->> 'level' = 'trusted')
       ORDER BY r.place LIMIT 1),
    'history', v_history);
END
$$;

-- Answers why a run, a submission or a device of the account has its level; of what is another's it says what it says of nothing.
CREATE FUNCTION execution.fn_explain(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'explain', false);
  v_id CONSTANT uuid := (v_request.parts).body ->> 'id';
  v_device devices.registered_devices;
  v_subject jsonb;
  v_run uuid;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  PERFORM FROM execution.runs r WHERE r.id = v_id AND r.requester_lenser_id = v_request.lenser_id;
  IF FOUND THEN
    RETURN devices.fn_ok(execution.fn_explain_run(v_id, NULL) || jsonb_build_object(
      'kind', 'run', 'id', v_id, 'subject', execution.fn_explain_run_subject(v_id)));
  END IF;
  SELECT jsonb_build_object('battle_id', b.id, 'battle_title', b.title, 'battle_status', b.status,
                            'contender_id', s.contender_id, 'created_at', devices.fn_unix(s.created_at)), l.run_id
    INTO v_subject, v_run
    FROM battles.submissions s
    JOIN battles.battles b ON b.id = s.battle_id
    LEFT JOIN execution.links l ON l.submission_id = s.id
   WHERE s.id = v_id AND s.submitter_lenser_id = v_request.lenser_id;
  IF FOUND THEN
    -- Another account's run is not shown, though it be linked.
    PERFORM FROM execution.runs r WHERE r.id = v_run AND r.requester_lenser_id = v_request.lenser_id;
    v_run := CASE WHEN FOUND THEN v_run END;
    RETURN devices.fn_ok(execution.fn_explain_run(v_run, v_id) || jsonb_build_object(
      'kind', 'submission', 'id', v_id,
      'subject', v_subject || coalesce(execution.fn_explain_run_subject(v_run), '{"run_id": null}')));
  END IF;
  SELECT d.* INTO v_device FROM devices.registered_devices d WHERE d.id = v_id AND d.lenser_id = v_request.lenser_id;
  IF FOUND THEN
    RETURN devices.fn_ok(devices.fn_explain_device(v_device));
  END IF;
  RETURN devices.fn_refusal('nothing_to_explain');
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_explain(text) TO ltg_registrar;
