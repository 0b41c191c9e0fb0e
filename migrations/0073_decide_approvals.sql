-- Runs that await a person, and the person's answer.
SET LOCAL ROLE ltg_owner;

CREATE INDEX approvals_requested_idx ON agents.approvals (lenser_id, requested_at DESC);

-- How a run that awaits a person is shown to one. Times are Unix seconds.
CREATE FUNCTION agents.fn_show_approval(p_approval agents.approvals) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'run_id', run.id,
      'device_id', run.device_id,
      'device_name', device.name,
      'runner_id', run.runner_id,
      'runner_name', runner.name,
      'label', run.label,
      -- Enough to tell commands apart; whoever has the command has the whole hash.
      'command_hash', left(devices.fn_b64url(run.command_hash), 12),
      'submission_id', run.submission_id,
      'version_id', run.version_id,
      'requested_at', devices.fn_unix(p_approval.requested_at),
      'expires_at', devices.fn_unix(p_approval.expires_at),
      'decision', p_approval.decision,
      'decided_at', devices.fn_unix(p_approval.decided_at),
      'reason', p_approval.reason)
      FROM execution.runs AS run
      JOIN devices.registered_devices AS device ON device.id = run.device_id
      LEFT JOIN execution.runners AS runner ON runner.id = run.runner_id
     WHERE run.id = p_approval.run_id);
END
$$;

-- The account's runs that await a person, those whose time is over first ahead; after them the last week's others, newest first:
-- as many as fit into an answer of 192 KiB. `more` says that there are others.
CREATE FUNCTION agents.fn_approvals(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_rows CONSTANT int := 500;
  v_request devices.request := devices.fn_request_open(p_envelope, 'approvals', false);
  -- Of one run alone, so that none is out of reach behind others.
  v_run uuid := (v_request.parts).body ->> 'run_id';
  v_approvals jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  WITH pending AS (
    SELECT a AS approval, row_number() OVER (ORDER BY a.expires_at, a.run_id) AS place
      FROM agents.approvals a
     WHERE a.lenser_id = v_request.lenser_id AND a.decision IS NULL AND a.expires_at > now()
       AND (v_run IS NULL OR a.run_id = v_run)
     ORDER BY place
     LIMIT c_most_rows
  ), past AS (
    SELECT a AS approval, c_most_rows + row_number() OVER (ORDER BY a.requested_at DESC, a.run_id) AS place
      FROM agents.approvals a
     WHERE a.lenser_id = v_request.lenser_id AND a.requested_at > now() - interval '7 days'
       AND (a.decision IS NOT NULL OR a.expires_at <= now())
       AND (v_run IS NULL OR a.run_id = v_run)
     ORDER BY place
     LIMIT c_most_rows
  ), own AS (
    SELECT agents.fn_show_approval(t.approval) AS shown, t.place
      FROM (SELECT * FROM pending UNION ALL SELECT * FROM past) t ORDER BY t.place LIMIT c_most_rows
  ), measured AS (
    SELECT shown, place, sum(octet_length(shown::text)) OVER (ORDER BY place) <= c_most_bytes AS fits FROM own
  )
  SELECT coalesce(jsonb_agg(shown ORDER BY place) FILTER (WHERE fits), '[]'),
         coalesce(NOT bool_and(fits), false) OR count(*) = c_most_rows
    INTO v_approvals, v_more
    FROM measured;
  RETURN devices.fn_ok(jsonb_build_object('approvals', v_approvals, 'more', v_more));
END
$$;

-- Gives a run its submission, if that is free still; whether it has it. Null where it names none.
CREATE FUNCTION execution.fn_link_approved(p_run execution.runs) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_run.submission_id IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM FROM battles.submissions s WHERE s.id = p_run.submission_id FOR NO KEY UPDATE;
  INSERT INTO execution.links (run_id, submission_id) VALUES (p_run.id, p_run.submission_id) ON CONFLICT DO NOTHING;
  RETURN FOUND;
END
$$;

-- Takes a person's answer to a run of the account that awaits one: once, and in time. Whatever judges the run waits for its row
-- meanwhile; the clock is read when that is held, so that nobody has called it expired before.
CREATE FUNCTION agents.fn_decide_approval(p_request devices.request) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body jsonb := (p_request.parts).body;
  v_approves boolean := v_body ->> 'decision' = 'approve';
  v_now timestamptz;
  v_run execution.runs;
  v_linked boolean;
BEGIN
  SELECT * INTO v_run FROM execution.runs r
   WHERE r.id = (v_body ->> 'run_id')::uuid AND r.requester_lenser_id = p_request.lenser_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN devices.fn_refusal('unknown_run');
  END IF;
  v_now := clock_timestamp();
  UPDATE agents.approvals a
     SET decision = v_body ->> 'decision', decided_at = v_now, decided_by = (p_request.parts).kid,
         reason = v_body ->> 'reason'
   WHERE a.run_id = v_run.id AND a.decision IS NULL AND a.expires_at > v_now;
  IF NOT FOUND THEN
    RETURN devices.fn_refusal(CASE
      WHEN EXISTS (SELECT FROM agents.policy_evaluations e WHERE e.run_id = v_run.id AND e.phase = 'withdrawal')
        THEN 'run_withdrawn' ELSE 'approval_not_pending' END);
  END IF;
  INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, digest)
  VALUES (v_run.id, p_request.lenser_id, 'approval', CASE WHEN v_approves THEN 'allow' ELSE 'deny' END,
          CASE WHEN v_approves THEN 'approved' ELSE 'approval_denied' END, v_now, (p_request.parts).digest);
  IF v_approves THEN
    v_linked := execution.fn_link_approved(v_run);
  ELSE
    DELETE FROM execution.open_runs o WHERE o.run_id = v_run.id;
  END IF;
  RETURN devices.fn_ok(jsonb_build_object('run_id', v_run.id, 'decision', v_body -> 'decision', 'linked', v_linked));
END
$$;

CREATE FUNCTION agents.fn_approval_decide(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'approval_decide', true);
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  RETURN devices.fn_operation_commit(
    v_request.parts, v_request.lenser_id, NULL, agents.fn_decide_approval(v_request),
    jsonb_build_object('run_id', (v_request.parts).body -> 'run_id'));
END
$$;

GRANT EXECUTE ON FUNCTION agents.fn_approvals(text), agents.fn_approval_decide(text) TO ltg_registrar;
