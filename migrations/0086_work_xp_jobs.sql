-- Who earned what, and the working of jobs. Nobody's word is read: what a source is worth follows from its own rows.
SET LOCAL ROLE ltg_owner;

-- Whose a source is, if what the rule asks for happened; no row where it did not. For a run (AC-4) that is an evaluation at
-- fully_trusted that rests on an attestation whose signature the server verified itself.
CREATE FUNCTION xp.fn_earned(p_rule text, p_source uuid, OUT lenser_id uuid, OUT evaluation_id bigint) RETURNS SETOF record
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  CASE p_rule
    -- A device from before there were keys was registered by nobody's signature.
    WHEN 'DEVICE_REGISTERED' THEN RETURN QUERY
      SELECT d.lenser_id, NULL::bigint FROM devices.registered_devices d WHERE d.id = p_source AND NOT d.is_legacy;
    WHEN 'DEVICE_VERIFIED' THEN RETURN QUERY
      SELECT d.lenser_id, NULL::bigint FROM devices.registered_devices d
       WHERE d.id = p_source AND NOT d.is_legacy AND d.approved_at IS NOT NULL;
    WHEN 'RUNNER_CONNECTED' THEN RETURN QUERY
      SELECT r.lenser_id, NULL::bigint FROM execution.runners r
       WHERE r.id = p_source AND EXISTS (SELECT FROM execution.runner_device_bindings b WHERE b.runner_id = r.id);
    WHEN 'BATTLE_SUBMISSION_COMPLETED' THEN RETURN QUERY
      SELECT s.submitter_lenser_id, e.id
        FROM execution.trust_evaluations e JOIN battles.submissions s ON s.id = e.submission_id
       WHERE e.submission_id = p_source ORDER BY e.id + 0 LIMIT 1;
    WHEN 'VERIFIED_LOCAL_EXECUTION_COMPLETED' THEN RETURN QUERY
      SELECT r.requester_lenser_id, e.id
        FROM execution.trust_evaluations e
        JOIN execution.runs r ON r.id = e.run_id
        JOIN execution.attestations a ON a.id = e.attestation_id AND a.run_id = e.run_id
       WHERE e.run_id = p_source AND e.trust_level = 'fully_trusted' AND a.gateway_verified AND a.signed
       ORDER BY e.id + 0 LIMIT 1;
    ELSE RAISE EXCEPTION 'there is no such rule' USING ERRCODE = 'invalid_parameter_value';
  END CASE;
END
$$;

-- Nothing is given that was not earned, whoever writes it.
CREATE FUNCTION xp.fn_guard_ledger() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.reverses IS NULL AND NOT EXISTS (
    SELECT FROM xp.fn_earned(NEW.rule, NEW.source_id) e
     WHERE (e.lenser_id, e.evaluation_id) IS NOT DISTINCT FROM (NEW.lenser_id, NEW.evaluation_id)) THEN
    RAISE EXCEPTION 'this was not earned' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_ledger BEFORE INSERT ON xp.ledger
  FOR EACH ROW EXECUTE FUNCTION xp.fn_guard_ledger();
ALTER TABLE xp.ledger ENABLE ALWAYS TRIGGER guard_ledger;

-- Gives what sources earned, each under its rule, unless it was given. In one order, so that no two wait for one another.
CREATE FUNCTION xp.fn_mint(p_rules text[], p_sources uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO xp.ledger (lenser_id, rule, source_id, amount, evaluation_id)
  SELECT e.lenser_id, r.code, asked.source, r.amount, e.evaluation_id
    FROM (SELECT DISTINCT u.rule, u.source FROM unnest(p_rules, p_sources) AS u (rule, source)) asked
    JOIN xp.rules r ON r.code = asked.rule AND r.enabled
   CROSS JOIN LATERAL xp.fn_earned(asked.rule, asked.source) e
   ORDER BY r.code, asked.source
  ON CONFLICT (rule, source_id) WHERE reverses IS NULL DO NOTHING;
END
$$;

-- Takes back what was given for runs that fell from fully_trusted since (trust.md, rule 14): once, for good. It is looked for
-- in a run's history, not in its present level, so it is the same whenever it is done.
CREATE FUNCTION xp.fn_reverse(p_runs uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  INSERT INTO xp.ledger (lenser_id, rule, source_id, amount, evaluation_id, reverses)
  SELECT l.lenser_id, l.rule, l.source_id, -l.amount, fall.id, l.id
    FROM xp.ledger l
    JOIN LATERAL (
      SELECT e.id FROM execution.trust_evaluations e
       WHERE e.run_id = l.source_id AND e.id > l.evaluation_id AND e.trust_level <> 'fully_trusted'
       ORDER BY e.id + 0 LIMIT 1) fall ON true
   WHERE l.rule = 'VERIFIED_LOCAL_EXECUTION_COMPLETED' AND l.source_id = ANY (p_runs) AND l.reverses IS NULL
   ORDER BY l.source_id
  ON CONFLICT (reverses) DO NOTHING;
END
$$;

-- Judges sources anew, each under its rule: what was earned is given, what was lost is taken back, each once, however often
-- and in whatever order this is called. 22023 where there is no such rule.
CREATE FUNCTION xp.fn_settle(p_rules text[], p_sources uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM unnest(p_rules) AS u (rule) WHERE NOT EXISTS (SELECT FROM xp.rules r WHERE r.code = u.rule)) THEN
    RAISE EXCEPTION 'there is no such rule' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM xp.fn_mint(p_rules, p_sources);
  PERFORM xp.fn_reverse(ARRAY(
    SELECT u.source FROM unnest(p_rules, p_sources) AS u (rule, source)
     WHERE u.rule = 'VERIFIED_LOCAL_EXECUTION_COMPLETED'));
END
$$;

-- Does what jobs ask for, all of it or nothing.
CREATE FUNCTION xp.fn_do_jobs(p_jobs xp.jobs[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_job record;
BEGIN
  PERFORM xp.fn_settle(array_agg(j.task), array_agg(j.source_id)) FROM unnest(p_jobs) j WHERE j.task <> 'REPUTATION'
   HAVING count(*) > 0;
  FOR v_job IN
    SELECT DISTINCT j.lenser_id, j.source_id FROM unnest(p_jobs) j WHERE j.task = 'REPUTATION' ORDER BY 1, 2
  LOOP
    PERFORM reputation.fn_count_submission(v_job.source_id);
  END LOOP;
  -- What is only found out at the end of a transaction is to be found out here.
  SET CONSTRAINTS ALL IMMEDIATE;
END
$$;

-- Works one job by itself. Whatever fails is undone and left for later: after a while that doubles, and after so many attempts
-- the job is dead, until somebody has it retried.
CREATE FUNCTION xp.fn_work_job(INOUT p_job xp.jobs)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_wait double precision;
BEGIN
  BEGIN
    PERFORM xp.fn_do_jobs(ARRAY[p_job]);
    p_job.state := 'done';
  EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS p_job.last_error = RETURNED_SQLSTATE;
    p_job.attempts := p_job.attempts + 1;
    p_job.state := CASE WHEN p_job.attempts >= devices.fn_limit('xpAttempts') THEN 'dead' ELSE 'pending' END;
    v_wait := least(
      devices.fn_limit('xpRetryFloorSeconds') * 2 ^ (p_job.attempts - 1),
      devices.fn_limit('xpRetryCeilingSeconds'));
    p_job.tried_at := now();
    p_job.due_at := now() + make_interval(secs => v_wait);
  END;
  p_job.ended_at := CASE WHEN p_job.state <> 'pending' THEN now() END;
  UPDATE xp.jobs j
     SET state = p_job.state, attempts = p_job.attempts, due_at = p_job.due_at, tried_at = p_job.tried_at,
         last_error = p_job.last_error, ended_at = p_job.ended_at
   WHERE j.id = p_job.id;
END
$$;

-- Works jobs at once, and where that fails says so and has done nothing: then each is worked by itself.
CREATE FUNCTION xp.fn_try_jobs(p_jobs xp.jobs[]) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM xp.fn_do_jobs(p_jobs);
  UPDATE xp.jobs j SET state = 'done', ended_at = now() WHERE j.id IN (SELECT d.id FROM unnest(p_jobs) d);
  RETURN true;
EXCEPTION WHEN OTHERS THEN
  RETURN false;
END
$$;

-- Works up to p_limit jobs that are due, and says how many were done, failed, or failed for the last time, naming the first
-- that failed and all that are dead. Jobs that somebody works are left to them. All take sources in one order, so that of two
-- workers neither ever waits for one that waits for it.
CREATE FUNCTION xp.fn_work_jobs(p_limit integer)
RETURNS TABLE (done integer, failed integer, dead integer, failures jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_jobs xp.jobs[];
  v_job xp.jobs;
BEGIN
  WITH due AS MATERIALIZED (
    SELECT j.* FROM xp.jobs j WHERE j.state = 'pending' AND j.due_at <= now()
     ORDER BY j.due_at, j.id LIMIT least(p_limit, 1000) FOR UPDATE SKIP LOCKED
  )
  SELECT coalesce(array_agg(d::xp.jobs ORDER BY
           d.task = 'REPUTATION', CASE WHEN d.task = 'REPUTATION' THEN d.lenser_id END, d.task, d.source_id, d.id), '{}')
    INTO v_jobs FROM due d;
  done := 0;
  failed := 0;
  dead := 0;
  failures := '[]';
  IF cardinality(v_jobs) > 0 AND xp.fn_try_jobs(v_jobs) THEN
    done := cardinality(v_jobs);
    v_jobs := '{}';
  END IF;
  FOREACH v_job IN ARRAY v_jobs LOOP
    v_job := xp.fn_work_job(v_job);
    done := done + (v_job.state = 'done')::integer;
    failed := failed + (v_job.state = 'pending')::integer;
    dead := dead + (v_job.state = 'dead')::integer;
    IF v_job.state = 'dead' OR v_job.state = 'pending' AND failed = 1 THEN
      failures := failures || jsonb_build_object(
        'job', v_job.id, 'task', v_job.task, 'source', v_job.source_id, 'state', v_job.state,
        'attempts', v_job.attempts, 'sqlstate', v_job.last_error);
    END IF;
  END LOOP;
  -- The ledger is the record; what a job came to is kept a day for whoever looks.
  DELETE FROM xp.jobs j WHERE j.id IN (
    SELECT o.id FROM xp.jobs o WHERE o.state = 'done' AND o.ended_at < now() - interval '1 day'
     ORDER BY o.ended_at LIMIT 2 * least(p_limit, 1000) FOR UPDATE SKIP LOCKED);
  RETURN NEXT;
END
$$;
GRANT EXECUTE ON FUNCTION xp.fn_work_jobs(integer) TO ltg_trust_evaluator;

-- The platform's way to judge a source at once: no way to give what was not earned. Says what stands in the ledger for it.
CREATE FUNCTION xp.apply(p_rule text, p_source uuid) RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM xp.fn_settle(ARRAY[p_rule], ARRAY[p_source]);
  RETURN (
    SELECT jsonb_build_object(
             'minted', coalesce(sum(l.amount) FILTER (WHERE l.reverses IS NULL), 0),
             'reversed', coalesce(-sum(l.amount) FILTER (WHERE l.reverses IS NOT NULL), 0))
      FROM xp.ledger l WHERE l.rule = p_rule AND l.source_id = p_source);
END
$$;

-- How many jobs there are in each state, since when the oldest has been due, and the first hundred dead ones.
CREATE FUNCTION xp.fn_jobs_overview() RETURNS jsonb
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
             'pending', count(*) FILTER (WHERE j.state = 'pending'),
             'failing', count(*) FILTER (WHERE j.state = 'pending' AND j.attempts > 0),
             'done', count(*) FILTER (WHERE j.state = 'done'),
             'dead', count(*) FILTER (WHERE j.state = 'dead'),
             'due_since', min(j.due_at) FILTER (WHERE j.state = 'pending' AND j.due_at <= now()))
      FROM xp.jobs j)
    || jsonb_build_object('dead_jobs', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
               'job', d.id, 'task', d.task, 'source', d.source_id, 'lenser', d.lenser_id, 'attempts', d.attempts,
               'sqlstate', d.last_error, 'created_at', d.created_at, 'ended_at', d.ended_at) ORDER BY d.id), '[]')
        FROM (SELECT * FROM xp.jobs j WHERE j.state = 'dead' ORDER BY j.id LIMIT 100) d));
END
$$;

-- Has up to p_limit dead jobs tried again from the start, oldest first; how many.
CREATE FUNCTION xp.fn_jobs_retry(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_count integer;
BEGIN
  UPDATE xp.jobs j
     SET state = 'pending', attempts = 0, due_at = now(), ended_at = NULL
   WHERE j.id IN (SELECT d.id FROM xp.jobs d WHERE d.state = 'dead' ORDER BY d.id LIMIT p_limit FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$$;
GRANT EXECUTE ON FUNCTION xp.apply(text, uuid), xp.fn_jobs_overview(), xp.fn_jobs_retry(integer) TO service_role;
