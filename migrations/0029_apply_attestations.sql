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

-- Fills the columns that are the device's word: from the verified body and from nothing beside it (law 4).
CREATE FUNCTION execution.fn_read_attestation(p_item devices.verified_item) RETURNS execution.attestations
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body jsonb := (p_item.parts).body;
  v_new execution.attestations;
BEGIN
  v_new.id := uuidv7();
  v_new.run_id := v_body ->> 'run_id';
  v_new.lenser_id := p_item.lenser_id;
  v_new.device_id := (p_item.parts).kid;
  v_new.key_number := p_item.key_number;
  v_new.op_id := (p_item.parts).op_id;
  v_new.wire := (p_item.parts).wire;
  v_new.digest := (p_item.parts).digest;
  v_new.content_hash := execution.fn_attested_content(v_body);
  v_new.command_hash := devices.fn_b64url_decode(v_body ->> 'command_hash');
  v_new.stdin_hash := devices.fn_b64url_decode(v_body ->> 'stdin_hash');
  v_new.stdout_hash := devices.fn_b64url_decode(v_body ->> 'stdout_hash');
  v_new.inputs := v_body -> 'inputs';
  v_new.outputs := v_body -> 'outputs';
  v_new.lens_hash := devices.fn_b64url_decode(v_body ->> 'lens_hash');
  v_new.workflow_hash := devices.fn_b64url_decode(v_body ->> 'workflow_hash');
  v_new.started_at := to_timestamp((v_body ->> 'started_at')::bigint / 1e3);
  v_new.ended_at := to_timestamp((v_body ->> 'ended_at')::bigint / 1e3);
  v_new.exit_code := v_body ->> 'exit_code';
  v_new.signal := v_body ->> 'signal';
  v_new.tool_invocations := coalesce((v_body ->> 'tool_invocations')::integer, 0);
  v_new.stored_at := p_item.stored_at;
  v_new.recorded_at := now();
  RETURN v_new;
END
$$;

-- Stores an attestation with the facts that the server derives (EA-3, AC-1, AC-2), each over the time from the permit to
-- the attestation's store time.
CREATE FUNCTION execution.fn_make_attestation(p_item devices.verified_item, p_run execution.runs, p_verdict text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_new execution.attestations := execution.fn_read_attestation(p_item);
BEGIN
  -- There is a claim of the verifier's for this digest, and the evaluator checked the signature itself before it called.
  v_new.signed := true;
  v_new.gateway_verified := true;
  -- At the claim its state let it send this; its row is locked now (trust.md, rule 7).
  v_new.device_trusted := devices.fn_is_trusted(p_item.trust_level, p_item.earlier_level);
  v_new.heartbeat_fresh := execution.fn_heartbeat_fresh(v_new.device_id, v_new.stored_at);
  -- What was attested is what the permit pinned, and the pinned row still says so (rule 11).
  v_new.version_unchanged :=
    (v_new.lens_hash, v_new.workflow_hash) IS NOT DISTINCT FROM (p_run.lens_hash, p_run.workflow_hash)
    AND (p_run.version_id IS NULL OR EXISTS (
      SELECT FROM lenses.versions v
       WHERE v.id = p_run.version_id
         AND (v.lens_hash, v.workflow_hash) IS NOT DISTINCT FROM (p_run.lens_hash, p_run.workflow_hash)));
  -- The permit's binding, which is older than the permit, not ended when this was stored (rule 10).
  v_new.binding_active := EXISTS (
    SELECT FROM execution.runner_device_bindings b
     WHERE b.id = p_run.binding_id AND b.bound_at <= p_run.issued_at
       AND (b.ended_at IS NULL OR b.ended_at > v_new.stored_at));
  -- Allowed, and what ran is what was permitted (rules 5 and 6).
  v_new.policy_passed := p_verdict IS NOT DISTINCT FROM 'allow'
    AND v_new.version_unchanged
    AND v_new.command_hash = p_run.command_hash
    AND v_new.inputs = p_run.inputs;
  INSERT INTO execution.attestations SELECT (v_new).*;
END
$$;

-- Decides about one attestation; its run's row is locked. Null where it counts: stored now, or stored before.
CREATE FUNCTION execution.fn_attest(p_item devices.verified_item) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body jsonb := (p_item.parts).body;
  v_run execution.runs;
  v_verdict text;
  v_stored bytea;
BEGIN
  SELECT r.* INTO v_run FROM execution.runs r WHERE r.id = (v_body ->> 'run_id')::uuid;
  IF NOT FOUND THEN
    RETURN devices.fn_refusal('unknown_run');
  END IF;
  IF v_run.requester_lenser_id <> p_item.lenser_id OR v_run.device_id <> (p_item.parts).kid THEN
    RETURN devices.fn_refusal('run_not_owned');
  END IF;
  v_verdict := agents.fn_start_verdict(v_run.id);
  IF v_verdict = 'deny' THEN
    RETURN devices.fn_refusal('policy_denied');
  END IF;
  SELECT a.content_hash INTO v_stored FROM execution.attestations a WHERE a.run_id = v_run.id;
  IF NOT FOUND THEN
    PERFORM execution.fn_make_attestation(p_item, v_run, v_verdict);
  ELSIF v_stored <> execution.fn_attested_content(v_body) THEN
    RETURN devices.fn_refusal('already_attested');
  END IF;
  RETURN NULL;
END
$$;

-- Applies attestations (EA-1 to EA-5). Called with envelopes whose signature and digest the evaluator checked itself.
CREATE FUNCTION execution.fn_record_execution_attestation(p_envelopes text[])
RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'attestation', false));
  v_item devices.verified_item;
  v_results jsonb;
BEGIN
  PERFORM FROM execution.runs r
    WHERE r.id IN (SELECT ((i.parts).body ->> 'run_id')::uuid FROM unnest(v_items) i WHERE i.step = 'new')
    ORDER BY r.id FOR NO KEY UPDATE;
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := execution.fn_attest(v_item);
    IF v_item.outcome IS NULL THEN
      v_item.run_id := (v_item.parts).body ->> 'run_id';
    END IF;
    v_items[n] := v_item;
  END LOOP;

  SELECT jsonb_object_agg(t.run_id, jsonb_build_object(
           'run_id', t.run_id, 'attestation_id', t.attestation_id, 'level', t.trust_level, 'reason', t.reason,
           'facts', t.facts, 'ladder', t.ladder))
    INTO v_results
    FROM execution.fn_compute_submission_trust(ARRAY(
           SELECT DISTINCT i.run_id FROM unnest(v_items) i WHERE i.run_id IS NOT NULL)) t;
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.run_id IS NULL;
    -- The same content once more, under another op_id: the first one's result.
    v_item.outcome := devices.fn_ok(coalesce(
      execution.fn_first_result(v_item), v_results -> v_item.run_id::text));
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

-- The result that was committed for the attestation of a run by another operation than this one; null where none was.
CREATE FUNCTION execution.fn_first_result(p_item devices.verified_item) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT o.result
      FROM execution.attestations a
      JOIN devices.operations o ON o.kid = a.device_id AND o.op_id = a.op_id
     WHERE a.run_id = p_item.run_id AND a.op_id <> (p_item.parts).op_id);
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_record_execution_attestation(text[]) TO ltg_trust_evaluator;
