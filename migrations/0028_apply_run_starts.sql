SET LOCAL ROLE ltg_owner;

-- Why these may not start, one row for each that may not: what its device is, what it names that is not the requester's own, a
-- runner that works where nothing may (RH-3), a submission that another run backs. The submissions are locked by the caller.
CREATE FUNCTION execution.fn_run_refusals(p_items devices.verified_item[]) RETURNS TABLE (idx integer, code text, detail text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT refused.* FROM (
    SELECT i.idx,
           CASE
             WHEN k.kind IS NULL THEN 'device_' || i.trust_level
             WHEN b.body ? 'runner_id' AND r.id IS NULL THEN 'unknown_runner'
             WHEN b.body ? 'contender_id' AND c.id IS NULL THEN 'unknown_contender'
             WHEN b.body ? 'version_id' AND v.id IS NULL THEN 'unknown_version'
             WHEN b.body ? 'submission_id' AND s.id IS NULL OR c.id <> s.contender_id THEN 'unknown_submission'
             WHEN d.trust_level IN ('revoked', 'blocked', 'unhealthy') THEN 'runner_device_unfit'
             WHEN l.run_id IS NOT NULL THEN 'submission_taken'
           END AS code,
           CASE WHEN c.id <> s.contender_id THEN 'it is another contender''s' END AS detail
      FROM unnest(p_items) i
      CROSS JOIN LATERAL (SELECT (i.parts).body) b
      LEFT JOIN devices.kind_states k ON k.kind = 'run_start' AND k.trust_level = i.trust_level
      LEFT JOIN execution.runners r ON r.id = (b.body ->> 'runner_id')::uuid AND r.lenser_id = i.lenser_id
      LEFT JOIN execution.runner_device_bindings n ON n.runner_id = r.id AND n.status = 'active'
      LEFT JOIN devices.registered_devices d ON d.id = n.device_id
      LEFT JOIN battles.contenders c ON c.id = (b.body ->> 'contender_id')::uuid AND c.owner_lenser_id = i.lenser_id
      LEFT JOIN lenses.versions v ON v.id = (b.body ->> 'version_id')::uuid AND v.lenser_id = i.lenser_id
      LEFT JOIN battles.submissions s
        ON s.id = (b.body ->> 'submission_id')::uuid AND s.submitter_lenser_id = i.lenser_id
      LEFT JOIN execution.links l ON l.submission_id = s.id) refused
   WHERE refused.code IS NOT NULL;
END
$$;

-- Writes runs' permits: what the signed bodies name, and what the server knows of it at this moment.
CREATE FUNCTION execution.fn_make_runs(p_items devices.verified_item[])
RETURNS TABLE (idx integer, run_id uuid, digest bytea, submission_id uuid)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  WITH named AS MATERIALIZED (
    SELECT i.idx, (i.parts).digest, uuidv7() AS id, i.lenser_id, (i.parts).kid, (i.parts).op_id,
           (b.body ->> 'runner_id')::uuid AS runner_id, n.id AS binding_id,
           c.id AS contender_id, c.kind AS contender_kind, c.owner_lenser_id = i.lenser_id AS is_owned,
           s.id AS submission_id, v.id AS version_id, v.lens_hash, v.workflow_id, v.workflow_hash, b.body, i.stored_at
      FROM unnest(p_items) i
      CROSS JOIN LATERAL (SELECT (i.parts).body) b
      LEFT JOIN execution.runner_device_bindings n
        ON n.runner_id = (b.body ->> 'runner_id')::uuid AND n.device_id = (i.parts).kid AND n.status = 'active'
      LEFT JOIN battles.submissions s ON s.id = (b.body ->> 'submission_id')::uuid
      LEFT JOIN lenses.versions v ON v.id = (b.body ->> 'version_id')::uuid
      -- Without one of its own, a run is its submission's contender's.
      LEFT JOIN battles.contenders c ON c.id = coalesce((b.body ->> 'contender_id')::uuid, s.contender_id)
  ), made AS (
    INSERT INTO execution.runs AS r
      (id, requester_lenser_id, device_id, op_id, runner_id, binding_id, contender_id, contender_kind, contender_owned,
       submission_id, version_id, lens_hash, workflow_id, workflow_hash, command_hash, inputs, label, started_at, issued_at)
    SELECT n.id, n.lenser_id, n.kid, n.op_id, n.runner_id, n.binding_id, n.contender_id, n.contender_kind,
           coalesce(n.is_owned, n.runner_id IS NOT NULL),
           n.submission_id, n.version_id, n.lens_hash, n.workflow_id, n.workflow_hash,
           devices.fn_b64url_decode(n.body ->> 'command_hash'), n.body -> 'inputs', n.body ->> 'label', n.stored_at, now()
      FROM named n
  )
  SELECT n.idx, n.id, n.digest, n.submission_id FROM named n;
END
$$;

-- Starts what may start of items of which no two name one submission; what became of each, by its index: {code, detail} or
-- {permit}. p_bounded: the accounts whose bounds are locked.
CREATE FUNCTION execution.fn_start_runs(p_items devices.verified_item[], p_bounded uuid[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_refused jsonb;
  v_permits jsonb;
  v_good devices.verified_item[];
BEGIN
  SELECT coalesce(jsonb_object_agg(f.idx, jsonb_build_object('code', f.code, 'detail', f.detail)), '{}')
    INTO v_refused FROM execution.fn_run_refusals(p_items) f;
  -- A bound of the gateway's own work, not of the policy's: two replicas that count at once may pass it by a batch. Only a lock of
  -- each device's at each of its starts would end that: what others have not committed yet shows nobody that the bound is near.
  WITH ranked AS (
    SELECT i, row_number() OVER (PARTITION BY (i.parts).kid ORDER BY (i.parts).op_id) + coalesce(o.open_runs, 0)
              > devices.fn_limit('openRuns') AS is_over
      FROM unnest(p_items) i
      LEFT JOIN execution.fn_count_open(
        ARRAY(SELECT DISTINCT x.lenser_id FROM unnest(p_items) x),
        ARRAY(SELECT DISTINCT (x.parts).kid FROM unnest(p_items) x)) o ON o.device_id = (i.parts).kid
     WHERE NOT v_refused ? i.idx::text
  )
  SELECT array_agg(r.i) FILTER (WHERE NOT r.is_over),
         v_refused || coalesce(jsonb_object_agg((r.i).idx, '{"code": "run_limit"}'::jsonb) FILTER (WHERE r.is_over), '{}')
    INTO v_good, v_refused
    FROM ranked r;

  WITH made AS MATERIALIZED (
    SELECT * FROM execution.fn_make_runs(v_good)
  ), judged AS MATERIALIZED (
    SELECT e.* FROM (SELECT array_agg(m.run_id ORDER BY m.run_id) AS ids, array_agg(m.digest ORDER BY m.run_id) AS digests
                       FROM made m) a,
                    agents.fn_evaluate_pre_run_policy(a.ids, a.digests, p_bounded) e
  ), linked AS (
    -- A run that may not start, or not yet, takes no submission.
    INSERT INTO execution.links (run_id, submission_id)
    SELECT m.run_id, m.submission_id FROM made m JOIN judged j ON j.run_id = m.run_id
     WHERE j.verdict = 'allow' AND m.submission_id IS NOT NULL
     ORDER BY m.run_id
  )
  SELECT jsonb_object_agg(m.idx, jsonb_build_object('permit', jsonb_build_object(
           'run_id', j.run_id, 'verdict', j.verdict, 'reason', j.reason,
           'covered_until', execution.fn_unix_ms(j.covered_until), 'denied_tools', j.denied_tools,
           'approval_expires_at', execution.fn_unix_ms(j.approval_expires_at))))
    INTO v_permits
    FROM made m JOIN judged j ON j.run_id = m.run_id;
  RETURN v_refused || coalesce(v_permits, '{}');
END
$$;

-- Applies requests to run: the requester is the device's owner, whatever is named must be theirs, the policy's verdict is
-- recorded with the run. The result is the permit; a verdict other than allow permits nothing. A runner that is bound to no device,
-- or to another, may run: the permit says so (runner_bound), since nothing proves that the run is its.
CREATE FUNCTION execution.fn_run_start(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
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
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'run_start', false));
  v_item devices.verified_item;
  v_left devices.verified_item[];
  v_now devices.verified_item[];
  v_bounded uuid[];
  v_said jsonb := '{}';
  v_pinned jsonb;
BEGIN
  -- Their own submissions alone: nobody holds up another's by naming it.
  PERFORM FROM battles.submissions s
    WHERE s.id IN (SELECT ((i.parts).body ->> 'submission_id')::uuid FROM unnest(v_items) i
                    WHERE i.step = 'new' AND s.submitter_lenser_id = i.lenser_id)
    ORDER BY s.id FOR NO KEY UPDATE;
  v_bounded := agents.fn_lock_bounds(ARRAY(SELECT DISTINCT i.lenser_id FROM unnest(v_items) i WHERE i.step = 'new'));

  SELECT array_agg(i) INTO v_left FROM unnest(v_items) i WHERE i.step = 'new';
  -- All at once, but that a submission's second run is judged when it is known whether the first took it.
  WHILE v_left IS NOT NULL LOOP
    SELECT array_agg(t.i ORDER BY t.place) FILTER (WHERE t.turn = 1), array_agg(t.i ORDER BY t.place) FILTER (WHERE t.turn > 1)
      INTO v_now, v_left
      FROM (SELECT p.i, p.place, row_number() OVER (
                     PARTITION BY coalesce(((p.i).parts).body ->> 'submission_id', (p.i).idx::text) ORDER BY p.place) AS turn
              FROM (SELECT i, row_number() OVER () AS place FROM unnest(v_left) i) p) t;
    v_said := v_said || execution.fn_start_runs(v_now, v_bounded);
  END LOOP;

  SELECT jsonb_object_agg(t.run_id, jsonb_build_object(
           'version_id', r.version_id, 'lens_hash', devices.fn_b64url(r.lens_hash),
           'workflow_id', r.workflow_id, 'workflow_hash', devices.fn_b64url(r.workflow_hash),
           'runner_id', r.runner_id, 'runner_bound', CASE WHEN r.runner_id IS NOT NULL THEN r.binding_id IS NOT NULL END,
           'contender_id', r.contender_id, 'level', t.trust_level, 'issued_at', execution.fn_unix_ms(r.issued_at)))
    INTO v_pinned
    FROM execution.fn_compute_submission_trust(ARRAY(
           SELECT (s.value #>> '{permit,run_id}')::uuid FROM jsonb_each(v_said) s WHERE s.value ? 'permit')) t
    JOIN execution.runs r ON r.id = t.run_id;
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := v_said -> v_item.idx::text;
    IF v_item.outcome ? 'permit' THEN
      v_item.run_id := v_item.outcome #>> '{permit,run_id}';
      v_item.outcome := devices.fn_ok((v_item.outcome -> 'permit') || (v_pinned -> v_item.run_id::text));
    ELSE
      v_item.outcome := devices.fn_refusal(v_item.outcome ->> 'code', v_item.outcome ->> 'detail');
    END IF;
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_run_start(text[]) TO ltg_trust_evaluator;
