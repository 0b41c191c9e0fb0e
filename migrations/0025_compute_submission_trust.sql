-- From rows to facts, from facts to a level, and when to look again.
SET LOCAL ROLE ltg_owner;

-- What facts need of a run's attestation; all but run_id null where there is none.
CREATE TYPE execution.attested AS (
  run_id uuid,
  id uuid,
  device_id uuid,
  key_number integer,
  device_trusted boolean,
  gateway_verified boolean,
  signed boolean,
  heartbeat_fresh boolean,
  as_permitted boolean,
  lens_hash bytea,
  workflow_hash bytea,
  tool_invocations integer,
  started_at timestamptz,
  ended_at timestamptz,
  stored_at timestamptz,
  recorded_at timestamptz
);

CREATE TYPE execution.run_facts AS (
  run_id uuid,
  lenser_id uuid,
  submission_id uuid,
  attestation_id uuid,
  recorded_at timestamptz,
  facts jsonb
);

-- The runs with what is stored of their attestations.
CREATE FUNCTION execution.fn_attested(p_run_ids uuid[]) RETURNS execution.attested[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- A plan kept from when the tables were small must not read them whole when they are large.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN (
    SELECT array_agg(ROW(
             r.id, a.id, a.device_id, a.key_number, a.device_trusted, a.gateway_verified, a.signed, a.heartbeat_fresh,
             a.as_permitted, a.lens_hash, a.workflow_hash, a.tool_invocations, a.started_at, a.ended_at, a.stored_at,
             a.recorded_at)::execution.attested)
      FROM execution.runs r
      LEFT JOIN execution.attestations a ON a.run_id = r.id
     WHERE r.id = ANY (p_run_ids));
END
$$;

-- The facts of runs, in the order given. Each is about the time from the permit to the attestation's store time, never about
-- now (trust.md, rule 1), so judging again without new evidence says the same again. No value that a client sent is among
-- them but what its signature binds. The only place where rows become facts: for what is being stored and for what is.
CREATE FUNCTION execution.fn_facts(p_attested execution.attested[]) RETURNS SETOF execution.run_facts
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  c_fresh CONSTANT interval := make_interval(secs => devices.fn_limit('heartbeatFreshSeconds'));
  c_slack CONSTANT interval := make_interval(secs => devices.fn_limit('claimedTimeSlackSeconds'));
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
      -- seen stays seen when the heartbeats of that hour are gone. Of a runner: heard where it ran (RH-4).
      'heartbeat_fresh', coalesce(a.heartbeat_fresh, false)
        OR EXISTS (
          SELECT FROM devices.heartbeats h
           WHERE h.device_id = a.device_id
             AND h.stored_at BETWEEN a.stored_at - c_fresh AND a.stored_at
             AND (r.runner_id IS NULL OR r.runner_id = ANY (h.runners)))
        OR EXISTS (
          SELECT FROM execution.trust_evaluations e
           WHERE e.run_id = r.id AND e.attestation_id = a.id AND e.facts -> 'heartbeat_fresh' = 'true'),
      -- What was attested is what the permit pinned, and the pinned row said so all the while (rule 11).
      'version_unchanged', a.id IS NOT NULL
        AND (a.lens_hash, a.workflow_hash) IS NOT DISTINCT FROM (r.lens_hash, r.workflow_hash)
        AND (r.version_id IS NULL OR CASE
          WHEN change.changed_at IS NULL
            THEN (v.lens_hash, v.workflow_hash) IS NOT DISTINCT FROM (r.lens_hash, r.workflow_hash)
          ELSE change.changed_at > a.stored_at
            AND (change.lens_hash, change.workflow_hash) IS NOT DISTINCT FROM (r.lens_hash, r.workflow_hash) END),
      'runner_named', r.runner_id IS NOT NULL,
      -- The permit's binding, which is older than the permit, not ended when this was stored (rule 10).
      'binding_active', coalesce(
        b.bound_at <= r.issued_at AND (b.ended_at IS NULL OR b.ended_at > a.stored_at), false),
      'signed', coalesce(a.signed, false),
      -- The claim was made after the envelope was stored and before it was recorded (rule 12).
      'gateway_verified', coalesce(a.gateway_verified AND NOT EXISTS (
        SELECT FROM devices.claim_invalidations i
         WHERE i.since <= a.recorded_at AND i.until > a.stored_at), false),
      -- Permitted, never withdrawn, covered from its start to its end, what ran is what was permitted, and every tool that it
      -- used is on record and was allowed (rules 5 and 6, WT-3).
      'policy_passed', coalesce(
        a.as_permitted AND (policy.is_allowed OR policy.is_approved) AND NOT policy.is_withdrawn
        -- An end before its start, or after it was told, is no time that anything covers.
        AND CASE WHEN a.started_at <= a.ended_at AND a.ended_at <= a.stored_at + c_slack
              THEN policy.cover @> tstzrange(a.started_at, a.ended_at, '[]') END
        AND tools.logged = a.tool_invocations AND tools.last = a.tool_invocations AND NOT tools.is_denied, false),
      'workflow_hash', a.workflow_hash IS NOT NULL,
      'lens_hash', a.lens_hash IS NOT NULL)
    FROM unnest(p_attested) WITH ORDINALITY a
    JOIN execution.runs r ON r.id = a.run_id
    LEFT JOIN execution.links l ON l.run_id = r.id
    LEFT JOIN battles.submissions s ON s.id = l.submission_id
    LEFT JOIN battles.contenders c ON c.id = s.contender_id
    LEFT JOIN execution.runner_device_bindings b ON b.id = r.binding_id AND a.id IS NOT NULL
    LEFT JOIN lenses.versions v ON v.id = r.version_id
    -- What the row said until it was first changed after the permit.
    LEFT JOIN LATERAL (
      SELECT x.changed_at, x.lens_hash, x.workflow_hash
        FROM lenses.version_changes x
       WHERE x.version_id = r.version_id AND x.changed_at >= r.issued_at AND a.id IS NOT NULL
       ORDER BY x.changed_at
       LIMIT 1) change ON true
    LEFT JOIN LATERAL (
      SELECT bool_and(e.verdict = 'allow') FILTER (WHERE e.phase = 'start') AS is_allowed,
             bool_and(e.verdict IN ('allow', 'require_approval')) FILTER (WHERE e.phase = 'start')
               -- By a person who was asked before it ran: a renewal that came in before the answer may be applied after it.
               AND bool_or(e.phase = 'approval' AND e.verdict = 'allow' AND e.asked_at <= a.started_at + c_slack)
               AS is_approved,
             -- A device that takes a run back says that nothing ran: no time that it claims for it is true.
             bool_or(e.phase = 'renewal' AND e.verdict IN ('deny', 'pause') AND e.asked_at <= a.ended_at
                     OR e.phase = 'withdrawal' AND e.asked_at <= a.stored_at) AS is_withdrawn,
             range_agg(tstzrange(e.asked_at - c_slack, e.covered_until, '[]'))
               FILTER (WHERE e.covered_until >= e.asked_at) AS cover
        FROM agents.policy_evaluations e
       WHERE e.run_id = r.id AND a.id IS NOT NULL) policy ON true
    LEFT JOIN LATERAL (
      SELECT count(*) AS logged, coalesce(max(t.seq), 0) AS last, coalesce(bool_or(t.verdict = 'deny'), false) AS is_denied
        FROM agents.tool_invocations t
       WHERE t.run_id = r.id AND t.stored_at <= a.stored_at) tools ON true
   ORDER BY a.ordinality;
END
$$;

-- Adds to the history of runs where level, facts, submission or attestation changed (EA-5), and queues those again that only
-- a heartbeat keeps down. Who calls it holds the runs' rows, and did before it read their facts.
CREATE FUNCTION execution.fn_evaluate(p_facts execution.run_facts[])
RETURNS TABLE (
  run_id uuid, submission_id uuid, attestation_id uuid, trust_level text, reason text, facts jsonb, ladder jsonb
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
  WITH judged AS MATERIALIZED (
    SELECT f.*, j.level, j.reason, j.ladder
      FROM unnest(p_facts) f, execution.fn_judge(f.facts) j
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

-- Takes runs' places in the queue, before any fact is read: what is inserted meanwhile queues them again. Who takes them holds
-- the runs' rows, and judges them: whatever queued one would go unheard else.
CREATE FUNCTION execution.fn_take_places(p_run_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  PERFORM FROM execution.reevaluations q WHERE q.run_id = ANY (p_run_ids) ORDER BY q.run_id FOR UPDATE;
  DELETE FROM execution.reevaluations q WHERE q.run_id = ANY (p_run_ids);
END
$$;

-- Takes runs to be judged: their rows, so that their history has one order, then their places in the queue.
CREATE FUNCTION execution.fn_take_runs(p_run_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  PERFORM FROM execution.runs r WHERE r.id = ANY (p_run_ids) ORDER BY r.id FOR NO KEY UPDATE;
  PERFORM execution.fn_take_places(p_run_ids);
END
$$;

-- Judges runs by what is stored of them.
CREATE FUNCTION execution.fn_compute_submission_trust(p_run_ids uuid[])
RETURNS TABLE (
  run_id uuid, submission_id uuid, attestation_id uuid, trust_level text, reason text, facts jsonb, ladder jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- For all that is called from here: to plan anew for each array of ids would cost a small batch more than its work.
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM execution.fn_take_runs(p_run_ids);
  RETURN QUERY
  SELECT e.run_id, e.submission_id, e.attestation_id, e.trust_level, e.reason, e.facts, e.ladder
    FROM execution.fn_evaluate(ARRAY(SELECT f FROM execution.fn_facts(execution.fn_attested(p_run_ids)) f)) e;
END
$$;

-- Judges up to p_limit runs whose time has come and says how many. A run that somebody is judging is left to them.
CREATE FUNCTION execution.fn_reevaluate_due(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- For all that is called from here: to plan anew for each array of ids would cost a small batch more than its work.
SET plan_cache_mode = force_generic_plan
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
SET enable_seqscan = off
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
SET enable_seqscan = off
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

-- Verdicts and tool entries that come after the attestation. Whoever attests a run holds its row, so that of two that do not
-- see each other one waits here.
CREATE FUNCTION execution.fn_queue_attested() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM FROM execution.runs r WHERE r.id IN (SELECT c.run_id FROM changed c) ORDER BY r.id FOR NO KEY UPDATE;
  PERFORM execution.fn_queue_runs(array_agg(a.run_id))
     FROM execution.attestations a WHERE a.run_id IN (SELECT c.run_id FROM changed c) HAVING count(*) > 0;
  RETURN NULL;
END
$$;

-- A binding that ended, or a version that changed, before attestations that were applied already; whoever attests holds the
-- binding's and the version's row.
CREATE FUNCTION execution.fn_queue_by_binding() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM execution.fn_queue_runs(array_agg(a.run_id))
     FROM changed c
     JOIN execution.attestations a ON a.device_id = c.device_id AND a.stored_at >= c.ended_at
     JOIN execution.runs r ON r.id = a.run_id AND r.binding_id = c.id
   HAVING count(*) > 0;
  RETURN NULL;
END
$$;

CREATE FUNCTION execution.fn_queue_by_version() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM execution.fn_queue_runs(array_agg(a.run_id))
     FROM changed c
     JOIN lenses.versions v ON v.id = c.version_id
     JOIN devices.registered_devices d ON d.lenser_id = v.lenser_id
     JOIN execution.attestations a ON a.device_id = d.id AND a.stored_at >= c.changed_at
     JOIN execution.runs r ON r.id = a.run_id AND r.version_id = c.version_id
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
CREATE TRIGGER queue_runs AFTER INSERT ON agents.policy_evaluations
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_attested();
CREATE TRIGGER queue_runs AFTER INSERT ON agents.tool_invocations
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_attested();
CREATE TRIGGER queue_runs AFTER UPDATE ON execution.runner_device_bindings
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_by_binding();
CREATE TRIGGER queue_runs AFTER INSERT ON lenses.version_changes
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_queue_by_version();

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
