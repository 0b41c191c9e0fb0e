-- Runs that count as under way: what bounds count (max_parallel_runs, openRuns) without reading everything that was ever allowed.
SET LOCAL ROLE ltg_owner;

-- A working table: a row from the permit until the run is attested, denied, or its time is over.
CREATE TABLE execution.open_runs (
  run_id uuid PRIMARY KEY REFERENCES execution.runs (id),
  lenser_id uuid NOT NULL,
  device_id uuid NOT NULL,
  -- The end of its cover; of one that awaits a person, or was approved and is not fetched yet, the end of that.
  open_until timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX open_runs_device_idx ON execution.open_runs (lenser_id, device_id, open_until);
ALTER TABLE execution.open_runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE FUNCTION execution.fn_close_attested() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM execution.open_runs o USING added a WHERE o.run_id = a.run_id;
  RETURN NULL;
END
$$;

CREATE TRIGGER close_attested AFTER INSERT ON execution.attestations
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION execution.fn_close_attested();

-- How many runs these devices have under way; those of theirs whose time is over are forgotten.
CREATE FUNCTION execution.fn_count_open(p_lensers uuid[], p_devices uuid[]) RETURNS TABLE (device_id uuid, open_runs bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Who is at one of them now keeps it: waiting here would be for a renewal or an attestation.
  DELETE FROM execution.open_runs o
   WHERE o.run_id IN (
     SELECT x.run_id FROM execution.open_runs x
      WHERE x.lenser_id = ANY (p_lensers) AND x.device_id = ANY (p_devices) AND x.open_until <= now()
        FOR UPDATE SKIP LOCKED);
  RETURN QUERY
  SELECT o.device_id, count(*)
    FROM execution.open_runs o
   WHERE o.lenser_id = ANY (p_lensers) AND o.device_id = ANY (p_devices) AND o.open_until > now()
   GROUP BY o.device_id;
END
$$;

-- How many places accounts that bound how many of their runs go on at once have left: an object by account, of those that do. Less
-- than none where the bound was lowered. Who asks holds the bounds.
CREATE FUNCTION execution.fn_places_left(p_lensers uuid[], p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(q.lenser_id, q.max_parallel_runs - (
             SELECT count(*) FROM execution.open_runs o WHERE o.lenser_id = q.lenser_id AND o.open_until > p_now)), '{}')
      FROM agents.quotas q
     WHERE q.lenser_id = ANY (p_lensers) AND q.max_parallel_runs IS NOT NULL);
END
$$;
