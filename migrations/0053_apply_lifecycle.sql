-- What a daemon says of its own life, and the envelope that is sent to see how long each hop takes.
SET LOCAL ROLE ltg_owner;

-- What the audit record of a lifecycle event tells besides its outcome (R7): what happened, to which daemon, when by the
-- device's own clock, and of a refusal its code.
CREATE FUNCTION devices.fn_lifecycle_note(p_body jsonb) RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('lifecycle', jsonb_strip_nulls(jsonb_build_object(
    'event', p_body -> 'event',
    'daemon_version', p_body -> 'daemon_version',
    'at', p_body -> 'at',
    'code', p_body -> 'code')));
END
$$;

-- Applies lifecycle events (AU-2, R7): they change nothing, and their record is in the account's chain.
CREATE FUNCTION devices.fn_device_lifecycle(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'lifecycle', false));
  v_item devices.verified_item;
BEGIN
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := devices.fn_operation_commit(
      v_item.parts, v_item.lenser_id, (v_item.parts).kid,
      coalesce(
        devices.fn_state_refusal('lifecycle', v_item.trust_level),
        devices.fn_ok(jsonb_build_object('trust_level', v_item.trust_level))),
      devices.fn_lifecycle_note((v_item.parts).body));
    v_item.step := 'known';
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

-- The last hour of canaries, so that one that comes again has the times that it had.
CREATE TABLE devices.canaries (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  -- When the broker stored it, when a verifier claimed it, when it was applied; the last two by the database's clock.
  stored_at timestamptz NOT NULL,
  claimed_at timestamptz NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (device_id, digest)
);
ALTER TABLE devices.canaries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Milliseconds since 1970.
CREATE FUNCTION devices.fn_unix_ms(p_time timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT floor(extract(epoch FROM p_time) * 1000)::bigint
$$;

-- The result of a canary.
CREATE FUNCTION devices.fn_canary_result(p_canary devices.canaries) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT devices.fn_ok(jsonb_build_object(
    'stored_at_ms', devices.fn_unix_ms(p_canary.stored_at),
    'claimed_at_ms', devices.fn_unix_ms(p_canary.claimed_at),
    'applied_at_ms', devices.fn_unix_ms(p_canary.applied_at)))
$$;

-- Applies canaries: nothing of the device changes, each leaves one audit record (AU-2), and its result names the hops.
CREATE FUNCTION devices.fn_device_canary(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Partitions of claims are born empty and fill up.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_open_verified(p_envelopes, 'canary', false);
  v_good devices.verified_item[];
BEGIN
  SELECT array_agg(i) INTO v_good
    FROM unnest(v_items) i
   WHERE i.step IS NULL AND devices.fn_state_refusal('canary', i.trust_level) IS NULL;

  WITH fresh AS (
    INSERT INTO devices.canaries AS n (device_id, digest, stored_at, claimed_at)
    SELECT (g.parts).kid, (g.parts).digest, g.stored_at, c.claimed_at
      FROM unnest(v_good) g
      JOIN devices.envelope_claims c ON c.kid = (g.parts).kid AND c.nonce = (g.parts).nonce AND c.iat = (g.parts).iat
     ORDER BY 1, 2
    ON CONFLICT DO NOTHING
    RETURNING n.*
  )
  INSERT INTO audit.pending (lenser_id, device_id, kid, event_kind, digest, payload)
  SELECT d.lenser_id, f.device_id, f.device_id, 'canary', f.digest, devices.fn_canary_result(f)
    FROM fresh f JOIN devices.registered_devices d ON d.id = f.device_id;
  DELETE FROM devices.canaries n
   WHERE n.device_id IN (SELECT (g.parts).kid FROM unnest(v_good) g) AND n.stored_at < now() - interval '1 hour';

  RETURN QUERY
  SELECT i.idx, devices.fn_addressed(i, CASE
           WHEN i.step = 'refused' THEN i.outcome
           WHEN n.digest IS NOT NULL THEN devices.fn_canary_result(n)
           ELSE coalesce(i.outcome, devices.fn_state_refusal('canary', i.trust_level)) END)
    FROM unnest(v_items) i
    LEFT JOIN devices.canaries n ON n.device_id = (i.parts).kid AND n.digest = (i.parts).digest
   ORDER BY i.idx;
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_device_lifecycle(text[]), devices.fn_device_canary(text[]) TO ltg_trust_evaluator;
