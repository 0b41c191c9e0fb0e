-- Keeps what was merged: objects, the log of edits, conflicts, results; then tells the feed.
SET LOCAL ROLE ltg_owner;

-- What stood at a path when the sides of a conflict went apart: {value} in the newest state of the feed that each of them has seen;
-- null where that is kept no more, or there was none. States only grow, so the search halves.
CREATE FUNCTION devices.fn_sync_base(p_key devices.sync_key, p_path text, p_sides jsonb) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_seqs bigint[] := ARRAY(
    SELECT c.seq FROM devices.sync_changes c
     WHERE (c.lenser_id, c.class, c.object) = (p_key.lenser_id, p_key.class, p_key.object) AND c.op <> 'purge'
     ORDER BY c.seq);
  v_low integer := 0;
  v_high integer := cardinality(v_seqs);
  v_middle integer;
  v_state jsonb;
  v_base jsonb;
BEGIN
  WHILE v_low < v_high LOOP
    v_middle := (v_low + v_high + 1) / 2;
    SELECT c.state INTO v_state FROM devices.sync_changes c
     WHERE (c.lenser_id, c.class, c.seq) = (p_key.lenser_id, p_key.class, v_seqs[v_middle]);
    IF (SELECT bool_and(devices.fn_clock_covers(s -> 'clock', v_state -> 'clock')) FROM jsonb_array_elements(p_sides) s) THEN
      v_low := v_middle;
      v_base := jsonb_build_object('value', coalesce(v_state -> 'paths' -> p_path -> 0 -> 'value', 'null'));
    ELSE
      v_high := v_middle - 1;
    END IF;
  END LOOP;
  RETURN v_base;
END
$$;

-- Between which writes of a path a person has to choose, one a value, in the order in which they are read; null where there is
-- nothing to decide (rule 4: conflictOf of @lenserfight/sync). On a path that keeps, different values; else different values of one
-- device.
CREATE FUNCTION devices.fn_sync_sides(p_class text, p_path text, p_writes jsonb) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_sides CONSTANT jsonb := (
    SELECT jsonb_agg(s.w ORDER BY s.place)
      FROM (SELECT DISTINCT ON (x.w -> 'value') x.w, x.place
              FROM jsonb_array_elements(p_writes) WITH ORDINALITY AS x (w, place)
             ORDER BY x.w -> 'value', x.place) s);
BEGIN
  RETURN CASE WHEN jsonb_array_length(v_sides) >= 2 AND (
    EXISTS (SELECT FROM devices.keep_paths k WHERE k.class = p_class AND p_path ~ k.pattern)
    OR EXISTS (SELECT FROM jsonb_array_elements(p_writes) w
                GROUP BY split_part(w ->> 'actor', '~', 1) HAVING count(DISTINCT w -> 'value') > 1)) THEN v_sides END;
END
$$;

-- What a person has to decide of one object: a path, and the sides there.
CREATE TYPE devices.sync_split AS (lenser_id uuid, class text, object text, path text, sides jsonb);

-- The conflicts of an object's state, which are derived from it alone.
CREATE FUNCTION devices.fn_sync_splits(p_key devices.sync_key, p_state jsonb) RETURNS SETOF devices.sync_split
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT p_key.lenser_id, p_key.class, p_key.object, s.path, s.sides
    FROM (SELECT p.key AS path, devices.fn_sync_sides(p_key.class, p.key, p.value) AS sides
            FROM jsonb_each(p_state -> 'paths') p WHERE jsonb_array_length(p.value) >= 2) s
   WHERE s.sides IS NOT NULL
   ORDER BY s.path COLLATE "C";
END
$$;

-- Makes the open conflicts of these objects those that follow from their states (rule 11), and says how many it opened: the
-- applier's word is not asked. Under the objects' locks.
CREATE FUNCTION devices.fn_sync_keep_conflicts(p_merges devices.sync_merge[]) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_splits CONSTANT devices.sync_split[] := ARRAY(
    SELECT s
      FROM unnest(p_merges) m
     CROSS JOIN LATERAL devices.fn_sync_splits(ROW(m.lenser_id, m.class, m.object)::devices.sync_key, m.after) s
     -- Where anything stands beside something else at all.
     WHERE jsonb_path_exists(m.after, '$.paths.*[1]'));
  v_opened integer;
BEGIN
  UPDATE devices.sync_conflicts k SET closed_at = greatest(now(), k.opened_at), changed_at = now()
    FROM unnest(p_merges) m
   WHERE (k.lenser_id, k.class, k.object) = (m.lenser_id, m.class, m.object) AND k.closed_at IS NULL
     AND NOT EXISTS (
       SELECT FROM unnest(v_splits) s WHERE (s.lenser_id, s.class, s.object, s.path) = (k.lenser_id, k.class, k.object, k.path));
  IF cardinality(v_splits) = 0 THEN
    RETURN 0;
  END IF;
  UPDATE devices.sync_conflicts k
     SET sides = s.sides, sides_digest = sha256(convert_to(s.sides::text, 'UTF8')), changed_at = now(),
         base = coalesce(devices.fn_sync_base(ROW(k.lenser_id, k.class, k.object)::devices.sync_key, k.path, s.sides), k.base)
    FROM unnest(v_splits) s
   WHERE (k.lenser_id, k.class, k.object, k.path) = (s.lenser_id, s.class, s.object, s.path) AND k.closed_at IS NULL
     AND k.sides <> s.sides;
  INSERT INTO devices.sync_conflicts (lenser_id, class, object, path, sides, sides_digest, base)
  SELECT s.lenser_id, s.class, s.object, s.path, s.sides, sha256(convert_to(s.sides::text, 'UTF8')),
         devices.fn_sync_base(ROW(s.lenser_id, s.class, s.object)::devices.sync_key, s.path, s.sides)
    FROM unnest(v_splits) s
   WHERE NOT EXISTS (
     SELECT FROM devices.sync_conflicts k
      WHERE (k.lenser_id, k.class, k.object, k.path) = (s.lenser_id, s.class, s.object, s.path) AND k.closed_at IS NULL);
  GET DIAGNOSTICS v_opened = ROW_COUNT;
  RETURN v_opened;
END
$$;

-- Of each object that was merged, by its place, the newest link of each actor that edited it. Arrays have no statistics: left to
-- itself the planner compares every entry with every object.
CREATE FUNCTION devices.fn_sync_newest(p_entries devices.sync_entry[], p_merges devices.sync_merge[]) RETURNS jsonb[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = on
SET enable_nestloop = off
AS $$
BEGIN
  RETURN ARRAY(
    SELECT jsonb_object_agg(e.actor, e.link ORDER BY e.n)
      FROM unnest(p_merges) WITH ORDINALITY AS m (lenser_id, class, object, before, after, digest, place)
      JOIN unnest(p_entries) e ON (e.lenser_id, e.class, e.object) = (m.lenser_id, m.class, m.object)
     WHERE e.status = 'applied'
     GROUP BY m.place
     ORDER BY m.place);
END
$$;

-- Writes the log of edits, and takes away what stood for objects that do not come to be.
CREATE FUNCTION devices.fn_sync_log(p_items devices.verified_item[], p_entries devices.sync_entry[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
BEGIN
  WITH envelopes AS MATERIALIZED (SELECT i.idx, (i.parts).digest FROM unnest(p_items) i)
  INSERT INTO devices.sync_outbox
    (lenser_id, device_id, object_class, object_id, op, payload, vclock, actor, n, link, digest)
  SELECT e.lenser_id, e.device_id, e.class, e.object,
         CASE WHEN e.paths -> '$life' = 'null' THEN 'delete' ELSE 'upsert' END,
         e.paths, e.clock, e.actor, e.n, decode(translate(e.link, '-_', '+/') || '=', 'base64'), i.digest
    FROM unnest(p_entries) e JOIN envelopes i ON i.idx = e.idx
   WHERE e.status = 'applied'
   ORDER BY e.place;
  IF EXISTS (SELECT FROM unnest(p_entries) e WHERE e.status IS DISTINCT FROM 'applied') THEN
    DELETE FROM devices.sync_objects o
     USING (SELECT e.lenser_id, e.class, e.object
              FROM unnest(p_entries) e JOIN devices.object_classes c ON c.class = e.class AND c.authority = 'both'
             GROUP BY 1, 2, 3 HAVING bool_and(e.status IS DISTINCT FROM 'applied')) e
     WHERE (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
       AND o.seq IS NULL AND o.state -> 'clock' = '{}';
  END IF;
END
$$;

-- What each push came to: its result, and its audit record, which counts the entries and has one hash for all of them, never
-- what they say (R7). By the item's index: {result, record}.
CREATE FUNCTION devices.fn_sync_results(p_items devices.verified_item[], p_entries devices.sync_entry[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(r.idx, jsonb_build_object(
             'result', jsonb_build_object('epoch', devices.fn_sync_epoch(), 'entries', r.entries),
             'record', jsonb_build_object('ok', true, 'entries_hash', devices.fn_b64url((i.parts).content_digest),
                                          'applied', r.applied, 'duplicate', r.duplicate, 'refused', r.refused))), '{}')
      FROM (
        SELECT e.idx,
               jsonb_agg(CASE
                 WHEN e.status IS NOT NULL THEN jsonb_build_object(
                   'status', e.status, 'seq', o.seq, 'digest', translate(encode(o.digest, 'base64'), E'+/=\n', '-_'))
                 ELSE jsonb_strip_nulls(jsonb_build_object('code', e.code, 'detail', e.detail))
               END ORDER BY e.entry) AS entries,
               count(*) FILTER (WHERE e.status = 'applied') AS applied,
               count(*) FILTER (WHERE e.status = 'duplicate') AS duplicate,
               count(*) FILTER (WHERE e.status IS NULL) AS refused
          FROM unnest(p_entries) e
          LEFT JOIN devices.sync_objects o
            ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object) AND e.status IS NOT NULL
         GROUP BY e.idx) r
      JOIN unnest(p_items) i ON i.idx = r.idx);
END
$$;

-- SC-5: that somebody pushed what never leaves a machine is on record, class and device, never the content.
CREATE FUNCTION devices.fn_sync_note_local(p_items devices.verified_item[], p_entries devices.sync_entry[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO audit.pending (lenser_id, device_id, kid, op_id, event_kind, digest, payload)
  SELECT e.lenser_id, e.device_id, e.device_id, (i.parts).op_id, 'sync.local_only_refused', (i.parts).digest,
         jsonb_build_object('class', e.class, 'device_id', e.device_id, 'entries', e.entries)
    FROM (SELECT e.idx, e.lenser_id, e.device_id, e.class, count(*) AS entries
            FROM unnest(p_entries) e WHERE e.code = 'local_only_class' GROUP BY 1, 2, 3, 4) e
    JOIN unnest(p_items) i ON i.idx = e.idx
   ORDER BY e.idx, e.class;
END
$$;

-- Whom to tell that there is something to pull: one row a Lenser, with the machines that may, and did not alone bring all of it.
CREATE FUNCTION devices.fn_sync_notices(p_entries devices.sync_entry[], p_lensers uuid[]) RETURNS SETOF jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  RETURN QUERY
  SELECT jsonb_build_object(
           'lenser', h.lenser_id, 'epoch', devices.fn_sync_epoch(), 'seq', h.seq, 'to', jsonb_agg(d.id ORDER BY d.id))
    FROM devices.sync_heads h
    JOIN devices.registered_devices d ON d.lenser_id = h.lenser_id
    JOIN devices.kind_states k ON k.kind = 'sync_pull' AND k.trust_level = d.trust_level
   WHERE h.lenser_id = ANY (p_lensers)
     AND EXISTS (SELECT FROM unnest(p_entries) e
                  WHERE e.lenser_id = h.lenser_id AND e.status = 'applied' AND e.device_id <> d.id)
   GROUP BY h.lenser_id, h.seq;
END
$$;

-- Applies pushes that fn_sync_open opened in this transaction and the applier merged: {items: [{idx, entries: [{status, link} or
-- {code, detail}]}], objects: [{idx, entry, state, digest}]}. Whose, what and by whom is read from the envelopes again.
-- One row a push with its outcome; and without an index: {lenser, epoch, seq, to} for whom to tell, {conflicts} opened.
CREATE FUNCTION devices.fn_sync_push(p_envelopes text[], p_merged jsonb) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'sync_push', false));
  v_entries devices.sync_entry[] := devices.fn_sync_entries(devices.fn_sync_live(v_items));
  v_merges devices.sync_merge[];
  v_item devices.verified_item;
  v_conflicts integer;
  v_said jsonb;
BEGIN
  PERFORM devices.fn_sync_lock_objects(v_entries);
  v_entries := devices.fn_sync_said(devices.fn_sync_room(devices.fn_sync_limit(v_entries)), p_merged);
  PERFORM devices.fn_sync_check_entries(v_entries);
  v_merges := devices.fn_sync_merged(v_entries, p_merged);
  PERFORM devices.fn_sync_check_states(v_entries, v_merges);
  PERFORM devices.fn_sync_log(v_items, v_entries);
  v_conflicts := devices.fn_sync_keep_conflicts(v_merges);
  PERFORM devices.fn_sync_note_local(v_items, v_entries);
  -- Heads are locked last. What only comes again has its place in the feed already.
  PERFORM devices.fn_sync_write(v_entries, v_merges);
  v_said := devices.fn_sync_results(v_items, v_entries);
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := coalesce(devices.fn_sync_refusal(v_item), devices.fn_ok(v_said -> v_item.idx::text -> 'result'));
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY
  SELECT c.idx, c.outcome FROM devices.fn_commit_verified(
    v_items, (SELECT coalesce(jsonb_object_agg(s.key, s.value -> 'record'), '{}') FROM jsonb_each(v_said) s)) c
  UNION ALL
  SELECT NULL, t FROM devices.fn_sync_notices(v_entries, ARRAY(SELECT DISTINCT m.lenser_id FROM unnest(v_merges) m)) t
  UNION ALL
  SELECT NULL, jsonb_build_object('conflicts', v_conflicts);
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_sync_push(text[], jsonb) TO ltg_sync_applier;
