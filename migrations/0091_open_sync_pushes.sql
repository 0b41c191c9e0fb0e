-- What a push begins with: whose entries these are, which of them may be merged at all, and their objects, locked.
SET LOCAL ROLE ltg_owner;

-- One entry of a push as the envelope's own bytes say it. Place: the order in which entries are merged.
-- status: `applied` or `duplicate`, with the edit's link; else code says why it is refused.
CREATE TYPE devices.sync_entry AS (
  place bigint,
  idx integer,
  entry integer,
  lenser_id uuid,
  device_id uuid,
  class text,
  object text,
  actor text,
  n bigint,
  clock jsonb,
  prev text,
  paths jsonb,
  status text,
  link text,
  code text,
  detail text
);

-- The database's present epoch: a restore raises it (rule 14).
CREATE FUNCTION devices.fn_sync_epoch() RETURNS integer
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT max(e.epoch) FROM devices.epochs e);
END
$$;

-- Why a push is refused as a whole; null where its entries are looked at.
CREATE FUNCTION devices.fn_sync_refusal(p_item devices.verified_item) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(
    devices.fn_state_refusal('sync_push', p_item.trust_level),
    CASE WHEN ((p_item.parts).body ->> 'epoch')::bigint IS DISTINCT FROM devices.fn_sync_epoch()
      THEN devices.fn_refusal('resync_required') END);
END
$$;

-- The pushes whose entries are looked at: new, and not refused as a whole.
CREATE FUNCTION devices.fn_sync_live(p_items devices.verified_item[]) RETURNS devices.verified_item[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT ROW(i.idx, i.parts, i.lenser_id, i.trust_level, i.earlier_level, i.stored_at, i.step, i.outcome, i.run_id,
               i.key_number, i.is_forked)::devices.verified_item
      FROM unnest(p_items) WITH ORDINALITY
        AS i (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number, is_forked, place)
     WHERE i.step = 'new' AND devices.fn_sync_refusal(
             ROW(i.idx, i.parts, i.lenser_id, i.trust_level, i.earlier_level, i.stored_at, i.step, i.outcome, i.run_id,
                 i.key_number, i.is_forked)::devices.verified_item) IS NULL
     ORDER BY i.place);
END
$$;

-- The entries of these pushes with what follows from class, authority and lease alone. The leases are locked here, before any
-- object: who leads does so until this transaction ends.
CREATE FUNCTION devices.fn_sync_entries(p_items devices.verified_item[]) RETURNS devices.sync_entry[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_entries devices.sync_entry[];
BEGIN
  PERFORM FROM devices.peer_leases l
    WHERE l.lease_kind = 'sync_flush'
      AND l.lenser_id IN (SELECT i.lenser_id FROM unnest(p_items) i WHERE (i.parts).body ? 'fence')
    ORDER BY l.lenser_id FOR SHARE;
  -- Taken out of the envelopes first: no row of an entry carries its envelope along.
  WITH pushes AS MATERIALIZED (
    SELECT i.place, i.idx, i.lenser_id, i.stored_at, (i.parts).kid AS kid, (i.parts).body -> 'entries' AS entries,
           ((i.parts).body ->> 'fence')::bigint AS fence
      FROM unnest(p_items) WITH ORDINALITY
        AS i (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number, is_forked, place)
  )
  SELECT array_agg(ROW(p.place * 1000000 + e.ordinality, p.idx, e.ordinality - 1, p.lenser_id, p.kid,
               n.class, n.object, n.actor, (n.clock ->> n.actor)::bigint, n.clock, n.prev,
               e.said -> 'paths', NULL, NULL,
               CASE
                 WHEN c.class IS NULL THEN 'unknown_class'
                 WHEN c.authority = 'cloud' THEN 'cloud_authoritative'
                 WHEN c.authority = 'local' THEN 'local_only_class'
                 WHEN NOT n.clock ? n.actor OR n.object !~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' OR length(n.object) > 128
                   THEN 'invalid_object'
                 WHEN c.coordinated AND (
                   l.device_id = p.kid AND l.fence = p.fence AND l.expires_at > greatest(p.stored_at, now())) IS NOT TRUE
                   THEN 'not_leader'
               END,
               NULL)::devices.sync_entry ORDER BY p.place, e.ordinality)
    INTO v_entries
    FROM pushes p
    CROSS JOIN LATERAL jsonb_array_elements(p.entries) WITH ORDINALITY AS e (said, ordinality)
    CROSS JOIN LATERAL (
      SELECT e.said ->> 'class' AS class, e.said ->> 'object' AS object, e.said -> 'clock' AS clock,
             -- Who edited is who signed (law 4).
             concat(p.kid, '~', e.said ->> 'incarnation') AS actor, e.said ->> 'prev' AS prev) n
    LEFT JOIN devices.object_classes c ON c.class = n.class
    LEFT JOIN devices.peer_leases l ON l.lease_kind = 'sync_flush' AND l.lenser_id = p.lenser_id AND c.coordinated;
  RETURN coalesce(v_entries, '{}');
END
$$;

-- Locks the objects of entries in the order of (lenser, class, object), making those that there are none of yet: an empty one
-- stands for them until the end.
CREATE FUNCTION devices.fn_sync_lock_objects(p_entries devices.sync_entry[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_keys devices.sync_key[] := ARRAY(
    SELECT DISTINCT ROW(e.lenser_id, e.class, e.object)::devices.sync_key FROM unnest(p_entries) e WHERE e.code IS NULL);
  v_locked integer;
BEGIN
  INSERT INTO devices.sync_objects (lenser_id, class, object, state)
  SELECT k.lenser_id, k.class, k.object, '{"clock": {}, "paths": {}}'
    FROM unnest(v_keys) k
   WHERE NOT EXISTS (SELECT FROM devices.sync_objects o
                      WHERE (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object))
   ORDER BY k.lenser_id, k.class, k.object
  ON CONFLICT DO NOTHING;
  PERFORM FROM unnest(v_keys) k
    JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
   ORDER BY o.lenser_id, o.class, o.object FOR NO KEY UPDATE OF o;
  GET DIAGNOSTICS v_locked = ROW_COUNT;
  IF v_locked <> cardinality(v_keys) THEN
    RAISE EXCEPTION 'an object was forgotten meanwhile' USING ERRCODE = 'serialization_failure';
  END IF;
END
$$;

-- The entries with object_limit where one would begin an object that its account has no room for. What is there is counted by what
-- the feed tells of, so pushes at one moment may pass the bound by what they hold.
CREATE FUNCTION devices.fn_sync_limit(p_entries devices.sync_entry[]) RETURNS devices.sync_entry[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_begun devices.sync_key[];
BEGIN
  WITH begun AS (
    SELECT e.lenser_id, e.class, e.object, row_number() OVER (PARTITION BY e.lenser_id ORDER BY min(e.place)) AS rank
      FROM unnest(p_entries) e
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
     WHERE e.code IS NULL AND o.state -> 'clock' = '{}'
     GROUP BY 1, 2, 3
  ), held AS (
    SELECT s.lenser_id, sum(s.objects) AS objects
      FROM devices.sync_checksums s JOIN devices.object_classes c ON c.class = s.class AND c.authority = 'both'
     WHERE s.lenser_id IN (SELECT b.lenser_id FROM begun b)
     GROUP BY 1
  )
  SELECT array_agg(ROW(b.lenser_id, b.class, b.object)::devices.sync_key) INTO v_begun
    FROM begun b LEFT JOIN held h ON h.lenser_id = b.lenser_id
   WHERE b.rank + coalesce(h.objects, 0) > devices.fn_limit('objectsPerLenser');
  IF v_begun IS NULL THEN
    RETURN p_entries;
  END IF;
  RETURN ARRAY(
    SELECT ROW(e.place, e.idx, e.entry, e.lenser_id, e.device_id, e.class, e.object, e.actor, e.n, e.clock, e.prev, e.paths,
               NULL, NULL,
               CASE WHEN e.code IS NULL AND (e.lenser_id, e.class, e.object) IN (
                      SELECT b.lenser_id, b.class, b.object FROM unnest(v_begun) b) THEN 'object_limit' ELSE e.code END,
               NULL)::devices.sync_entry
      FROM unnest(p_entries) e ORDER BY e.place);
END
$$;

-- The entries with rate_limited whose objects come after as many stored bytes as one push may have merged into: each costs what
-- its object holds, however little it says. The first of a push always goes.
CREATE FUNCTION devices.fn_sync_room(p_entries devices.sync_entry[]) RETURNS devices.sync_entry[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_late text[];
BEGIN
  WITH named AS MATERIALIZED (
    SELECT e.idx, e.lenser_id, e.class, e.object, min(e.place) AS place
      FROM unnest(p_entries) e WHERE e.code IS NULL GROUP BY 1, 2, 3, 4
  ), sized AS (
    SELECT n.idx, n.class, n.object, row_number() OVER push AS rank,
           -- What is compressed is looked into: it says nothing of what it holds.
           sum(CASE WHEN pg_column_compression(o.state) IS NULL THEN pg_column_size(o.state)
                    ELSE octet_length(o.state::text) END) OVER push AS bytes
      FROM named n
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (n.lenser_id, n.class, n.object)
    WINDOW push AS (PARTITION BY n.idx ORDER BY n.place)
  )
  SELECT array_agg(concat(s.idx, '/', s.class, '/', s.object)) INTO v_late
    FROM sized s WHERE s.rank > 1 AND s.bytes > devices.fn_limit('pushStateBytes');
  IF v_late IS NULL THEN
    RETURN p_entries;
  END IF;
  RETURN ARRAY(
    SELECT ROW(e.place, e.idx, e.entry, e.lenser_id, e.device_id, e.class, e.object, e.actor, e.n, e.clock, e.prev, e.paths,
               NULL, NULL,
               CASE WHEN e.code IS NULL AND concat(e.idx, '/', e.class, '/', e.object) = ANY (v_late) THEN 'rate_limited'
                    ELSE e.code END,
               NULL)::devices.sync_entry
      FROM unnest(p_entries) e ORDER BY e.place);
END
$$;

-- Opens pushes and locks all that they are about, until this transaction ends: {epoch, items: [{idx, device_id, entries: [{code} or
-- {at, link_at}]}], objects: [{class, object, state, links}]}. Of what has its outcome already there is nothing to decide. `at` is
-- the object's place; of links those of the actors that are here; link_at is the link on record under an entry's number.
CREATE FUNCTION devices.fn_sync_open(p_envelopes text[]) RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_entries devices.sync_entry[] := devices.fn_sync_entries(devices.fn_sync_live(
    devices.fn_begin_verified(devices.fn_look_verified(p_envelopes, 'sync_push', false))));
BEGIN
  PERFORM devices.fn_sync_lock_objects(v_entries);
  v_entries := devices.fn_sync_room(devices.fn_sync_limit(v_entries));
  RETURN (
    WITH named AS MATERIALIZED (
      SELECT e.place, e.idx, e.entry, e.lenser_id, e.device_id, e.class, e.object, e.actor, e.n, e.code,
             CASE WHEN e.code IS NULL
                    THEN dense_rank() OVER (ORDER BY e.code IS NOT NULL, e.lenser_id, e.class, e.object) - 1 END AS at
        FROM unnest(v_entries) e
    ), objects AS (
      SELECT n.at, o.class, o.object, o.state, coalesce(
               jsonb_object_agg(n.actor, o.links -> n.actor) FILTER (WHERE o.links ? n.actor), '{}') AS links
        FROM named n
        JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (n.lenser_id, n.class, n.object)
       WHERE n.at IS NOT NULL
       GROUP BY n.at, o.lenser_id, o.class, o.object
    ), items AS (
      SELECT n.idx, n.device_id, min(n.place) AS place, json_agg(
               CASE WHEN n.code IS NOT NULL THEN json_build_object('code', n.code)
                    ELSE json_strip_nulls(json_build_object('at', n.at, 'link_at', devices.fn_b64url(x.link))) END
               ORDER BY n.entry) AS entries
        FROM named n
        LEFT JOIN devices.sync_outbox x
          ON (x.lenser_id, x.object_class, x.object_id, x.actor, x.n) = (n.lenser_id, n.class, n.object, n.actor, n.n)
       GROUP BY n.idx, n.device_id
    )
    SELECT json_build_object(
             'epoch', devices.fn_sync_epoch(),
             'items', coalesce((SELECT json_agg(json_build_object(
                 'idx', i.idx, 'device_id', i.device_id, 'entries', i.entries) ORDER BY i.place) FROM items i), '[]'),
             'objects', coalesce((SELECT json_agg(json_build_object(
                 'class', o.class, 'object', o.object, 'state', o.state, 'links', o.links) ORDER BY o.at) FROM objects o), '[]')));
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_sync_open(text[]) TO ltg_sync_applier;
