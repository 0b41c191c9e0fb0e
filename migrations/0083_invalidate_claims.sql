-- Since when, and until when, what verifiers claimed is worth nothing (trust.md, rule 12): the platform found one that lied or
-- failed. Attestations stay as they are: it is the evaluation that no longer rests on them.
SET LOCAL ROLE ltg_owner;

CREATE TABLE devices.claim_invalidations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  since timestamptz NOT NULL,
  -- When it was declared: claims from then on are those of verifiers that were put right.
  until timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 200),
  CHECK (since <= until)
);
CREATE INDEX claim_invalidations_since_idx ON devices.claim_invalidations (since);
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.claim_invalidations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.claim_invalidations ENABLE ALWAYS TRIGGER deny_mutation;
ALTER TABLE devices.claim_invalidations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Invalidations whose runs are not all queued yet, each with the last attestation that was.
CREATE TABLE execution.invalidation_sweeps (
  invalidation_id bigint PRIMARY KEY REFERENCES devices.claim_invalidations (id),
  recorded_at timestamptz NOT NULL,
  run_id uuid NOT NULL,
  until timestamptz NOT NULL
);
ALTER TABLE execution.invalidation_sweeps ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE INDEX attestations_recorded_at_idx ON execution.attestations (recorded_at, run_id);

-- Declares that claims made since a time count for nothing, up to now. It waits for attestations that are being stored: those
-- do not see it, and the sweep would not see them. Returns its id; LT001 where the time is still to come.
CREATE FUNCTION devices.fn_invalidate_claims(p_since timestamptz, p_reason text) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_new devices.claim_invalidations;
BEGIN
  IF p_since IS NULL OR p_since > now() THEN
    RAISE EXCEPTION 'claims are invalidated since a time that has passed' USING ERRCODE = 'LT001';
  END IF;
  LOCK TABLE execution.attestations IN SHARE MODE;
  INSERT INTO devices.claim_invalidations (since, reason) VALUES (p_since, p_reason) RETURNING * INTO v_new;
  INSERT INTO execution.invalidation_sweeps (invalidation_id, recorded_at, run_id, until)
  VALUES (v_new.id, v_new.since, '00000000-0000-0000-0000-000000000000', v_new.until);
  RETURN v_new.id;
END
$$;

-- Queues the next runs of one sweep, at most p_limit, and says how many; the sweep ends with the last of them.
CREATE FUNCTION execution.fn_sweep_invalidated(p_sweep execution.invalidation_sweeps, p_limit integer) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_runs uuid[];
  v_recorded timestamptz[];
  v_count integer;
BEGIN
  SELECT array_agg(hit.run_id ORDER BY hit.recorded_at, hit.run_id),
         array_agg(hit.recorded_at ORDER BY hit.recorded_at, hit.run_id)
    INTO v_runs, v_recorded
    FROM (SELECT a.recorded_at, a.run_id
            FROM execution.attestations a
           WHERE (a.recorded_at, a.run_id) > (p_sweep.recorded_at, p_sweep.run_id) AND a.recorded_at <= p_sweep.until
           ORDER BY a.recorded_at, a.run_id
           LIMIT p_limit) hit;
  v_count := coalesce(cardinality(v_runs), 0);
  IF v_count > 0 THEN
    PERFORM execution.fn_queue_runs(v_runs);
  END IF;
  IF v_count < p_limit THEN
    DELETE FROM execution.invalidation_sweeps s WHERE s.invalidation_id = p_sweep.invalidation_id;
  ELSE
    UPDATE execution.invalidation_sweeps s
       SET recorded_at = v_recorded[v_count], run_id = v_runs[v_count]
     WHERE s.invalidation_id = p_sweep.invalidation_id;
  END IF;
  RETURN v_count;
END
$$;

-- Queues runs that invalidations concern, in steps: a run or a sweep that ends is one. Fewer steps than p_limit say that no
-- more is to be done here; a sweep that somebody else is at is left to them.
CREATE FUNCTION execution.fn_queue_invalidated(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_sweep execution.invalidation_sweeps;
  v_left integer := p_limit;
BEGIN
  WHILE v_left > 0 LOOP
    SELECT s.* INTO v_sweep FROM execution.invalidation_sweeps s
     ORDER BY s.invalidation_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    EXIT WHEN NOT FOUND;
    v_left := v_left - execution.fn_sweep_invalidated(v_sweep, v_left) - 1;
  END LOOP;
  RETURN p_limit - greatest(v_left, 0);
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_invalidate_claims(timestamptz, text) TO service_role;
GRANT EXECUTE ON FUNCTION execution.fn_queue_invalidated(integer) TO ltg_trust_evaluator;
