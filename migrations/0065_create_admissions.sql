-- Who was let in, and as what, so that whoever may no longer do that is cut off: mark, then kick (protocol.md, Accounts).
SET LOCAL ROLE ltg_owner;

CREATE TABLE devices.admissions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The broker's server, and its number of the connection. No pair comes twice: a server takes a new id whenever it starts. Not
  -- unique all the same: a client may say CONNECT again on the connection that it has, as somebody else too.
  server_id text NOT NULL CHECK (server_id ~ '^N[A-Z2-7]{55}$'),
  client_id bigint NOT NULL CHECK (client_id > 0),
  kid uuid NOT NULL,
  lenser_id uuid NOT NULL,
  -- Of a device.
  trust_level text,
  key_number integer,
  -- Of a session.
  scope text,
  admitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- When it is to be kicked next, and why; null where it may stay.
  due_at timestamptz,
  cause text CHECK (cause IN ('level', 'key', 'session', 'surplus')),
  kicks_left integer NOT NULL DEFAULT 0,
  CHECK ((scope IS NULL) = (trust_level IS NOT NULL AND key_number IS NOT NULL)),
  CHECK ((due_at IS NULL) = (cause IS NULL) AND (due_at IS NULL) = (kicks_left = 0))
);
CREATE INDEX admissions_kid_idx ON devices.admissions (kid, id);
CREATE INDEX admissions_due_idx ON devices.admissions (due_at) WHERE due_at IS NOT NULL;
ALTER TABLE devices.admissions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Writes down whom a connect claim lets in, in the claim's transaction and under its lock on the signer: a change of the signer
-- waits for it and finds the row. One key has so many connections, the newest: whoever stole it hoards none.
CREATE FUNCTION devices.fn_admit(p_claim jsonb, p_claimed jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_kid uuid := p_claim ->> 'kid';
  v_most bigint := CASE p_claimed ->> 'signer'
    WHEN 'device' THEN devices.fn_limit('connectionsPerDevice') ELSE devices.fn_limit('connectionsPerSession')
  END;
  -- What is to be cut later is connected until then. What is being kicked waits less than this for its next kick
  -- (devices.fn_admissions_kicked), and nothing that its key does may change that.
  v_later CONSTANT timestamptz := clock_timestamp() + interval '30 s';
  v_surplus bigint;
BEGIN
  -- Of two connects at once each would not see the other's, and neither make room for it.
  PERFORM pg_advisory_xact_lock(hashtextextended('devices.fn_admit ' || v_kid, 0));
  INSERT INTO devices.admissions (server_id, client_id, kid, lenser_id, trust_level, key_number, scope)
  VALUES (p_claim ->> 'server_id', (p_claim ->> 'client_id')::bigint, v_kid, (p_claimed ->> 'lenser_id')::uuid,
    p_claimed ->> 'trust_level', (p_claimed ->> 'key_number')::integer, p_claimed ->> 'scope');
  SELECT a.id INTO v_surplus
    FROM devices.admissions a
   WHERE a.kid = v_kid AND (a.due_at IS NULL OR a.due_at > v_later)
   ORDER BY a.id DESC OFFSET v_most LIMIT 1;
  -- Thousands come back at once, and few of them are too many.
  IF FOUND THEN
    UPDATE devices.admissions SET due_at = clock_timestamp(), cause = 'surplus', kicks_left = 3
     WHERE kid = v_kid AND (due_at IS NULL OR due_at > v_later) AND id <= v_surplus;
  END IF;
END
$$;

-- How long a connection may live at most: its user JWT's life, and what clocks may differ by.
CREATE FUNCTION devices.fn_admission_life() RETURNS interval
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN make_interval(secs => devices.fn_limit('userJwtMaxSeconds') + devices.fn_limit('iatWindowSeconds'));
END
$$;

-- Forgets connections that have ended by themselves, so many at most. Returns how many.
CREATE FUNCTION devices.fn_admissions_prune(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_pruned integer;
BEGIN
  DELETE FROM devices.admissions
   WHERE id IN (
     SELECT a.id FROM devices.admissions a
      WHERE a.id = ANY (ARRAY(SELECT o.id FROM devices.admissions o ORDER BY o.id LIMIT p_limit))
        AND a.admitted_at < clock_timestamp() - devices.fn_admission_life()
        FOR UPDATE SKIP LOCKED
   );
  GET DIAGNOSTICS v_pruned = ROW_COUNT;
  RETURN v_pruned;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_admissions_prune(integer) TO ltg_broker_auth;
