-- Claims are kept by partitions of 900 s of signed time, so that forgetting them costs the same however many there are.
SET LOCAL ROLE ltg_owner;

-- Makes one partition and moves into it what the default partition holds of its range: those nonces stay spent.
CREATE FUNCTION devices.fn_claims_make_partition(p_start bigint, p_width bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_name text := 'envelope_claims_' || p_start;
BEGIN
  EXECUTE format('CREATE TABLE devices.%I (LIKE devices.envelope_claims INCLUDING ALL)', v_name);
  EXECUTE format('ALTER TABLE devices.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', v_name);
  EXECUTE format(
    'WITH moved AS (DELETE FROM devices.envelope_claims_default WHERE iat >= %1$s AND iat < %2$s RETURNING *)
     INSERT INTO devices.%3$I SELECT * FROM moved', p_start, p_start + p_width, v_name);
  EXECUTE format('ALTER TABLE devices.envelope_claims ATTACH PARTITION devices.%I FOR VALUES FROM (%s) TO (%s)',
    v_name, p_start, p_start + p_width);
END
$$;

-- Makes the partitions that claims of now and the next 15 minutes fall into, and drops those that no message can reach.
-- Called by every verifier once a minute; whoever finds another at it leaves it to that one. Returns how many of each.
CREATE FUNCTION devices.fn_claims_maintain(OUT made integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Claims wait behind the lock below: rather try again in a minute than keep them waiting for a long reader.
SET lock_timeout = '2s'
AS $$
DECLARE
  c_width CONSTANT bigint := 900;
  v_now bigint := floor(extract(epoch FROM clock_timestamp()))::bigint;
  v_keep bigint := devices.fn_claim_keep_seconds();
  v_first bigint := ((v_now - v_keep) / c_width) * c_width;
  v_last bigint := v_now + c_width + (devices.fn_limit('iatWindowSeconds') + devices.fn_limit('storeLeadSeconds'));
  v_missing bigint[];
  v_expired text[];
BEGIN
  made := 0;
  dropped := 0;
  IF NOT pg_try_advisory_xact_lock(hashtextextended('devices.fn_claims_maintain', 0)) THEN
    RETURN;
  END IF;
  SELECT array_agg(s) INTO v_missing FROM generate_series(v_first, v_last, c_width) AS s
    WHERE to_regclass('devices.envelope_claims_' || s) IS NULL;
  SELECT array_agg(c.relname ORDER BY c.relname) INTO v_expired
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'devices.envelope_claims'::regclass AND c.relname ~ '^envelope_claims_[0-9]+$'
      AND substr(c.relname, 17)::bigint + c_width + v_keep <= v_now;
  -- The parent first, as every claim does: no two can then wait for each other.
  IF v_missing IS NOT NULL OR v_expired IS NOT NULL THEN
    LOCK TABLE ONLY devices.envelope_claims IN ACCESS EXCLUSIVE MODE;
  END IF;
  -- In the default partition: what was refused for its time once its message is gone, everything else once its time is over.
  DELETE FROM devices.envelope_claims_default
    WHERE CASE verdict
      WHEN 'iat_window' THEN claimed_at < clock_timestamp() - make_interval(secs => v_keep)
      ELSE iat < v_now - v_keep
    END;
  FOR i IN 1 .. coalesce(cardinality(v_missing), 0) LOOP
    PERFORM devices.fn_claims_make_partition(v_missing[i], c_width);
    made := made + 1;
  END LOOP;
  FOR i IN 1 .. coalesce(cardinality(v_expired), 0) LOOP
    EXECUTE format('DROP TABLE devices.%I', v_expired[i]);
    dropped := dropped + 1;
  END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_claims_maintain() TO ltg_verifier;

SELECT devices.fn_claims_maintain();
