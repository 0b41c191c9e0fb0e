-- The changefeed's one writer: sequences are allotted under the feed's head, locked last, so that commit order is their order.
SET LOCAL ROLE ltg_owner;

-- Locks the heads of these feeds in the order of their ids, making those that are missing. Weaker than FOR UPDATE: who only
-- holds off compaction (FOR KEY SHARE) waits for no writer.
CREATE FUNCTION devices.fn_sync_lock_heads(p_lensers uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  INSERT INTO devices.sync_heads (lenser_id)
  SELECT DISTINCT l.id FROM unnest(p_lensers) l (id)
   WHERE NOT EXISTS (SELECT FROM devices.sync_heads h WHERE h.lenser_id = l.id)
   ORDER BY l.id
  ON CONFLICT DO NOTHING;
  PERFORM FROM devices.sync_heads h WHERE h.lenser_id = ANY (p_lensers) ORDER BY h.lenser_id FOR NO KEY UPDATE;
END
$$;

-- Counts what is no longer so out of the classes' checksums, and what is now into them. Under the heads' locks. Of an object that
-- is new p_before is null, of one that is forgotten p_after. Each adds the first 128 bits of SHA-256 over the canonical JSON of
-- ["object","digest"] (checksumPart of @lenserfight/sync), and is taken out by the same; neither text holds what JSON escapes.
CREATE TYPE devices.sync_difference AS (lenser_id uuid, class text, object text, before bytea, after bytea);
CREATE FUNCTION devices.fn_sync_count(p_differences devices.sync_difference[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_checksums AS s (lenser_id, class, objects, xor_high, xor_low)
  SELECT d.lenser_id, d.class, 0, 0, 0 FROM unnest(p_differences) d GROUP BY 1, 2 ORDER BY 1, 2
  ON CONFLICT DO NOTHING;
  UPDATE devices.sync_checksums s
     SET objects = s.objects + t.objects, xor_high = s.xor_high # t.high, xor_low = s.xor_low # t.low
    FROM (
      SELECT p.lenser_id, p.class, sum(p.sign) AS objects,
             bit_xor(substring(p.part FROM 1 FOR 8)::bigint) AS high, bit_xor(substring(p.part FROM 9 FOR 8)::bigint) AS low
        FROM (
          SELECT x.lenser_id, x.class, x.sign,
                 substring(sha256(convert_to(
                   concat('["', x.object, '","', translate(encode(x.digest, 'base64'), E'+/=\n', '-_'), '"]'), 'UTF8'))
                   FROM 1 FOR 16) AS part
            FROM (
              SELECT d.lenser_id, d.class, d.object, -1 AS sign, d.before AS digest FROM unnest(p_differences) d
              UNION ALL
              SELECT d.lenser_id, d.class, d.object, 1, d.after FROM unnest(p_differences) d) x
           WHERE x.digest IS NOT NULL
          -- Each is made once.
          OFFSET 0) p
       GROUP BY 1, 2) t
   WHERE s.lenser_id = t.lenser_id AND s.class = t.class;
END
$$;

-- Tells the feeds of these objects as they now are, where a feed does not say so yet; which of them it told, under which number.
-- Whoever calls it holds their rows, and calls it last: nothing may be locked after a head. An object is dead where every write of
-- its $life is null.
CREATE FUNCTION devices.fn_sync_append(p_keys devices.sync_key[])
RETURNS TABLE (lenser_id uuid, class text, object text, seq bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_differences devices.sync_difference[] := ARRAY(
    SELECT ROW(o.lenser_id, o.class, o.object, o.fed_digest, o.digest)::devices.sync_difference
      FROM (SELECT DISTINCT k.lenser_id, k.class, k.object FROM unnest(p_keys) k) k
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
     -- What stands for an object that is not yet one is told to nobody.
     WHERE o.digest IS NOT NULL AND o.digest IS DISTINCT FROM o.fed_digest AND o.state -> 'clock' <> '{}'
     ORDER BY o.lenser_id, o.class, o.object);
BEGIN
  IF cardinality(v_differences) = 0 THEN
    RETURN;
  END IF;
  PERFORM devices.fn_sync_lock_heads(ARRAY(SELECT DISTINCT d.lenser_id FROM unnest(v_differences) d));
  -- A later statement: it sees the heads as those left them whom the locks waited for.
  RETURN QUERY
  WITH numbered AS MATERIALIZED (
    SELECT k.lenser_id, k.class, k.object,
           h.seq + row_number() OVER (PARTITION BY k.lenser_id ORDER BY k.place) AS seq
      FROM unnest(v_differences) WITH ORDINALITY AS k (lenser_id, class, object, before, after, place)
      JOIN devices.sync_heads h ON h.lenser_id = k.lenser_id
  ), fed AS (
    UPDATE devices.sync_objects o SET seq = n.seq, fed_digest = o.digest
      FROM numbered n
     WHERE (o.lenser_id, o.class, o.object) = (n.lenser_id, n.class, n.object)
    RETURNING o.lenser_id, o.class, o.object, o.seq, o.state, o.digest
  ), told AS (
    INSERT INTO devices.sync_changes AS c (lenser_id, class, seq, object, op, state, digest)
    SELECT f.lenser_id, f.class, f.seq, f.object,
           CASE WHEN jsonb_path_exists(f.state, '$.paths."$life"[*].value ? (@ != null)') THEN 'upsert' ELSE 'delete' END,
           f.state, f.digest
      FROM fed f
    RETURNING c.lenser_id, c.class, c.object, c.seq
  ), moved AS (
    UPDATE devices.sync_heads h SET seq = n.seq
      FROM (SELECT n.lenser_id, max(n.seq) AS seq FROM numbered n GROUP BY 1) n
     WHERE h.lenser_id = n.lenser_id
  )
  SELECT t.lenser_id, t.class, t.object, t.seq FROM told t;
  PERFORM devices.fn_sync_count(v_differences);
END
$$;

-- Writes the merged states, each with its number in the feed, and tells the feed, as devices.fn_sync_append does of what is written
-- already: whoever calls it holds the objects' rows, and locks nothing after it.
CREATE FUNCTION devices.fn_sync_write(p_entries devices.sync_entry[], p_merges devices.sync_merge[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_newest jsonb[] := devices.fn_sync_newest(p_entries, p_merges);
  v_differences devices.sync_difference[];
BEGIN
  PERFORM devices.fn_sync_lock_heads(ARRAY(SELECT DISTINCT m.lenser_id FROM unnest(p_merges) m));
  -- A later statement: it sees the heads as those left them whom the locks waited for.
  WITH numbered AS MATERIALIZED (
    SELECT m.lenser_id, m.class, m.object, m.after, m.digest, m.newest,
           h.seq + row_number() OVER (PARTITION BY m.lenser_id ORDER BY m.place) AS seq
      FROM ROWS FROM (unnest(p_merges), unnest(v_newest)) WITH ORDINALITY
        AS m (lenser_id, class, object, before, after, digest, newest, place)
      JOIN devices.sync_heads h ON h.lenser_id = m.lenser_id
  ), written AS (
    UPDATE devices.sync_objects o
       SET state = n.after, digest = n.digest, links = o.links || n.newest, seq = n.seq, fed_digest = n.digest, changed_at = now()
      FROM numbered n
     WHERE (o.lenser_id, o.class, o.object) = (n.lenser_id, n.class, n.object)
    RETURNING new.lenser_id, new.class, new.object, old.fed_digest AS before, new.fed_digest AS after
  ), told AS (
    INSERT INTO devices.sync_changes (lenser_id, class, seq, object, op, state, digest)
    SELECT n.lenser_id, n.class, n.seq, n.object,
           CASE WHEN jsonb_path_exists(n.after, '$.paths."$life"[*].value ? (@ != null)') THEN 'upsert' ELSE 'delete' END,
           n.after, n.digest
      FROM numbered n
  ), moved AS (
    UPDATE devices.sync_heads h SET seq = n.seq
      FROM (SELECT n.lenser_id, max(n.seq) AS seq FROM numbered n GROUP BY 1) n
     WHERE h.lenser_id = n.lenser_id
  )
  SELECT array_agg(ROW(w.lenser_id, w.class, w.object, w.before, w.after)::devices.sync_difference) INTO v_differences
    FROM written w;
  PERFORM devices.fn_sync_count(v_differences);
END
$$;
