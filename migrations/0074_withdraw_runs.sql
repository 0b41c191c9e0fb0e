-- A run that its device gives up: nobody waits for it any more, so it holds no place and awaits nobody.
SET LOCAL ROLE ltg_owner;

-- Takes runs back whose rows are held, each by the first of these items that names it. What was denied or paused at its
-- start, or denied since, holds nothing and stays as it is. Who approves one meanwhile waits for its row, and is told.
CREATE FUNCTION execution.fn_withdraw(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_now CONSTANT timestamptz := clock_timestamp();
BEGIN
  WITH named AS MATERIALIZED (
    SELECT DISTINCT ON (n.run_id) n.run_id, i.lenser_id, (i.parts).kid, (i.parts).digest, i.stored_at
      FROM unnest(p_items) i
      CROSS JOIN LATERAL (SELECT ((i.parts).body ->> 'run_id')::uuid AS run_id) n
      JOIN LATERAL (
        SELECT e.verdict FROM agents.policy_evaluations e WHERE e.run_id = n.run_id ORDER BY e.id LIMIT 1) first ON true
      JOIN LATERAL (
        SELECT e.verdict FROM agents.policy_evaluations e
         WHERE e.run_id = n.run_id ORDER BY e.id DESC LIMIT 1) latest ON true
     WHERE first.verdict IN ('allow', 'require_approval') AND latest.verdict <> 'deny'
     ORDER BY n.run_id, i.stored_at, i.idx
  ), recorded AS (
    INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, digest)
    SELECT n.run_id, n.lenser_id, 'withdrawal', 'deny', 'withdrawn', n.stored_at, n.digest
      FROM named n ORDER BY n.run_id
  ), closed AS (
    DELETE FROM execution.open_runs o USING named n WHERE o.run_id = n.run_id
  )
  -- One whose time is over has ended already.
  UPDATE agents.approvals a SET decision = 'withdraw', decided_at = v_now, decided_by = n.kid
    FROM named n
   WHERE a.run_id = n.run_id AND a.decision IS NULL AND a.expires_at > v_now;
END
$$;

-- Applies devices' word that they give up runs of theirs. The result is how the run stands then, and what a person said of
-- it before, if one did. Taking back what is denied already changes nothing.
CREATE FUNCTION execution.fn_run_withdraw(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'run_withdraw', false));
  v_item devices.verified_item;
  v_refused jsonb;
  v_said jsonb;
BEGIN
  -- Their own runs alone: nobody holds up another's by naming it.
  PERFORM FROM execution.runs r
    WHERE r.id IN (SELECT ((i.parts).body ->> 'run_id')::uuid FROM unnest(v_items) i
                    WHERE i.step = 'new' AND r.requester_lenser_id = i.lenser_id AND r.device_id = (i.parts).kid)
    ORDER BY r.id FOR NO KEY UPDATE;

  SELECT coalesce(jsonb_object_agg(f.idx, f.code), '{}') INTO v_refused FROM (
    SELECT i.idx, CASE
             WHEN k.kind IS NULL THEN 'device_' || i.trust_level
             WHEN r.id IS NULL THEN 'unknown_run'
             WHEN (r.requester_lenser_id, r.device_id) <> (i.lenser_id, (i.parts).kid) THEN 'run_not_owned'
             -- One stored before the attestation and applied after it is evidence still (trust.md, rule 15).
             WHEN t.stored_at <= i.stored_at THEN 'run_ended'
           END AS code
      FROM unnest(v_items) i
      LEFT JOIN devices.kind_states k ON k.kind = 'run_withdraw' AND k.trust_level = i.trust_level
      LEFT JOIN execution.runs r ON r.id = ((i.parts).body ->> 'run_id')::uuid
      LEFT JOIN execution.attestations t ON t.run_id = r.id
     WHERE i.step = 'new') f
   WHERE f.code IS NOT NULL;

  PERFORM execution.fn_withdraw(ARRAY(
    SELECT i FROM unnest(v_items) i WHERE i.step = 'new' AND NOT v_refused ? i.idx::text));

  -- A later statement: it sees how each stands now, whoever said it.
  SELECT jsonb_object_agg(i.idx, devices.fn_ok(jsonb_build_object(
           'run_id', latest.run_id, 'verdict', latest.verdict, 'reason', latest.reason, 'decision', a.decision)))
    INTO v_said
    FROM unnest(v_items) i
    JOIN LATERAL (
      SELECT e.run_id, e.verdict, e.reason FROM agents.policy_evaluations e
       WHERE e.run_id = ((i.parts).body ->> 'run_id')::uuid ORDER BY e.id DESC LIMIT 1) latest ON true
    LEFT JOIN agents.approvals a ON a.run_id = latest.run_id
   WHERE i.step = 'new' AND NOT v_refused ? i.idx::text;

  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := coalesce(v_said -> v_item.idx::text, devices.fn_refusal(v_refused ->> v_item.idx::text));
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_run_withdraw(text[]) TO ltg_trust_evaluator;
