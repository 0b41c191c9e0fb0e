-- Two who sign with one key are told apart by its counters (protocol.md, Clone detection). Here: what was counted, and what
-- looks as if two had counted. That is a suspicion and no more: blame needs the trust-evaluator's own look (0046).
--
-- Proof of a fork is one counter with two digests, or a counter below the settled floor: below one that the broker stored over
-- counterSettleSeconds (660) before. No honest device is ever below it. It draws counters in order, so of two envelopes the one
-- with the lower counter was signed first, at t1 <= t2, and RP-1 holds every store time within 300 s of its iat. Then
--   by the true time: stored1 <= iat1 + 300 <= t1 + 600 <= t2 + 600 <= stored2 + 600, for a clock within 300 s of it (360 is enough);
--   by the device's clock alone: stored1 <= iat1 + 300 <= iat2 + 60 + 300 <= stored2 + 660, for a clock that is not set back by over
--   60 s. That holds whatever a broker or verifier held back or says of store times, and whoever applied which of them first.
SET LOCAL ROLE ltg_owner;

-- What each device said of late, under each of its keys. Unlogged, since every batch writes it all: a database that crashes
-- forgets half an hour of it, which can hide a fork until the two meet again and never shows one that is none.
CREATE UNLOGGED TABLE devices.counters (
  device_id uuid NOT NULL,
  -- Another key begins another series.
  key_number integer NOT NULL,
  counter bigint NOT NULL CHECK (counter >= 1),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  stored_at timestamptz NOT NULL,
  wire bytea NOT NULL,
  PRIMARY KEY (device_id, key_number, counter)
);
CREATE INDEX counters_stored_at_idx ON devices.counters (stored_at);
ALTER TABLE devices.counters ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The highest counter among those that are kept no more, which are long settled; so a device that was silent for months has one.
CREATE TABLE devices.counter_floors (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  key_number integer NOT NULL,
  counter bigint NOT NULL,
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  stored_at timestamptz NOT NULL,
  wire bytea NOT NULL,
  PRIMARY KEY (device_id, key_number)
) WITH (fillfactor = 70);
ALTER TABLE devices.counter_floors ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Two envelopes that contradict each other, until the trust-evaluator has looked at them: one pair a key at a time.
CREATE TABLE devices.fork_suspicions (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  key_number integer NOT NULL,
  -- By store time; of the one below the floor, the floor's is the earlier.
  earlier bytea NOT NULL,
  earlier_stored_at timestamptz NOT NULL,
  later bytea NOT NULL,
  later_stored_at timestamptz NOT NULL,
  raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (device_id, key_number)
);
ALTER TABLE devices.fork_suspicions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Proven forks with both envelopes: whoever has the device's public key can check them again.
CREATE TABLE devices.identity_forks (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  key_number integer NOT NULL,
  earlier bytea NOT NULL,
  earlier_stored_at timestamptz NOT NULL,
  later bytea NOT NULL,
  later_stored_at timestamptz NOT NULL,
  proven_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (device_id, key_number),
  FOREIGN KEY (device_id, key_number) REFERENCES devices.device_keys (device_id, number)
);
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.identity_forks
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.identity_forks ENABLE ALWAYS TRIGGER deny_mutation;
ALTER TABLE devices.identity_forks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY identity_forks_own ON devices.identity_forks FOR SELECT TO authenticated
  USING (device_id IN (SELECT d.id FROM devices.registered_devices d));
GRANT SELECT ON devices.identity_forks TO authenticated;

-- Raises a suspicion for each key of the batch that contradicts itself: with what is counted, or with its floor. A pending device
-- can do no harm, and one fork of a key is enough.
CREATE FUNCTION devices.fn_suspect_forks(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_settle constant interval := devices.fn_limit('counterSettleSeconds') * interval '1 second';
BEGIN
  INSERT INTO devices.fork_suspicions (device_id, key_number, earlier, earlier_stored_at, later, later_stored_at)
  SELECT DISTINCT ON (pair.device_id, pair.key_number)
         pair.device_id, pair.key_number,
         CASE WHEN pair.in_order THEN pair.wire ELSE pair.new_wire END, least(pair.stored_at, pair.new_stored_at),
         CASE WHEN pair.in_order THEN pair.new_wire ELSE pair.wire END, greatest(pair.stored_at, pair.new_stored_at)
    FROM (
      SELECT before.device_id, before.key_number, before.wire, before.stored_at,
             (i.parts).wire AS new_wire, i.stored_at AS new_stored_at, before.stored_at <= i.stored_at AS in_order
        FROM unnest(p_items) i
        CROSS JOIN LATERAL (
          SELECT c.* FROM devices.counters c
           WHERE c.device_id = (i.parts).kid AND c.key_number = i.key_number AND c.counter = (i.parts).counter
          UNION ALL
          SELECT f.* FROM devices.counter_floors f
           WHERE f.device_id = (i.parts).kid AND f.key_number = i.key_number AND f.counter >= (i.parts).counter
             AND (f.counter = (i.parts).counter OR f.stored_at < i.stored_at - v_settle)
        ) AS before (device_id, key_number, counter, digest, stored_at, wire)
       WHERE i.step IS NULL AND i.trust_level <> 'pending' AND before.digest <> (i.parts).digest
    ) pair
   WHERE NOT EXISTS (SELECT FROM devices.identity_forks k
                      WHERE k.device_id = pair.device_id AND k.key_number = pair.key_number)
   ORDER BY pair.device_id, pair.key_number
  ON CONFLICT DO NOTHING;
END
$$;

-- Counts what a batch says, once each, in one order for everybody. Of two who count the same at the same time, the second waits for
-- the first and then sees it. A redelivery is what is counted already.
CREATE FUNCTION devices.fn_note_counters(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_is_doubtful boolean;
BEGIN
  WITH said AS MATERIALIZED (
    SELECT (i.parts).kid, i.key_number, (i.parts).counter, (i.parts).digest, i.stored_at, (i.parts).wire
      FROM unnest(p_items) i WHERE i.step IS NULL
  ), noted AS (
    INSERT INTO devices.counters (device_id, key_number, counter, digest, stored_at, wire)
    SELECT * FROM said ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM noted) < (SELECT count(*) FROM said)
      OR EXISTS (SELECT FROM (SELECT kid, key_number, min(counter) AS lowest FROM said GROUP BY 1, 2) s
                   JOIN devices.counter_floors f ON f.device_id = s.kid AND f.key_number = s.key_number
                  WHERE f.counter >= s.lowest)
    INTO v_is_doubtful;
  IF v_is_doubtful THEN
    PERFORM devices.fn_suspect_forks(p_items);
  END IF;
END
$$;

-- Forgets up to p_limit envelopes that were counted long enough ago, keeping the highest of each key as its floor, and says how
-- many. Whoever finds another at some of them leaves those to that one.
CREATE FUNCTION devices.fn_settle_counters(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_until constant timestamptz := now() - devices.fn_limit('counterKeepSeconds') * interval '1 second';
  v_settled integer;
BEGIN
  WITH old AS (
    SELECT c.device_id, c.key_number, c.counter FROM devices.counters c
     WHERE c.stored_at < v_until ORDER BY c.stored_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), settled AS (
    DELETE FROM devices.counters c USING old o
     WHERE c.device_id = o.device_id AND c.key_number = o.key_number AND c.counter = o.counter
    RETURNING c.*
  ), kept AS (
    INSERT INTO devices.counter_floors AS f (device_id, key_number, counter, digest, stored_at, wire)
    SELECT DISTINCT ON (s.device_id, s.key_number) s.device_id, s.key_number, s.counter, s.digest, s.stored_at, s.wire
      FROM settled s ORDER BY s.device_id, s.key_number, s.counter DESC
    ON CONFLICT (device_id, key_number) DO UPDATE
       SET counter = excluded.counter, digest = excluded.digest, stored_at = excluded.stored_at, wire = excluded.wire
     WHERE f.counter < excluded.counter
  )
  SELECT count(*) INTO v_settled FROM settled;
  RETURN v_settled;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_settle_counters(integer) TO ltg_trust_evaluator;
