-- What an account asked to run, and what came of it.
SET LOCAL ROLE ltg_owner;

-- How a run is shown in a list: what the policy said last, what was attested. Times are Unix seconds.
CREATE FUNCTION execution.fn_show_run(p_run execution.runs) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
             'run_id', p_run.id,
             'label', p_run.label,
             -- Enough to tell commands apart; whoever has the command has the whole hash.
             'command_hash', left(devices.fn_b64url(p_run.command_hash), 12),
             'device_id', d.id,
             'device_name', d.name,
             'runner_id', n.id,
             'runner_name', n.name,
             'verdict', latest.verdict,
             'reason', latest.reason,
             'asked_at', devices.fn_unix(p_run.started_at),
             -- Until when a person can answer, where one is awaited; until when it holds a place, where it does.
             'awaits_until',
               CASE WHEN p.decision IS NULL AND p.expires_at > now() THEN devices.fn_unix(p.expires_at) END,
             'open_until', CASE WHEN o.open_until > now() THEN devices.fn_unix(o.open_until) END,
             'attested_at', devices.fn_unix(a.stored_at),
             'started_at', devices.fn_unix(a.started_at),
             'ended_at', devices.fn_unix(a.ended_at),
             'exit_code', a.exit_code,
             'signal', a.signal,
             'level', coalesce(level.trust_level, 'unverified'))
      FROM devices.registered_devices d
      LEFT JOIN execution.runners n ON n.id = p_run.runner_id
      LEFT JOIN agents.approvals p ON p.run_id = p_run.id
      LEFT JOIN execution.open_runs o ON o.run_id = p_run.id
      LEFT JOIN execution.attestations a ON a.run_id = p_run.id
      -- What was said once it had ended did nothing to it.
      LEFT JOIN LATERAL (
        SELECT e.verdict, e.reason FROM agents.policy_evaluations e
         WHERE e.run_id = p_run.id AND (a.run_id IS NULL OR e.phase = 'start' OR e.asked_at <= a.ended_at)
         ORDER BY e.id DESC LIMIT 1) latest ON true
      LEFT JOIN LATERAL (
        SELECT t.trust_level FROM execution.trust_evaluations t
         WHERE t.run_id = p_run.id ORDER BY t.id DESC LIMIT 1) level ON true
     WHERE d.id = p_run.device_id);
END
$$;

-- The account's runs, newest first, older than the one that `before` names: as many as were asked for and fit into an answer
-- of 192 KiB. `next`: the one before which there are others, or may be; one answer looks at so many, however few are meant.
CREATE FUNCTION execution.fn_run_list(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_read CONSTANT int := 10000;
  v_request devices.request := devices.fn_request_open(p_envelope, 'runs', false);
  v_body jsonb := (v_request.parts).body;
  v_state text := v_body ->> 'state';
  v_before uuid := coalesce(v_body ->> 'before', 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_limit bigint := least((v_body ->> 'limit')::bigint, devices.fn_limit('runsPerAnswer'));
  v_read uuid[];
  v_runs jsonb;
  v_next uuid;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  IF v_state = 'awaiting' THEN
    v_read := ARRAY(
      SELECT a.run_id FROM agents.approvals a
       WHERE a.lenser_id = v_request.lenser_id AND a.decision IS NULL AND a.expires_at > now() AND a.run_id < v_before
       ORDER BY a.run_id DESC LIMIT c_most_read);
  ELSIF v_state = 'open' THEN
    v_read := ARRAY(
      SELECT o.run_id FROM execution.open_runs o
       WHERE o.lenser_id = v_request.lenser_id AND o.open_until > now() AND o.run_id < v_before
       ORDER BY o.run_id DESC LIMIT c_most_read);
  ELSE
    v_read := ARRAY(
      SELECT r.id FROM execution.runs r
       WHERE r.requester_lenser_id = v_request.lenser_id AND r.id < v_before
       ORDER BY r.id DESC LIMIT c_most_read);
  END IF;
  WITH meant AS MATERIALIZED (
    SELECT r AS run, row_number() OVER (ORDER BY r.id DESC) AS place
      FROM execution.runs r
     WHERE r.id = ANY (v_read) AND r.requester_lenser_id = v_request.lenser_id
       AND r.device_id = coalesce((v_body ->> 'device_id')::uuid, r.device_id)
       AND (NOT v_body ? 'runner_id' OR r.runner_id = (v_body ->> 'runner_id')::uuid)
     ORDER BY place LIMIT v_limit + 1
  ), shown AS (
    SELECT (m.run).id, m.place, execution.fn_show_run(m.run) AS shown FROM meant m WHERE m.place <= v_limit
  ), measured AS (
    SELECT s.*, sum(octet_length(s.shown::text)) OVER (ORDER BY s.place) <= c_most_bytes AS fits FROM shown s
  )
  SELECT coalesce(jsonb_agg(m.shown ORDER BY m.place) FILTER (WHERE m.fits), '[]'),
         CASE WHEN NOT bool_and(m.fits) OR (SELECT count(*) FROM meant) > v_limit
                THEN (array_agg(m.id ORDER BY m.place DESC) FILTER (WHERE m.fits))[1]
              WHEN cardinality(v_read) = c_most_read THEN v_read[c_most_read] END
    INTO v_runs, v_next
    FROM measured m;
  RETURN devices.fn_ok(jsonb_build_object('runs', v_runs, 'more', v_next IS NOT NULL, 'next', v_next));
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_run_list(text) TO ltg_registrar;
