-- Pulls: a device is given what changed after its own cursors, and its watermarks move in the transaction that reads it (SB-1).
SET LOCAL ROLE ltg_owner;

-- Raises the epoch and returns it; for the platform's operators, once the database was restored from a backup (rule 14): what a
-- cursor of an earlier one says is worth nothing.
CREATE FUNCTION devices.fn_epoch_raise() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_epoch integer;
BEGIN
  LOCK TABLE devices.epochs IN SHARE ROW EXCLUSIVE MODE;
  INSERT INTO devices.epochs (epoch) SELECT max(e.epoch) + 1 FROM devices.epochs e RETURNING epoch INTO v_epoch;
  RETURN v_epoch;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_epoch_raise() TO service_role;

-- Who pulled within this time holds up what is forgotten. A pull counts itself in by a shorter time, so that it never rests on
-- what somebody who just began to forget no longer counted.
CREATE FUNCTION devices.fn_sync_keeps(p_pulled_at timestamptz, p_margin interval) RETURNS boolean
LANGUAGE plpgsql
STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN p_pulled_at > now() - devices.fn_limit('tombstoneKeepDays') * interval '1 day' + p_margin;
END
$$;

-- What pulls ask for: of each device and class where it stands.
CREATE TYPE devices.sync_cursor AS (device_id uuid, class text, feed uuid, asked bigint);

-- The cursors that a pull names, of classes that are pulled.
CREATE FUNCTION devices.fn_sync_cursors(p_items devices.verified_item[]) RETURNS devices.sync_cursor[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT ROW((i.parts).kid, k.class,
               CASE k.feed WHEN 'global' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE i.lenser_id END,
               c.value::bigint)::devices.sync_cursor
      FROM unnest(p_items) i
     CROSS JOIN jsonb_each_text((i.parts).body -> 'cursors') c
      JOIN devices.object_classes k ON k.class = c.key AND k.authority <> 'local'
     ORDER BY (i.parts).kid, k.class);
END
$$;

-- Locks the devices' watermarks in order, making those that are missing. Of another epoch they say nothing any more. Where one is
-- new, goes back or held up nothing before, nothing of its feed is forgotten until this transaction ends.
CREATE FUNCTION devices.fn_sync_lock_watermarks(p_cursors devices.sync_cursor[], p_epoch integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  INSERT INTO devices.sync_watermarks (device_id, class, lenser_id, epoch, prev, watermark)
  SELECT DISTINCT ON (c.device_id, c.class) c.device_id, c.class, c.feed, p_epoch, 0, 0
    FROM unnest(p_cursors) c
   WHERE NOT EXISTS (
     SELECT FROM devices.sync_watermarks w WHERE w.device_id = c.device_id AND w.class = c.class AND w.epoch = p_epoch)
   ORDER BY c.device_id, c.class
  ON CONFLICT (device_id, class)
    DO UPDATE SET epoch = p_epoch, prev = 0, watermark = 0, pulled_at = now()
    WHERE sync_watermarks.epoch <> p_epoch;
  PERFORM FROM devices.sync_watermarks w
    JOIN (SELECT DISTINCT c.device_id, c.class FROM unnest(p_cursors) c) c USING (device_id, class)
   ORDER BY w.device_id, w.class
     FOR NO KEY UPDATE OF w;
  PERFORM FROM devices.sync_heads h
   WHERE h.lenser_id IN (
     SELECT c.feed FROM unnest(p_cursors) c
       JOIN devices.sync_watermarks w ON w.device_id = c.device_id AND w.class = c.class
      WHERE w.watermark = 0 OR c.asked < w.prev OR NOT devices.fn_sync_keeps(w.pulled_at, interval '1 hour'))
   ORDER BY h.lenser_id
     FOR KEY SHARE;
END
$$;

-- A class in an answer to a pull, and what it takes of the page's rows and bytes.
CREATE TYPE devices.sync_portion AS (rows jsonb[], bytes bigint, upto bigint);

-- Rows of a class after p_asked up to p_target, of so many rows and bytes at most; upto is p_target where that is all of them.
-- The first row of a page is given whatever its size.
CREATE FUNCTION devices.fn_sync_portion(
  p_feed uuid, p_class text, p_asked bigint, p_target bigint, p_rows bigint, p_bytes bigint, p_is_first boolean
) RETURNS devices.sync_portion
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
DECLARE
  -- What a row takes besides its state and its object's name.
  c_frame constant integer := 128;
  v_portion devices.sync_portion := ROW('{}', 0, p_target);
  v_last bigint := p_asked;
  v_row record;
BEGIN
  FOR v_row IN
    SELECT c.seq, c.object, c.op, c.state, c.digest,
           c_frame + octet_length(c.object) + coalesce(octet_length(c.state::text), 0) AS bytes
      FROM devices.sync_changes c
     WHERE c.lenser_id = p_feed AND c.class = p_class AND c.seq > p_asked AND c.seq <= p_target
     ORDER BY c.seq
     LIMIT p_rows + 1
  LOOP
    IF (cardinality(v_portion.rows) >= p_rows OR v_portion.bytes + v_row.bytes > p_bytes)
       AND NOT (p_is_first AND cardinality(v_portion.rows) = 0) THEN
      v_portion.upto := v_last;
      EXIT;
    END IF;
    v_portion.rows := array_append(v_portion.rows, jsonb_build_object('seq', v_row.seq, 'object', v_row.object, 'op', v_row.op)
      || CASE WHEN v_row.state IS NULL THEN '{}'::jsonb
              ELSE jsonb_build_object('state', v_row.state, 'digest', devices.fn_b64url(v_row.digest)) END);
    v_portion.bytes := v_portion.bytes + v_row.bytes;
    v_last := v_row.seq;
  END LOOP;
  RETURN v_portion;
END
$$;

-- Why a device is given nothing of a class; null where it is. Below the floor it is given what it was given before, as long as it
-- held up what is forgotten meanwhile: so it finishes a whole reading that it began at 0.
CREATE FUNCTION devices.fn_pull_refusal(
  p_asked bigint, p_is_same_epoch boolean, p_floor bigint, p_watermark devices.sync_watermarks
) RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE
    WHEN p_asked = 0 THEN NULL
    WHEN NOT p_is_same_epoch THEN 'resync_required'
    WHEN p_asked > p_watermark.watermark THEN 'cursor_ahead'
    WHEN p_asked < p_floor
      AND NOT (p_asked >= p_watermark.prev AND devices.fn_sync_keeps(p_watermark.pulled_at, interval '1 hour'))
      THEN 'resync_required'
  END;
END
$$;

-- One pull's answer; its device's watermarks are locked. Of each class the head and the checksum are as one statement saw them,
-- and rows are read by later ones: whatever is numbered up to a head that is seen is there. Asking from `prev` is a replay and
-- gives the same; asking from the watermark acknowledges what was given. A page that is full leaves a class as it was. What is
-- given for the first time leaves its record (AU-2): which classes, from where to where, and never what they hold.
CREATE FUNCTION devices.fn_sync_page(p_item devices.verified_item, p_epoch integer) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_is_same_epoch boolean := ((p_item.parts).body ->> 'epoch')::integer IS NOT DISTINCT FROM p_epoch;
  v_rows bigint := devices.fn_limit('pullRows');
  v_bytes bigint := devices.fn_limit('pullBytes');
  v_is_first boolean := true;
  v_is_more boolean := false;
  v_given jsonb := '{}';
  v_classes jsonb := '{}';
  v_code text;
  v_target bigint;
  v_portion devices.sync_portion;
  v record;
BEGIN
  FOR v IN
    SELECT c.class, c.asked, c.feed, coalesce(h.seq, 0) AS head, coalesce(h.floor, 0) AS floor, w,
           coalesce(s.objects, 0) AS objects, coalesce(s.xor_high, 0) AS xor_high, coalesce(s.xor_low, 0) AS xor_low
      FROM unnest(devices.fn_sync_cursors(ARRAY[p_item])) c
      JOIN devices.sync_watermarks w ON w.device_id = c.device_id AND w.class = c.class
      LEFT JOIN devices.sync_heads h ON h.lenser_id = c.feed
      LEFT JOIN devices.sync_checksums s ON s.lenser_id = c.feed AND s.class = c.class
     ORDER BY c.class
  LOOP
    v_code := devices.fn_pull_refusal(v.asked, v_is_same_epoch, v.floor, v.w);
    IF v_code IS NOT NULL THEN
      v_classes := v_classes || jsonb_build_object(v.class, jsonb_build_object('code', v_code));
      CONTINUE;
    END IF;
    v_target := CASE WHEN v.asked = (v.w).prev AND (v.w).watermark > v.asked THEN (v.w).watermark ELSE v.head END;
    -- Most pulls find nothing: that costs no more than to see it.
    v_portion := ROW('{}', 0, v_target);
    IF v_target > v.asked THEN
      v_portion := devices.fn_sync_portion(v.feed, v.class, v.asked, v_target, v_rows, v_bytes, v_is_first);
    END IF;
    v_rows := v_rows - cardinality(v_portion.rows);
    v_bytes := v_bytes - v_portion.bytes;
    v_is_first := v_is_first AND cardinality(v_portion.rows) = 0;
    v_is_more := v_is_more OR v_portion.upto < v.head;
    IF cardinality(v_portion.rows) > 0 AND v_portion.upto > (v.w).watermark THEN
      v_given := v_given || jsonb_build_object(v.class, jsonb_build_array(v.asked, v_portion.upto));
    END IF;
    IF v_portion.upto > v.asked OR v.asked = v.head THEN
      -- What was given once may be asked from, also when an older request comes late.
      UPDATE devices.sync_watermarks w
         SET prev = v.asked, watermark = greatest(w.watermark, v_portion.upto), pulled_at = now()
       WHERE w.device_id = (v.w).device_id AND w.class = v.class
         AND ((w.prev, greatest(w.watermark, v_portion.upto)) <> (v.asked, w.watermark)
              OR w.pulled_at < now() - interval '1 minute');
    END IF;
    v_classes := v_classes || jsonb_build_object(v.class, jsonb_strip_nulls(jsonb_build_object(
        'after', v.asked, 'upto', v_portion.upto, 'more', v_portion.upto < v.head,
        'checksum', CASE WHEN v_portion.upto = v.head THEN jsonb_build_object(
          'count', v.objects, 'xor', encode(v.xor_high::bytea || v.xor_low::bytea, 'hex')) END))
      || jsonb_build_object('rows', to_jsonb(v_portion.rows)));
  END LOOP;
  IF v_given <> '{}' THEN
    PERFORM audit.fn_record(
      p_item.lenser_id, (p_item.parts).kid, (p_item.parts).kid, NULL, 'sync_pull', (p_item.parts).digest,
      devices.fn_ok(jsonb_build_object('epoch', p_epoch, 'given', v_given)));
  END IF;
  RETURN jsonb_build_object('epoch', p_epoch, 'more', v_is_more, 'classes', v_classes || coalesce((
    SELECT jsonb_object_agg(c.key, jsonb_build_object(
             'code', CASE WHEN k.class IS NULL THEN 'unknown_class' ELSE 'local_only_class' END))
      FROM jsonb_each((p_item.parts).body -> 'cursors') c
      LEFT JOIN devices.object_classes k ON k.class = c.key
     WHERE k.class IS NULL OR k.authority = 'local'), '{}'));
END
$$;

-- Keeps what devices say of their own sync: of each the newest by store time.
CREATE FUNCTION devices.fn_keep_reports(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_reports AS r (device_id, pending, set_aside, last_code, diverged, reported_at)
  SELECT DISTINCT ON ((i.parts).kid)
         (i.parts).kid, (said.report ->> 'pending')::integer, (said.report ->> 'set_aside')::integer,
         said.report ->> 'last_code', ARRAY(SELECT jsonb_array_elements_text(said.report -> 'diverged')), i.stored_at
    FROM unnest(p_items) i
   CROSS JOIN LATERAL (SELECT (i.parts).body -> 'report' AS report) said
   ORDER BY (i.parts).kid, i.stored_at DESC
  ON CONFLICT (device_id) DO UPDATE
    SET pending = excluded.pending, set_aside = excluded.set_aside, last_code = excluded.last_code,
        diverged = excluded.diverged, reported_at = excluded.reported_at
    WHERE r.reported_at < excluded.reported_at;
END
$$;

-- Answers pulls (SB-1, SB-3): whose rows a device is given follows from the device that signed. They are no operations, and the
-- same request is given the same rows.
CREATE FUNCTION devices.fn_sync_pull(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_open_verified(p_envelopes, 'sync_pull', false);
  v_good devices.verified_item[];
  v_epoch integer;
  v_item devices.verified_item;
  v_outcome jsonb;
BEGIN
  SELECT array_agg(i ORDER BY (i.parts).kid, i.idx) INTO v_good
    FROM unnest(v_items) i
   WHERE i.step IS NULL AND devices.fn_state_refusal('sync_pull', i.trust_level) IS NULL;
  IF v_good IS NOT NULL THEN
    v_epoch := (SELECT max(e.epoch) FROM devices.epochs e);
    PERFORM devices.fn_keep_reports(v_good);
    PERFORM devices.fn_sync_lock_watermarks(devices.fn_sync_cursors(v_good), v_epoch);
  END IF;
  FOREACH v_item IN ARRAY coalesce(v_items, '{}') LOOP
    v_outcome := coalesce(v_item.outcome, devices.fn_state_refusal('sync_pull', v_item.trust_level));
    IF v_outcome IS NULL THEN
      v_outcome := devices.fn_ok(devices.fn_sync_page(v_item, v_epoch));
    END IF;
    idx := v_item.idx;
    outcome := devices.fn_addressed(v_item, v_outcome);
    RETURN NEXT;
  END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_sync_pull(text[]) TO ltg_sync_applier;
