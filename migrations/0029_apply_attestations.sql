SET LOCAL ROLE ltg_owner;

-- What an attestation says, apart from its op_id, its counter and flags that nobody reads (EA-3).
CREATE FUNCTION execution.fn_attested_content(p_body jsonb) RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN sha256(convert_to(
    (p_body - ARRAY['op_id', 'counter', 'signed', 'gateway_verified', 'device_trusted', 'policy_passed'])::text, 'UTF8'));
END
$$;

-- What becomes of each item that is new: a code, or none where it counts; `is_first` where it is to be stored. The runs' rows
-- are locked. One attestation a run counts: the same content once more has the first one's result (rule 4).
CREATE FUNCTION execution.fn_judge_attestations(p_items devices.verified_item[])
RETURNS TABLE (n integer, run_id uuid, code text, is_first boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
  WITH asked AS MATERIALIZED (
    SELECT i.ordinality::integer AS n, ((i.parts).body ->> 'run_id')::uuid AS run_id, i.lenser_id, (i.parts).kid AS kid,
           execution.fn_attested_content((i.parts).body) AS content
      FROM unnest(p_items) WITH ORDINALITY i
     WHERE i.step = 'new'
  ), entitled AS (
    SELECT a.n, r.id AS run_id, a.content, stored.content_hash, coalesce(settings.runner_paused, false) AS is_paused,
           CASE
             WHEN r.id IS NULL THEN 'unknown_run'
             WHEN r.requester_lenser_id <> a.lenser_id OR r.device_id <> a.kid THEN 'run_not_owned'
             -- PE-3: nothing is stored of what was not to run.
             WHEN start.verdict IN ('deny', 'pause') THEN 'policy_denied'
           END AS code
      FROM asked a
      LEFT JOIN execution.runs r ON r.id = a.run_id
      LEFT JOIN LATERAL (
        SELECT e.verdict FROM agents.policy_evaluations e
         WHERE e.run_id = r.id AND e.phase = 'start' ORDER BY e.id LIMIT 1) start ON true
      LEFT JOIN execution.attestations stored ON stored.run_id = r.id
      LEFT JOIN agents.workspace_settings settings ON settings.lenser_id = a.lenser_id
  ), ordered AS (
    SELECT e.*, row_number() OVER same_run AS place, first_value(e.content) OVER same_run AS first_content
      FROM entitled e
    WINDOW same_run AS (PARTITION BY e.run_id, e.code ORDER BY e.n)
  )
  SELECT o.n, o.run_id,
         CASE
           WHEN o.code IS NOT NULL THEN o.code
           WHEN o.content <> coalesce(o.content_hash, o.first_content) THEN 'already_attested'
           -- Honest work is not lost: it is sent again until its owner lifts the pause (KS-2, rule 9).
           WHEN o.content_hash IS NULL AND o.is_paused THEN 'workspace_paused'
         END,
         o.code IS NULL AND o.content_hash IS NULL AND NOT o.is_paused AND o.place = 1
    FROM ordered o
   ORDER BY o.n;
END
$$;

-- The rows of what is to be stored, at these places. What is the device's word comes from the verified body and from nothing
-- beside it (law 4); what execution.fn_facts derives is left open.
CREATE FUNCTION execution.fn_read_attestations(p_items devices.verified_item[], p_places integer[])
RETURNS execution.attestations[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN (
    SELECT array_agg(ROW(
             uuidv7(), r.id, i.lenser_id, r.device_id, i.key_number, (i.parts).op_id, (i.parts).wire, (i.parts).digest,
             execution.fn_attested_content(b.body),
             said.command_hash,
             devices.fn_b64url_decode(b.body ->> 'stdin_hash'),
             devices.fn_b64url_decode(b.body ->> 'stdout_hash'),
             b.body -> 'inputs', b.body -> 'outputs', said.lens_hash, said.workflow_hash,
             to_timestamp((b.body ->> 'started_at')::bigint / 1e3), to_timestamp((b.body ->> 'ended_at')::bigint / 1e3),
             (b.body ->> 'exit_code')::smallint, b.body ->> 'signal', coalesce((b.body ->> 'tool_invocations')::integer, 0),
             -- What ran is what was permitted (rule 5); what an older edge does not name is not asked for.
             said.command_hash = r.command_hash AND b.body -> 'inputs' = r.inputs
               AND (said.lens_hash, said.workflow_hash) IS NOT DISTINCT FROM (r.lens_hash, r.workflow_hash)
               AND (NOT b.body ? 'runner_id' OR (b.body ->> 'runner_id')::uuid IS NOT DISTINCT FROM r.runner_id)
               AND (NOT b.body ? 'contender_id' OR (b.body ->> 'contender_id')::uuid IS NOT DISTINCT FROM r.contender_id)
               AND (NOT b.body ? 'version_id' OR (b.body ->> 'version_id')::uuid IS NOT DISTINCT FROM r.version_id),
             -- There is a claim of the verifier's for this digest, and the evaluator checked the signature itself before it
             -- called.
             true, true,
             -- At the claim its state let it send this; its row is locked now (rule 7).
             devices.fn_is_trusted(i.trust_level, i.earlier_level),
             NULL, NULL, NULL, NULL, i.stored_at, now())::execution.attestations ORDER BY i.ordinality)
      FROM unnest(p_items) WITH ORDINALITY i
     CROSS JOIN LATERAL (SELECT (i.parts).body AS body) b
     CROSS JOIN LATERAL (
       SELECT devices.fn_b64url_decode(b.body ->> 'command_hash') AS command_hash,
              devices.fn_b64url_decode(b.body ->> 'lens_hash') AS lens_hash,
              devices.fn_b64url_decode(b.body ->> 'workflow_hash') AS workflow_hash
       -- Fenced, so that each is decoded once and not wherever it is named.
       OFFSET 0) said
      JOIN execution.runs r ON r.id = (b.body ->> 'run_id')::uuid
     WHERE i.ordinality = ANY (p_places));
END
$$;

-- Stores attestations with the facts that the server derives (EA-3, AC-1 to AC-3), and returns all facts of their runs.
CREATE FUNCTION execution.fn_store_attestations(p_new execution.attestations[]) RETURNS execution.run_facts[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_facts execution.run_facts[] := ARRAY(
    SELECT f
      FROM execution.fn_facts(ARRAY(
             SELECT ROW(a.run_id, a.id, a.device_id, a.key_number, a.device_trusted, a.gateway_verified, a.signed,
                        a.heartbeat_fresh, a.as_permitted, a.lens_hash, a.workflow_hash, a.tool_invocations, a.started_at,
                        a.ended_at, a.stored_at, a.recorded_at)::execution.attested
               FROM unnest(p_new) WITH ORDINALITY a ORDER BY a.ordinality)) f);
BEGIN
  INSERT INTO execution.attestations
  SELECT a.id, a.run_id, a.lenser_id, a.device_id, a.key_number, a.op_id, a.wire, a.digest, a.content_hash, a.command_hash,
         a.stdin_hash, a.stdout_hash, a.inputs, a.outputs, a.lens_hash, a.workflow_hash, a.started_at, a.ended_at,
         a.exit_code, a.signal, a.tool_invocations, a.as_permitted,
         a.signed,
         (f.facts -> 'gateway_verified')::boolean,
         (f.facts -> 'device_trusted')::boolean,
         (f.facts -> 'policy_passed')::boolean,
         (f.facts -> 'version_unchanged')::boolean,
         (f.facts -> 'binding_active')::boolean,
         (f.facts -> 'heartbeat_fresh')::boolean,
         a.stored_at, a.recorded_at
    FROM unnest(p_new) WITH ORDINALITY a
   CROSS JOIN LATERAL (SELECT (v_facts[a.ordinality]).facts AS facts) f;
  RETURN v_facts;
END
$$;

-- The results of runs that were judged, by their ids.
CREATE FUNCTION execution.fn_attestation_results(p_facts execution.run_facts[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(t.run_id, jsonb_build_object(
             'run_id', t.run_id, 'attestation_id', t.attestation_id, 'level', t.trust_level, 'reason', t.reason,
             'facts', t.facts, 'ladder', t.ladder)), '{}')
      FROM execution.fn_evaluate(p_facts) t);
END
$$;

-- Applies attestations (EA-1 to EA-5). Called with envelopes whose signature and digest the evaluator checked itself.
CREATE FUNCTION execution.fn_record_execution_attestation(p_envelopes text[])
RETURNS TABLE (idx integer, outcome jsonb)
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
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'attestation', false));
  -- Their own runs alone: nobody holds up another's by naming it.
  v_runs uuid[] := ARRAY(
    SELECT DISTINCT r.id
      FROM unnest(v_items) i JOIN execution.runs r ON r.id = ((i.parts).body ->> 'run_id')::uuid
     WHERE i.step = 'new' AND r.requester_lenser_id = i.lenser_id AND r.device_id = (i.parts).kid);
  v_item devices.verified_item;
  v_verdict record;
  v_first integer[];
  v_judged uuid[];
  v_results jsonb;
BEGIN
  PERFORM execution.fn_hold_pinned(v_runs);
  FOR v_verdict IN SELECT * FROM execution.fn_judge_attestations(v_items) LOOP
    v_item := v_items[v_verdict.n];
    IF v_verdict.code IS NULL THEN
      v_item.run_id := v_verdict.run_id;
    ELSE
      v_item.outcome := devices.fn_refusal(v_verdict.code);
    END IF;
    IF v_verdict.is_first THEN
      v_first := v_first || v_verdict.n;
      v_judged := v_judged || v_verdict.run_id;
    END IF;
    v_items[v_verdict.n] := v_item;
  END LOOP;

  -- Of what is refused, or comes again, nothing is judged here, and what is to judge it waits on.
  PERFORM execution.fn_take_places(v_judged);
  v_results := execution.fn_attestation_results(
    execution.fn_store_attestations(execution.fn_read_attestations(v_items, v_first)));
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.run_id IS NULL;
    -- The same content once more, under another op_id: the first one's result.
    v_item.outcome := devices.fn_ok(coalesce(v_results -> v_item.run_id::text, execution.fn_first_result(v_item)));
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

-- Holds what runs are pinned to, then the runs, before anything is read of them: a binding does not end, a version does not
-- change and no claims are declared void between what is judged here and its commit (rules 10 to 12). In this order: who ends a
-- binding holds it while its runs are queued.
CREATE FUNCTION execution.fn_hold_pinned(p_run_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  -- As the insert does, but before any fact is read: who declares claims void waits for it.
  LOCK TABLE execution.attestations IN ROW EXCLUSIVE MODE;
  PERFORM FROM execution.runner_device_bindings b
    WHERE b.id IN (SELECT r.binding_id FROM execution.runs r WHERE r.id = ANY (p_run_ids)) ORDER BY b.id FOR SHARE;
  PERFORM FROM lenses.versions v
    WHERE v.id IN (SELECT r.version_id FROM execution.runs r WHERE r.id = ANY (p_run_ids)) ORDER BY v.id FOR SHARE;
  PERFORM FROM execution.runs r WHERE r.id = ANY (p_run_ids) ORDER BY r.id FOR NO KEY UPDATE;
END
$$;

-- The result that was committed for the attestation of a run by another operation than this one; where none is kept any more,
-- what the run comes to now.
CREATE FUNCTION execution.fn_first_result(p_item devices.verified_item) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_result jsonb := (
    SELECT o.result
      FROM execution.attestations a
      JOIN devices.operations o ON o.kid = a.device_id AND o.op_id = a.op_id
     WHERE a.run_id = p_item.run_id AND a.op_id <> (p_item.parts).op_id);
BEGIN
  RETURN coalesce(v_result, execution.fn_attestation_results(ARRAY(
    SELECT f FROM execution.fn_facts(execution.fn_attested(ARRAY[p_item.run_id])) f)) -> p_item.run_id::text);
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_record_execution_attestation(text[]) TO ltg_trust_evaluator;
