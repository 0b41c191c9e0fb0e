SET LOCAL ROLE ltg_owner;

-- Whether what a run names is the requester's own: null, or the refusal. The submission's row is locked by the caller.
CREATE FUNCTION execution.fn_run_refusal(p_lenser uuid, p_body jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_submission battles.submissions;
  v_contender uuid := p_body ->> 'contender_id';
BEGIN
  IF p_body ? 'runner_id' AND NOT EXISTS (
    SELECT FROM execution.runners r WHERE r.id = (p_body ->> 'runner_id')::uuid AND r.lenser_id = p_lenser) THEN
    RETURN devices.fn_refusal('unknown_runner');
  END IF;
  IF p_body ? 'contender_id' AND NOT EXISTS (
    SELECT FROM battles.contenders c WHERE c.id = v_contender AND c.owner_lenser_id = p_lenser) THEN
    RETURN devices.fn_refusal('unknown_contender');
  END IF;
  IF p_body ? 'version_id' AND NOT EXISTS (
    SELECT FROM lenses.versions v WHERE v.id = (p_body ->> 'version_id')::uuid AND v.lenser_id = p_lenser) THEN
    RETURN devices.fn_refusal('unknown_version');
  END IF;
  IF p_body ? 'submission_id' THEN
    SELECT s.* INTO v_submission FROM battles.submissions s
     WHERE s.id = (p_body ->> 'submission_id')::uuid AND s.submitter_lenser_id = p_lenser;
    IF NOT FOUND THEN
      RETURN devices.fn_refusal('unknown_submission');
    ELSIF v_contender <> v_submission.contender_id THEN
      RETURN devices.fn_refusal('unknown_submission', 'it is another contender''s');
    ELSIF EXISTS (SELECT FROM execution.links l WHERE l.submission_id = v_submission.id) THEN
      RETURN devices.fn_refusal('submission_taken');
    END IF;
  END IF;
  RETURN NULL;
END
$$;

-- Writes a run's permit: what the signed body names, and what the server knows of it at this moment.
CREATE FUNCTION execution.fn_make_run(p_item devices.verified_item) RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body jsonb := (p_item.parts).body;
  v_submission uuid := v_body ->> 'submission_id';
  v_run execution.runs;
BEGIN
  v_run.id := uuidv7();
  v_run.requester_lenser_id := p_item.lenser_id;
  v_run.device_id := (p_item.parts).kid;
  v_run.op_id := (p_item.parts).op_id;
  v_run.command_hash := devices.fn_b64url_decode(v_body ->> 'command_hash');
  v_run.inputs := v_body -> 'inputs';
  v_run.label := v_body ->> 'label';
  v_run.runner_id := v_body ->> 'runner_id';
  SELECT b.id INTO v_run.binding_id FROM execution.runner_device_bindings b
   WHERE b.runner_id = v_run.runner_id AND b.device_id = v_run.device_id AND b.status = 'active';
  v_run.submission_id := v_submission;
  SELECT v.id, v.lens_hash, v.workflow_id, v.workflow_hash
    INTO v_run.version_id, v_run.lens_hash, v_run.workflow_id, v_run.workflow_hash
    FROM lenses.versions v WHERE v.id = (v_body ->> 'version_id')::uuid;
  -- Without one of its own, a run is its submission's contender's.
  SELECT c.id, c.kind, c.owner_lenser_id = p_item.lenser_id
    INTO v_run.contender_id, v_run.contender_kind, v_run.contender_owned
    FROM battles.contenders c
   WHERE c.id = coalesce((v_body ->> 'contender_id')::uuid,
                         (SELECT s.contender_id FROM battles.submissions s WHERE s.id = v_submission));
  v_run.contender_owned := coalesce(v_run.contender_owned, v_run.runner_id IS NOT NULL);
  v_run.started_at := p_item.stored_at;
  v_run.issued_at := now();
  INSERT INTO execution.runs SELECT (v_run).*;
  -- A run that may not start takes no submission.
  IF (agents.fn_evaluate_pre_run_policy(v_run.id)).verdict = 'allow' AND v_submission IS NOT NULL THEN
    INSERT INTO execution.links (run_id, submission_id) VALUES (v_run.id, v_submission);
  END IF;
  RETURN v_run.id;
END
$$;

-- Applies requests to run: the requester is the device's owner, whatever is named must be theirs, the policy's verdict is
-- recorded with the run. The result is the permit; a verdict other than allow permits nothing.
CREATE FUNCTION execution.fn_run_start(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'run_start', false));
  v_item devices.verified_item;
  v_results jsonb;
BEGIN
  PERFORM FROM battles.submissions s
    WHERE s.id IN (SELECT ((i.parts).body ->> 'submission_id')::uuid FROM unnest(v_items) i)
    ORDER BY s.id FOR NO KEY UPDATE;
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := coalesce(
      devices.fn_state_refusal('run_start', v_item.trust_level),
      execution.fn_run_refusal(v_item.lenser_id, (v_item.parts).body));
    IF v_item.outcome IS NULL THEN
      v_item.run_id := execution.fn_make_run(v_item);
    END IF;
    v_items[n] := v_item;
  END LOOP;

  SELECT jsonb_object_agg(t.run_id, jsonb_build_object(
           'run_id', t.run_id, 'verdict', e.verdict, 'reason', e.reason, 'version_id', r.version_id,
           'lens_hash', devices.fn_b64url(r.lens_hash), 'workflow_hash', devices.fn_b64url(r.workflow_hash),
           'level', t.trust_level))
    INTO v_results
    FROM execution.fn_compute_submission_trust(ARRAY(
           SELECT i.run_id FROM unnest(v_items) i WHERE i.run_id IS NOT NULL)) t
    JOIN execution.runs r ON r.id = t.run_id
    JOIN agents.policy_evaluations e ON e.run_id = t.run_id;
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.run_id IS NULL;
    v_item.outcome := devices.fn_ok(v_results -> v_item.run_id::text);
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_run_start(text[]) TO ltg_trust_evaluator;
