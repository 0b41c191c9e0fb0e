-- Since when a device's word is worth nothing, and the runs that fall with it (trust.md, rule 8). Attestations stay as they
-- are: it is the evaluation that no longer rests on them.
SET LOCAL ROLE ltg_owner;

CREATE TABLE devices.compromises (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  -- `revoked`: its owner said so. `fork`: two machines were proven to sign with its key.
  kind text NOT NULL CHECK (kind IN ('revoked', 'fork')),
  -- The key that others know; NULL: every key that the device had.
  key_number integer CHECK (key_number >= 1),
  -- What the broker stored from then on counts for nothing.
  since timestamptz NOT NULL,
  reason text NOT NULL,
  declared_at timestamptz NOT NULL DEFAULT now(),
  CHECK (since <= declared_at)
);
CREATE INDEX compromises_device_id_since_idx ON devices.compromises (device_id, since);
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.compromises
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.compromises ENABLE ALWAYS TRIGGER deny_mutation;
ALTER TABLE devices.compromises ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- Who may see the device sees this: the device's own policy decides.
CREATE POLICY compromises_own ON devices.compromises FOR SELECT TO authenticated
  USING (device_id IN (SELECT d.id FROM devices.registered_devices d));
GRANT SELECT ON devices.compromises TO authenticated;

-- Compromises whose runs are not all queued yet, each with the last attestation that was. However many there are, the one
-- who declares it waits for none.
CREATE TABLE execution.compromise_sweeps (
  compromise_id bigint PRIMARY KEY REFERENCES devices.compromises (id),
  device_id uuid NOT NULL,
  stored_at timestamptz NOT NULL,
  run_id uuid NOT NULL,
  -- What was stored from then on is another's, declared before.
  until timestamptz NOT NULL,
  -- Whose turn was longest ago is next.
  stepped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE execution.compromise_sweeps ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- A sweep of what no compromise before concerned: whoever declares one a thousand times has no run judged a thousand times, and
-- nobody else's wait behind theirs. Whoever declares one holds its device's row, so that none is missed here.
CREATE FUNCTION execution.fn_begin_sweep() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO execution.compromise_sweeps (compromise_id, device_id, stored_at, run_id, until)
  SELECT NEW.id, NEW.device_id, NEW.since, '00000000-0000-0000-0000-000000000000', before.since
    FROM (SELECT coalesce(min(k.since), 'infinity') AS since
            FROM devices.compromises k
           WHERE k.device_id = NEW.device_id AND k.id <> NEW.id
             AND (k.key_number IS NULL OR k.key_number = NEW.key_number)) AS before
   WHERE before.since > NEW.since;
  RETURN NULL;
END
$$;
CREATE TRIGGER begin_sweep AFTER INSERT ON devices.compromises
  FOR EACH ROW EXECUTE FUNCTION execution.fn_begin_sweep();
ALTER TABLE devices.compromises ENABLE ALWAYS TRIGGER begin_sweep;

-- Queues the next runs of one sweep, at most p_limit, and says how many; the sweep ends with the last of them.
CREATE FUNCTION execution.fn_sweep(p_sweep execution.compromise_sweeps, p_limit integer) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- As in execution.fn_run_facts: by index, however large the table has grown since the plan was made.
SET enable_seqscan = off
AS $$
DECLARE
  v_runs uuid[];
  v_stored timestamptz[];
  v_count integer;
BEGIN
  SELECT array_agg(hit.run_id ORDER BY hit.stored_at, hit.run_id), array_agg(hit.stored_at ORDER BY hit.stored_at, hit.run_id)
    INTO v_runs, v_stored
    FROM (SELECT a.stored_at, a.run_id
            FROM execution.attestations a
           WHERE a.device_id = p_sweep.device_id AND (a.stored_at, a.run_id) > (p_sweep.stored_at, p_sweep.run_id)
             AND a.stored_at < p_sweep.until
           ORDER BY a.stored_at, a.run_id
           LIMIT p_limit) hit;
  v_count := coalesce(cardinality(v_runs), 0);
  IF v_count > 0 THEN
    PERFORM execution.fn_queue_runs(v_runs);
  END IF;
  IF v_count < p_limit THEN
    DELETE FROM execution.compromise_sweeps s WHERE s.compromise_id = p_sweep.compromise_id;
  ELSE
    UPDATE execution.compromise_sweeps s
       SET stored_at = v_stored[v_count], run_id = v_runs[v_count], stepped_at = clock_timestamp()
     WHERE s.compromise_id = p_sweep.compromise_id;
  END IF;
  RETURN v_count;
END
$$;

-- Queues runs that compromises concern, in steps: a run or a sweep that ends is one. Fewer steps than p_limit say that no
-- more is to be done here; a sweep that somebody else is at is left to them. Sweeps take turns: behind one of a million runs
-- nobody waits for more than a step of it.
CREATE FUNCTION execution.fn_queue_compromised(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_sweep execution.compromise_sweeps;
  v_left integer := p_limit;
BEGIN
  WHILE v_left > 0 LOOP
    SELECT s.* INTO v_sweep FROM execution.compromise_sweeps s
     ORDER BY s.stepped_at, s.compromise_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    EXIT WHEN NOT FOUND;
    v_left := v_left - execution.fn_sweep(v_sweep, v_left) - 1;
  END LOOP;
  RETURN p_limit - greatest(v_left, 0);
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_queue_compromised(integer) TO ltg_trust_evaluator;
