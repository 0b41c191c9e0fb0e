-- The server's log of edits rests in audit.events after 30 days.
SET LOCAL ROLE ltg_owner;

-- Moves up to p_limit edits that are old enough, oldest first, each in one piece, and says how many. Rows that another
-- is moving are left to it. From then on an edit under a number and another link is told from the one before it no more
-- (rule 7).
CREATE FUNCTION devices.fn_sync_archive(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  c_most CONSTANT integer := 10000;
  v_before CONSTANT timestamptz := now() - devices.fn_limit('syncOutboxKeepDays') * interval '1 day';
  v_moved integer;
BEGIN
  WITH old AS (
    SELECT o.id FROM devices.sync_outbox o
     WHERE o.created_at < v_before
     ORDER BY o.created_at, o.id
     LIMIT least(p_limit, c_most)
       FOR UPDATE SKIP LOCKED
  ), taken AS (
    DELETE FROM devices.sync_outbox o USING old WHERE o.id = old.id RETURNING o.*
  )
  INSERT INTO audit.events (id, lenser_id, device_id, event_kind, payload, created_at)
  SELECT t.id, t.lenser_id, t.device_id, 'sync.edit',
         jsonb_build_object(
           'class', t.object_class, 'object', t.object_id, 'op', t.op, 'payload', t.payload, 'vclock', t.vclock,
           'actor', t.actor, 'n', t.n, 'link', devices.fn_b64url(t.link), 'digest', devices.fn_b64url(t.digest)),
         t.created_at
    FROM taken t;
  GET DIAGNOSTICS v_moved = ROW_COUNT;
  RETURN v_moved;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_sync_archive(integer) TO ltg_sync_applier;
