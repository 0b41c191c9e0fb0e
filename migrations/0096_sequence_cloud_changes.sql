-- The sequencer: what the cloud wrote, keys alone until here, becomes objects and changes like any other (rules 12, 13).
SET LOCAL ROLE ltg_owner;

-- The state of an object that the cloud alone writes, after one more write: a value, or null where there is none any more. Its
-- counter goes on from the row's own, whoever holds that row, so what is fed late or twice changes nothing.
CREATE FUNCTION devices.fn_cloud_state(p_state jsonb, p_value jsonb) RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_actor constant text := '00000000-0000-0000-0000-000000000000~1';
  v_clock jsonb := jsonb_build_object(c_actor, coalesce((p_state -> 'clock' ->> c_actor)::bigint, 0) + 1);
  v_write jsonb := jsonb_build_object('actor', c_actor, 'clock', v_clock);
BEGIN
  RETURN jsonb_build_object('clock', v_clock, 'paths', jsonb_build_object(
    'value', jsonb_build_array(v_write || jsonb_build_object('value', p_value)),
    '$life', jsonb_build_array(v_write || jsonb_build_object('value', CASE WHEN p_value IS NOT NULL THEN true END))));
END
$$;

-- Takes up to p_limit keys of the queue, those that nobody else is at, and their objects' locks. The keys, each once. They stay in
-- the queue, as this transaction's.
CREATE FUNCTION devices.fn_sync_take(p_limit integer, OUT taken integer, OUT keys devices.sync_key[])
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  WITH held AS (
    UPDATE devices.sync_pending p SET taken_by = pg_current_xact_id()
     WHERE p.id = ANY (ARRAY(SELECT q.id FROM devices.sync_pending q ORDER BY q.id LIMIT p_limit FOR UPDATE SKIP LOCKED))
    RETURNING p.lenser_id, p.class, p.object
  )
  SELECT count(*), array_agg(DISTINCT ROW(h.lenser_id, h.class, h.object)::devices.sync_key) INTO taken, keys FROM held h;
  INSERT INTO devices.sync_objects (lenser_id, class, object, state)
  SELECT k.lenser_id, k.class, k.object, '{"clock": {}, "paths": {}}'
    FROM unnest(keys) k
    JOIN devices.object_classes c ON c.class = k.class AND c.authority = 'cloud'
   WHERE NOT EXISTS (
     SELECT FROM devices.sync_objects o WHERE (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object))
   ORDER BY k.lenser_id, k.class, k.object
  ON CONFLICT DO NOTHING;
  PERFORM FROM unnest(keys) k
    JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
   ORDER BY o.lenser_id, o.class, o.object FOR NO KEY UPDATE OF o;
END
$$;

-- Takes up to p_limit keys of what the cloud wrote: {taken, objects: [{lenser, class, object, state}]}, the objects that now need a
-- digest, each as it is at this moment, whatever it was when its key was left. They are held until this transaction ends: commit
-- their digests in it, or their keys are there as before.
CREATE FUNCTION devices.fn_sync_sequence_open(p_limit integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_taken integer;
  v_keys devices.sync_key[];
BEGIN
  SELECT t.taken, t.keys INTO v_taken, v_keys FROM devices.fn_sync_take(p_limit) t;
  -- Later statements: they see what those wrote whom the locks waited for.
  UPDATE devices.sync_objects o
     SET state = devices.fn_cloud_state(o.state, v.value), digest = NULL, changed_at = now()
    FROM devices.fn_cloud_values(v_keys) v
   WHERE (o.lenser_id, o.class, o.object) = (v.lenser_id, v.class, v.object)
     AND coalesce(o.state #> '{paths,value,0,value}', 'null') <> coalesce(v.value, 'null');
  -- What has been told already, and what is nothing.
  DELETE FROM devices.sync_pending p
   WHERE p.taken_by = pg_current_xact_id()
     AND NOT EXISTS (SELECT FROM devices.sync_objects o
                      WHERE (o.lenser_id, o.class, o.object) = (p.lenser_id, p.class, p.object)
                        AND o.digest IS NULL AND o.state -> 'clock' <> '{}');
  RETURN jsonb_build_object('taken', v_taken, 'objects', coalesce((
    SELECT jsonb_agg(jsonb_build_object('lenser', o.lenser_id, 'class', o.class, 'object', o.object, 'state', o.state)
                     ORDER BY o.lenser_id, o.class, o.object)
      FROM unnest(v_keys) k
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (k.lenser_id, k.class, k.object)
     WHERE o.digest IS NULL AND o.state -> 'clock' <> '{}'), '[]'));
END
$$;

-- Keeps the digests of objects opened in this transaction, {objects: [{lenser, class, object, digest}]}, tells their feeds, and
-- takes away those keys of theirs that were there when they were opened.
-- Whom to tell that there is something to pull, a row a Lenser: {lenser, epoch, seq, to}. Of what is everybody's nobody is told.
CREATE FUNCTION devices.fn_sync_sequence_commit(p_sequenced jsonb) RETURNS TABLE (notice jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_lensers uuid[];
BEGIN
  PERFORM FROM jsonb_to_recordset(p_sequenced -> 'objects') AS s (lenser uuid, class text, object text)
    JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (s.lenser, s.class, s.object)
   ORDER BY o.lenser_id, o.class, o.object FOR NO KEY UPDATE OF o;
  UPDATE devices.sync_objects o SET digest = devices.fn_b64url_decode(s.digest)
    FROM jsonb_to_recordset(p_sequenced -> 'objects') AS s (lenser uuid, class text, object text, digest text)
   WHERE (o.lenser_id, o.class, o.object) = (s.lenser, s.class, s.object)
     AND o.digest IS NULL AND o.state -> 'clock' <> '{}';
  DELETE FROM devices.sync_pending p
   USING jsonb_to_recordset(p_sequenced -> 'objects') AS s (lenser uuid, class text, object text)
   WHERE p.taken_by = pg_current_xact_id() AND (p.lenser_id, p.class, p.object) = (s.lenser, s.class, s.object);
  v_lensers := ARRAY(
    SELECT DISTINCT a.lenser_id
      FROM devices.fn_sync_append(ARRAY(
        SELECT ROW(s.lenser, s.class, s.object)::devices.sync_key
          FROM jsonb_to_recordset(p_sequenced -> 'objects') AS s (lenser uuid, class text, object text))) a);
  RETURN QUERY
  SELECT jsonb_build_object('lenser', h.lenser_id, 'epoch', (SELECT max(e.epoch) FROM devices.epochs e), 'seq', h.seq,
                            'to', jsonb_agg(d.id ORDER BY d.id))
    FROM devices.sync_heads h
    JOIN devices.registered_devices d ON d.lenser_id = h.lenser_id
    JOIN devices.kind_states k ON k.kind = 'sync_pull' AND k.trust_level = d.trust_level
   WHERE h.lenser_id = ANY (v_lensers)
   GROUP BY h.lenser_id, h.seq;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_sync_sequence_open(integer), devices.fn_sync_sequence_commit(jsonb) TO ltg_sync_applier;
