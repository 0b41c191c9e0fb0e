-- From rows to facts, from facts to a level, and when to look again.
SET LOCAL ROLE ltg_owner;

-- The facts of runs. Each is about the time from the permit to the attestation's store time, never about now
-- (trust.md, rule 1), so judging again without new evidence says the same again. No value that a client sent is among
-- them but what its signature binds.
CREATE FUNCTION execution.fn_run_facts(p_run_ids uuid[])
RETURNS TABLE (run_id uuid, lenser_id uuid, submission_id uuid, attestation_id uuid, recorded_at timestamptz, facts jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- A plan kept from when the tables were small must not read them whole when they are large.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
  SELECT r.id, r.requester_lenser_id, s.id, a.id, a.recorded_at,
    jsonb_build_object(
      -- A run that backs no submission is judged for the account that asked for it.
      'requester_is_submitter', s.id IS NULL OR s.submitter_lenser_id = r.requester_lenser_id,
      -- Without a contender of its own, a run counts for its submission's; without either, its runner stands for itself.
      'contender_is_agent',
        coalesce(coalesce(r.contender_kind, c.kind) IN ('ai_agent', 'ai_runner'), r.runner_id IS NOT NULL),
      'contender_owned', CASE
        WHEN r.contender_id IS NOT NULL THEN r.contender_owned AND coalesce(s.contender_id = r.contender_id, true)
        WHEN c.id IS NOT NULL THEN c.owner_lenser_id = r.requester_lenser_id
        ELSE r.runner_id IS NOT NULL END,
      'attested', a.id IS NOT NULL,
      -- What was stored since the device, or the key that signed it, was known to others counts for nothing (rule 8).
      'device_trusted', coalesce(a.device_trusted AND NOT EXISTS (
        SELECT FROM devices.compromises k
         WHERE k.device_id = a.device_id AND k.since <= a.stored_at
           AND (k.key_number IS NULL OR k.key_number = a.key_number)), false),
      -- Heartbeats and attestations travel unordered: one stored in time and applied late counts, and what was once
      -- seen stays seen when the heartbeats of that hour are gone.
      'heartbeat_fresh', coalesce(a.heartbeat_fresh
        OR execution.fn_heartbeat_fresh(a.device_id, a.stored_at)
        OR EXISTS (SELECT FROM execution.trust_evaluations e
                    WHERE e.run_id = r.id AND e.attestation_id = a.id AND e.facts -> 'heartbeat_fresh' = 'true'), false),
      'version_unchanged', coalesce(a.version_unchanged, false),
      'runner_named', r.runner_id IS NOT NULL,
      'binding_active', coalesce(a.binding_active, false),
      'signed', coalesce(a.signed, false),
      'gateway_verified', coalesce(a.gateway_verified, false),
      'policy_passed', coalesce(a.policy_passed, false),
      'workflow_hash', a.workflow_hash IS NOT NULL,
      'lens_hash', a.lens_hash IS NOT NULL)
    FROM execution.runs r
    LEFT JOIN execution.links l ON l.run_id = r.id
    LEFT JOIN battles.submissions s ON s.id = l.submission_id
    LEFT JOIN battles.contenders c ON c.id = s.contender_id
    LEFT JOIN execution.attestations a ON a.run_id = r.id
   WHERE r.id = ANY (p_run_ids);
END
$$;

-- Whether a heartbeat of the device was stored in the five minutes before a moment (RH-4).
CREATE FUNCTION execution.fn_heartbeat_fresh(p_device_id uuid, p_moment timestamptz) RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM devices.heartbeats h
     WHERE h.device_id = p_device_id
       AND h.stored_at BETWEEN p_moment - make_interval(secs => devices.fn_limit('heartbeatFreshSeconds')) AND p_moment);
END
$$;

-- Judges runs and adds to their history where level, facts, submission or attestation changed (EA-5). Who judges a run
-- holds its row, so its history has one order, and clears its place in the queue first: what is inserted meanwhile
-- queues it again.
CREATE FUNCTION execution.fn_compute_submission_trust(p_run_ids uuid[])
RETURNS TABLE (
  run_id uuid, submission_id uuid, attestation_id uuid, trust_level text, reason text, facts jsonb, ladder jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM FROM execution.runs r WHERE r.id = ANY (p_run_ids) ORDER BY r.id FOR NO KEY UPDATE;
  PERFORM FROM execution.reevaluations q WHERE q.run_id = ANY (p_run_ids) ORDER BY q.run_id FOR UPDATE;
  DELETE FROM execution.reevaluations q WHERE q.run_id = ANY (p_run_ids);
  RETURN QUERY
  WITH judged AS MATERIALIZED (
    SELECT f.*, j.level, j.reason, j.ladder
      FROM execution.fn_run_facts(p_run_ids) f, execution.fn_judge(f.facts) j
  ), added AS (
    INSERT INTO execution.trust_evaluations AS e
      (run_id, lenser_id, submission_id, attestation_id, trust_level, facts, reason)
    SELECT n.run_id, n.lenser_id, n.submission_id, n.attestation_id, n.level, n.facts, n.reason
      FROM judged n
      LEFT JOIN LATERAL (
        SELECT t.submission_id, t.attestation_id, t.trust_level, t.facts
          FROM execution.trust_evaluations t WHERE t.run_id = n.run_id ORDER BY t.id DESC LIMIT 1) last ON true
     WHERE (n.submission_id, n.attestation_id, n.level, n.facts)
        IS DISTINCT FROM (last.submission_id, last.attestation_id, last.trust_level, last.facts)
  ), queued AS (
    -- Only a heartbeat keeps it down: once more in a minute (trust.md, rule 3), not for ever.
    INSERT INTO execution.reevaluations (run_id, due_at)
    SELECT n.run_id, n.recorded_at + make_interval(secs => devices.fn_limit('reevaluateSeconds'))
      FROM judged n
     WHERE n.facts @> '{"attested": true, "heartbeat_fresh": false}'
       AND now() < n.recorded_at + make_interval(secs => devices.fn_limit('reevaluateSeconds'))
       AND n.level <> execution.fn_trust_level(n.facts || '{"heartbeat_fresh": true}')
     ORDER BY n.run_id
    ON CONFLICT ON CONSTRAINT reevaluations_pkey DO NOTHING
  )
  SELECT n.run_id, n.submission_id, n.attestation_id, n.level, n.reason, n.facts, n.ladder FROM judged n;
END
$$;

-- Judges up to p_limit runs whose time has come and says how many. A run that somebody is judging is left to them.
CREATE FUNCTION execution.fn_reevaluate_due(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_due uuid[];
BEGIN
  -- The runs first, then the queue, as every judge does: two can then never wait for each other.
  SELECT array_agg(mine.id) INTO v_due
    FROM (SELECT r.id
            FROM execution.runs r
           WHERE r.id IN (SELECT q.run_id FROM execution.reevaluations q
                           WHERE q.due_at <= now() ORDER BY q.due_at LIMIT p_limit)
           ORDER BY r.id
             FOR NO KEY UPDATE SKIP LOCKED) mine;
  PERFORM FROM execution.fn_compute_submission_trust(v_due);
  RETURN coalesce(cardinality(v_due), 0);
END
$$;

-- Queues runs to be judged as soon as may be.
CREATE FUNCTION execution.fn_queue_runs(p_run_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO execution.reevaluations AS q (run_id, due_at)
  SELECT DISTINCT run.id, now() FROM unnest(p_run_ids) AS run (id) ORDER BY run.id
  ON CONFLICT (run_id) DO UPDATE SET due_at = least(q.due_at, excluded.due_at);
END
$$;

-- Whatever a level rests on queues its runs when it changes (trust.md, rule 15). Runs and attestations have one writer
-- each, which judges in the same transaction.
CREATE FUNCTION execution.fn_queue_by_link() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM execution.fn_queue_runs(array_agg(c.run_id)) FROM changed c HAVING count(*) > 0;
  RETURN NULL;
END
$$;

CREATE FUNCTION execution.fn_queue_by_submission() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM execution.fn_queue_runs(array_agg(l.run_id))
     FROM changed c JOIN execution.links l ON l.submission_id = c.id HAVING count(*) > 0;
  RETURN NULL;
END
$$;

CREATE FUNCTION execution.fn_queue_by_heartbeat() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM execution.fn_queue_runs(array_agg(a.run_id))
     FROM changed c
     JOIN execution.attestations a
       ON a.device_id = c.device_id
      AND NOT a.heartbeat_fresh
      AND a.stored_at BETWEEN c.stored_at
                          AND c.stored_at + make_interval(secs => devices.fn_limit('heartbeatFreshSeconds'))
   HAVING count(*) > 0;
  RETURN NULL;
END
$$;

CREATE TRIGGER queue_runs AFTER INSERT ON execution.links
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_by_link();
CREATE TRIGGER queue_runs AFTER UPDATE ON battles.submissions
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_by_submission();
CREATE TRIGGER queue_runs AFTER INSERT ON devices.heartbeats
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_by_heartbeat();

GRANT EXECUTE ON FUNCTION execution.fn_compute_submission_trust(uuid[]) TO ltg_trust_evaluator;
GRANT EXECUTE ON FUNCTION execution.fn_reevaluate_due(integer) TO ltg_trust_evaluator;

-- The present level of a run, and of a submission, for whoever may see it: row security decides.
CREATE FUNCTION execution.fn_get_run_trust(p_run_id uuid)
RETURNS TABLE (run_id uuid, submission_id uuid, trust_level text, reason text, facts jsonb, evaluated_at timestamptz)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT e.run_id, e.submission_id, e.trust_level, e.reason, e.facts, e.evaluated_at
    FROM execution.trust_evaluations e WHERE e.run_id = p_run_id ORDER BY e.id DESC LIMIT 1;
END
$$;

-- As above; a submission that nothing was run for is `unverified`, and one that is not the caller's has no row.
CREATE FUNCTION execution.fn_get_submission_trust(p_submission_id uuid)
RETURNS TABLE (run_id uuid, submission_id uuid, trust_level text, reason text, facts jsonb, evaluated_at timestamptz)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT e.run_id, s.id, coalesce(e.trust_level, 'unverified'), e.reason, e.facts, e.evaluated_at
    FROM battles.submissions s
    LEFT JOIN LATERAL (
      SELECT t.* FROM execution.trust_evaluations t WHERE t.submission_id = s.id ORDER BY t.id DESC LIMIT 1) e ON true
   WHERE s.id = p_submission_id;
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_get_run_trust(uuid) TO authenticated;
GRANT EXECUTE ON FUNCTION execution.fn_get_submission_trust(uuid) TO authenticated;
