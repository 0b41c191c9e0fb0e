-- A permit goes on as long as the policy lets it, 60 s at a time (PE-2).
SET LOCAL ROLE ltg_owner;

-- The last hour of requests to renew: one that comes again has the result that it had. A working table.
CREATE TABLE execution.run_renewals (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  stored_at timestamptz NOT NULL,
  digest bytea NOT NULL,
  result jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (device_id, stored_at, digest)
);
ALTER TABLE execution.run_renewals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The policy's word on a run that goes on, or awaits a person. How it started, and a denial since, stay as they are. What awaits
-- a person does nothing that a pause could end. Budget and dark launch were the start's; whether a run that lapsed finds a place
-- again is execution.fn_renew's to say. Pure.
CREATE FUNCTION agents.fn_renewal_verdict(
  p_settings agents.workspace_settings, p_start agents.policy_evaluations, p_last agents.policy_evaluations,
  p_approval agents.approvals, p_now timestamptz, OUT verdict text, OUT reason text
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  reason := CASE
    WHEN p_start.verdict IN ('deny', 'pause') THEN p_start.reason
    WHEN p_last.verdict = 'deny' THEN p_last.reason
    WHEN p_start.verdict = 'require_approval' AND p_approval.decision IS NULL
      THEN CASE WHEN p_approval.expires_at > p_now THEN p_start.reason ELSE 'approval_expired' END
    WHEN p_approval.decision = 'deny' THEN 'approval_denied'
    WHEN p_settings.global_kill_switch THEN 'kill_switch'
    WHEN p_settings.runner_paused THEN 'runner_paused'
    WHEN p_settings.approval_default = 'deny' THEN 'approval_default_deny'
    WHEN p_approval.decision = 'approve' THEN 'approved'
    ELSE p_start.reason
  END;
  verdict := CASE
    WHEN reason IN ('approval_default_allow', 'approved') THEN 'allow'
    WHEN reason = 'approval_default_require_human' THEN 'require_approval'
    WHEN reason = 'runner_paused' THEN 'pause'
    ELSE 'deny'
  END;
END
$$;

-- Judges the runs that these envelopes name, whose own runs are locked, and records each verdict (PE-1); p_bounded are the accounts
-- of which agents.fn_lock_bounds holds the bounds. What was said of each, in the order in which the envelope names them; `was` is
-- the verdict before.
CREATE FUNCTION execution.fn_renew(p_items devices.verified_item[], p_bounded uuid[])
RETURNS TABLE (
  device uuid, lenser uuid, stored timestamptz, envelope bytea, nth bigint, was text, became text, said jsonb
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most CONSTANT bigint := devices.fn_limit('renewalsPerRun');
  c_covers CONSTANT interval := make_interval(secs => devices.fn_limit('permitSeconds'));
  -- Not when the transaction began: whoever took a place that was over meanwhile has committed since, and saw it over.
  c_now CONSTANT timestamptz := clock_timestamp();
  v_left CONSTANT jsonb := execution.fn_places_left(p_bounded, c_now);
BEGIN
  RETURN QUERY
  WITH named AS (
    SELECT DISTINCT ON ((i.parts).digest, n.id)
           (i.parts).digest AS by, n.id::uuid AS id, n.place, i.lenser_id, (i.parts).kid, i.stored_at
      FROM unnest(p_items) i
      CROSS JOIN LATERAL jsonb_array_elements_text((i.parts).body -> 'runs') WITH ORDINALITY AS n (id, place)
     ORDER BY (i.parts).digest, n.id, n.place
  ), found AS MATERIALIZED (
    SELECT n.*,
           CASE
             WHEN r.id IS NULL THEN 'unknown_run'
             WHEN (r.requester_lenser_id, r.device_id) <> (n.lenser_id, n.kid) THEN 'run_not_owned'
             -- One stored before the attestation and applied after it is evidence still (trust.md, rule 15).
             WHEN t.stored_at <= n.stored_at THEN 'run_ended'
           END AS code, t.run_id IS NOT NULL AS is_attested, o.open_until,
           (latest.row).verdict AS former, (latest.row).covered_until AS covered_before,
           -- A person's answer, or a taking back, does not tell: the renewal before it does.
           CASE (latest.row).phase WHEN 'renewal' THEN (latest.row).renewals WHEN 'start' THEN 0 ELSE coalesce((
             SELECT e.renewals FROM agents.policy_evaluations e
              WHERE e.run_id = r.id AND e.phase = 'renewal' ORDER BY e.id DESC LIMIT 1), 0) END AS renewed,
           v.verdict AS word, v.reason,
           coalesce((s).denied_tools, '{}') AS denied_tools,
           CASE v.verdict WHEN 'require_approval' THEN (a).expires_at END AS expires
      FROM named n
      LEFT JOIN execution.runs r ON r.id = n.id
      LEFT JOIN execution.attestations t ON t.run_id = r.id
      LEFT JOIN execution.open_runs o ON o.run_id = r.id
      LEFT JOIN agents.workspace_settings s ON s.lenser_id = r.requester_lenser_id
      LEFT JOIN agents.approvals a ON a.run_id = r.id
      LEFT JOIN LATERAL (
        SELECT f AS row FROM agents.policy_evaluations f WHERE f.run_id = r.id ORDER BY f.id LIMIT 1) first ON true
      LEFT JOIN LATERAL (
        SELECT l AS row FROM agents.policy_evaluations l WHERE l.run_id = r.id ORDER BY l.id DESC LIMIT 1) latest ON true
      CROSS JOIN LATERAL agents.fn_renewal_verdict(s, first.row, latest.row, a, now()) v
  ), numbered AS (
    SELECT f.*, f.renewed + count(*) FILTER (WHERE f.code IS NULL) OVER run AS number,
           first_value(f.stored_at) OVER run AS asked_first
      FROM found f
    WINDOW run AS (PARTITION BY f.id, f.kid ORDER BY f.stored_at, f.by)
  ), placed AS (
    SELECT n.*,
           -- One that had lapsed when it asked gave its place back, and is counted anew as at a start. Its store time tells: what
           -- waited here behind an outage keeps its place, though a start that was applied before it found none taken.
           n.code IS NULL AND n.number <= c_most AND n.word = 'allow' AND v_left ? n.lenser_id::text
             AND (greatest(n.covered_before, n.open_until) >= n.asked_first) IS NOT TRUE
             AS returns
      FROM numbered n
  ), judged AS MATERIALIZED (
    SELECT p.by, p.id, p.place, p.lenser_id, p.kid, p.stored_at, p.is_attested, p.former, p.covered_before, p.number,
           p.denied_tools, p.expires, w.word, w.reason,
           CASE WHEN p.code IS NULL AND p.number > c_most THEN 'renewal_limit' ELSE p.code END AS code,
           CASE w.word WHEN 'allow' THEN p.stored_at + c_covers END AS covered
      FROM (SELECT x.*, dense_rank() OVER (PARTITION BY x.lenser_id, x.returns ORDER BY x.asked_first, x.id) AS turn
              FROM placed x) p
      -- Where no place is left it is paused: what was told so and goes on may be allowed later, and has no policy_passed.
      CROSS JOIN LATERAL (
        SELECT CASE WHEN is_full THEN 'pause' ELSE p.word END AS word,
               CASE WHEN is_full THEN 'parallel_limit' ELSE p.reason END AS reason
          FROM (SELECT p.returns AND p.turn > (v_left ->> p.lenser_id::text)::bigint AS is_full) f) w
  ), recorded AS (
    INSERT INTO agents.policy_evaluations AS e
      (run_id, lenser_id, phase, verdict, reason, asked_at, digest, covered_until, renewals)
    SELECT j.id, j.lenser_id, 'renewal', j.word, j.reason, j.stored_at, j.by, j.covered, j.number
      FROM judged j WHERE j.code IS NULL ORDER BY j.id, j.number
    ON CONFLICT (run_id, digest) WHERE digest IS NOT NULL DO NOTHING
  ), opened AS (
    INSERT INTO execution.open_runs AS o (run_id, lenser_id, device_id, open_until)
    SELECT j.id, j.lenser_id, j.kid, max(greatest(j.covered, j.covered_before))
      FROM judged j WHERE j.code IS NULL AND j.covered IS NOT NULL AND NOT j.is_attested GROUP BY j.id, j.lenser_id, j.kid ORDER BY j.id
    -- Once it is covered, its cover counts, and no more for how long it might have awaited a person.
    ON CONFLICT (run_id) DO UPDATE SET open_until = excluded.open_until
  ), closed AS (
    DELETE FROM execution.open_runs o USING judged j WHERE o.run_id = j.id AND j.code IS NULL AND j.word = 'deny'
  )
  SELECT j.kid, j.lenser_id, j.stored_at, j.by, j.place, j.former, CASE WHEN j.code IS NULL THEN j.word END,
         CASE WHEN j.code IS NOT NULL THEN jsonb_build_object('run_id', j.id, 'code', j.code)
              ELSE jsonb_build_object(
                'run_id', j.id, 'verdict', j.word, 'reason', j.reason,
                'covered_until', execution.fn_unix_ms(j.covered), 'denied_tools', j.denied_tools,
                'approval_expires_at', execution.fn_unix_ms(j.expires)) END
    FROM judged j;
END
$$;

-- Applies requests to renew. They are no operations: each is judged once, at its store time, and one that comes again has the
-- result that it had. Each verdict is a row of evidence that names its envelope; a record in the chain is written where one
-- changes what was recorded last (AU-2): renewals that say the same again would drown it.
CREATE FUNCTION execution.fn_run_renew(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_open_verified(p_envelopes, 'run_renew', false);
  v_fresh devices.verified_item[];
  v_bounded uuid[];
BEGIN
  DELETE FROM execution.run_renewals w
   WHERE (w.device_id, w.stored_at, w.digest) IN (
     SELECT o.device_id, o.stored_at, o.digest
       FROM (SELECT DISTINCT (i.parts).kid FROM unnest(v_items) i) d
       CROSS JOIN LATERAL (
         SELECT x.* FROM execution.run_renewals x
          WHERE x.device_id = d.kid AND x.stored_at < now() - interval '1 hour' FOR UPDATE SKIP LOCKED) o);

  -- Whoever is first with one judges it; another waits here, and says below what the first said.
  WITH taken AS (
    INSERT INTO execution.run_renewals AS w (device_id, stored_at, digest)
    SELECT DISTINCT (i.parts).kid, i.stored_at, (i.parts).digest
      FROM unnest(v_items) i
     WHERE i.step IS NULL AND devices.fn_state_refusal('run_renew', i.trust_level) IS NULL
     ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING
    RETURNING w.digest
  )
  SELECT array_agg(x.i) INTO v_fresh
    FROM (SELECT DISTINCT ON ((i.parts).digest) i
            FROM taken t JOIN unnest(v_items) i ON (i.parts).digest = t.digest ORDER BY (i.parts).digest) x;

  -- Their own runs alone: nobody holds up another's by naming it.
  PERFORM FROM execution.runs r
    WHERE r.id IN (SELECT n.id::uuid FROM unnest(v_fresh) i, jsonb_array_elements_text((i.parts).body -> 'runs') AS n (id)
                    WHERE r.requester_lenser_id = i.lenser_id AND r.device_id = (i.parts).kid)
    ORDER BY r.id FOR NO KEY UPDATE;
  -- Only accounts that bound how many run at once wait for each other.
  v_bounded := agents.fn_lock_bounds(ARRAY(
    SELECT DISTINCT i.lenser_id FROM unnest(v_fresh) i JOIN agents.quotas q ON q.lenser_id = i.lenser_id
     WHERE q.max_parallel_runs IS NOT NULL));

  -- Nothing is joined to what was named: a batch of many names would cost their square.
  WITH renewed AS MATERIALIZED (
    SELECT * FROM execution.fn_renew(v_fresh, v_bounded)
  ), kept AS (
    UPDATE execution.run_renewals w SET result = jsonb_build_object('runs', n.runs)
      FROM (SELECT r.device, r.stored, r.envelope, jsonb_agg(r.said ORDER BY r.nth) AS runs
              FROM renewed r GROUP BY r.device, r.stored, r.envelope) n
     WHERE (w.device_id, w.stored_at, w.digest) = (n.device, n.stored, n.envelope)
  )
  INSERT INTO audit.pending (lenser_id, device_id, kid, event_kind, digest, payload)
  SELECT r.lenser, r.device, r.device, 'run_renew', r.envelope,
         devices.fn_ok(jsonb_build_object('runs', jsonb_agg(r.said ORDER BY r.nth)))
    FROM renewed r
   WHERE r.became <> r.was
   GROUP BY r.lenser, r.device, r.envelope;

  RETURN QUERY
  SELECT i.idx, devices.fn_addressed(i, CASE
           WHEN i.step = 'refused' THEN i.outcome
           WHEN w.digest IS NOT NULL THEN devices.fn_ok(w.result)
           ELSE coalesce(i.outcome, devices.fn_state_refusal('run_renew', i.trust_level)) END)
    FROM unnest(v_items) i
    LEFT JOIN execution.run_renewals w
      ON w.device_id = (i.parts).kid AND w.stored_at = i.stored_at AND w.digest = (i.parts).digest
   ORDER BY i.idx;
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_run_renew(text[]) TO ltg_trust_evaluator;
