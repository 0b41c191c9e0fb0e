-- Forgets what every device has: changes that newer ones stand for, and objects that are dead.
SET LOCAL ROLE ltg_owner;

-- How far all devices have come that pulled within 90 days; the head where none did.
CREATE FUNCTION devices.fn_sync_settled(p_lenser uuid, p_head bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  RETURN coalesce((
    SELECT min(w.prev) FROM devices.sync_watermarks w
     WHERE w.lenser_id = p_lenser AND w.epoch = (SELECT max(e.epoch) FROM devices.epochs e)
       AND devices.fn_sync_keeps(w.pulled_at, interval '0')
       -- A revoked one never comes back.
       AND NOT EXISTS (SELECT FROM devices.registered_devices d WHERE d.id = w.device_id AND d.trust_level = 'revoked')), p_head);
END
$$;

-- Locks up to p_limit dead objects of a feed that all devices saw die, or that died 90 days ago, and that nobody else is at. What a
-- person has yet to decide is not forgotten.
CREATE FUNCTION devices.fn_sync_lock_dead(p_lenser uuid, p_settled bigint, p_limit integer) RETURNS devices.sync_key[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_old timestamptz := now() - devices.fn_limit('tombstoneKeepDays') * interval '1 day';
  v_keys devices.sync_key[] := ARRAY(
    SELECT ROW(c.lenser_id, c.class, c.object)::devices.sync_key
      FROM devices.sync_changes c
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object, o.seq) = (c.lenser_id, c.class, c.object, c.seq)
     WHERE c.lenser_id = p_lenser AND c.op = 'delete' AND (c.seq <= p_settled OR c.changed_at < v_old)
       AND NOT EXISTS (
         SELECT FROM devices.sync_conflicts s
          WHERE (s.lenser_id, s.class, s.object) = (c.lenser_id, c.class, c.object) AND s.closed_at IS NULL)
     ORDER BY c.seq LIMIT p_limit);
  v_locked devices.sync_key[];
BEGIN
  SELECT array_agg(l.key) INTO v_locked
    FROM (SELECT ROW(o.lenser_id, o.class, o.object)::devices.sync_key AS key
            FROM unnest(v_keys) k
            JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
           ORDER BY o.lenser_id, o.class, o.object
             FOR UPDATE OF o SKIP LOCKED) l;
  -- A later statement: it sees what those wrote who were at them until now.
  RETURN ARRAY(
    SELECT ROW(o.lenser_id, o.class, o.object)::devices.sync_key
      FROM unnest(v_locked) k
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
      JOIN devices.sync_changes c ON (c.lenser_id, c.class, c.seq) = (o.lenser_id, o.class, o.seq) AND c.op = 'delete'
     WHERE o.digest = o.fed_digest AND (c.seq <= p_settled OR c.changed_at < v_old)
       AND NOT EXISTS (
         SELECT FROM devices.sync_conflicts s
          WHERE (s.lenser_id, s.class, s.object) = (o.lenser_id, o.class, o.object) AND s.closed_at IS NULL)
     ORDER BY o.class, o.object);
END
$$;

-- Forgets objects of one feed, which are locked, as its head is: a purge row each tells devices to do the same. How many.
CREATE FUNCTION devices.fn_sync_purge(p_lenser uuid, p_keys devices.sync_key[]) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM devices.fn_sync_count(ARRAY(
    SELECT ROW(o.lenser_id, o.class, o.object, o.fed_digest, NULL)::devices.sync_difference
      FROM unnest(p_keys) k
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)));
  INSERT INTO devices.sync_changes (lenser_id, class, seq, object, op)
  SELECT k.lenser_id, k.class, h.seq + k.place, k.object, 'purge'
    FROM unnest(p_keys) WITH ORDINALITY AS k (lenser_id, class, object, place)
    JOIN devices.sync_heads h ON h.lenser_id = k.lenser_id;
  UPDATE devices.sync_heads h SET seq = h.seq + cardinality(p_keys) WHERE h.lenser_id = p_lenser;
  DELETE FROM devices.sync_objects o USING unnest(p_keys) k
   WHERE (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object);
  RETURN cardinality(p_keys);
END
$$;

-- Removes the changes of a feed that one after them and up to p_to stands for, given that none up to p_from is left of those; and
-- purges up to there. How many.
CREATE FUNCTION devices.fn_sync_thin(p_lenser uuid, p_from bigint, p_to bigint) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_removed integer;
BEGIN
  DELETE FROM devices.sync_changes c
   USING (
     SELECT n.class, n.object, max(n.seq) AS seq, max(n.seq) FILTER (WHERE n.op = 'purge') AS purged
       FROM devices.object_classes k
       JOIN devices.sync_changes n ON n.lenser_id = p_lenser AND n.class = k.class AND n.seq > p_from AND n.seq <= p_to
      GROUP BY 1, 2) newest
   WHERE c.lenser_id = p_lenser AND c.class = newest.class AND c.object = newest.object
     AND (c.seq < newest.seq OR c.seq = newest.purged);
  GET DIAGNOSTICS v_removed = ROW_COUNT;
  RETURN v_removed;
END
$$;

-- Forgets a slice of one feed, that which was looked at longest ago: of up to p_limit numbers, and up to p_limit dead objects.
-- lenser_id null: none is due, each was looked at within the hour. Two at once take different feeds.
CREATE FUNCTION devices.fn_sync_compact(p_limit integer, OUT lenser_id uuid, OUT forgotten integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_head devices.sync_heads;
  v_dead devices.sync_key[];
  v_settled bigint;
  v_to bigint;
BEGIN
  forgotten := 0;
  FOR v_head IN
    SELECT * FROM devices.sync_heads h WHERE h.compacted_at < now() - interval '1 hour' ORDER BY h.compacted_at LIMIT 64
  LOOP
    IF pg_try_advisory_xact_lock(hashtextextended('devices.fn_sync_compact ' || v_head.lenser_id, 0)) THEN
      lenser_id := v_head.lenser_id;
      EXIT;
    END IF;
  END LOOP;
  IF lenser_id IS NULL THEN
    RETURN;
  END IF;
  -- Objects before heads, as everywhere.
  v_dead := devices.fn_sync_lock_dead(lenser_id, devices.fn_sync_settled(lenser_id, v_head.seq), p_limit);
  -- Whoever begins to read anew, or goes back, holds this off, so that how far all have come is so until the end.
  SELECT * INTO v_head FROM devices.sync_heads h WHERE h.lenser_id = fn_sync_compact.lenser_id FOR UPDATE;
  v_settled := devices.fn_sync_settled(lenser_id, v_head.seq);
  v_to := greatest(v_head.floor, least(v_settled, v_head.floor + p_limit));
  forgotten := devices.fn_sync_thin(lenser_id, v_head.floor, v_to) + devices.fn_sync_purge(lenser_id, v_dead);
  UPDATE devices.sync_heads h
     SET floor = v_to,
         compacted_at = CASE WHEN v_to < v_settled OR cardinality(v_dead) = p_limit THEN h.compacted_at ELSE now() END
   WHERE h.lenser_id = fn_sync_compact.lenser_id;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_sync_compact(integer) TO ltg_sync_applier;
