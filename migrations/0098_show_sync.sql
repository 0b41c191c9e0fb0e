-- What an account is shown of its sync: what a person has to decide (SC-3), and how far each device has come. Times are
-- milliseconds since 1970.
SET LOCAL ROLE ltg_owner;

-- Whose device a side of a conflict is: its writer's, or, where the gateway wrote it as it took a decision back, the one
-- whose side that decision went over. Null where nobody's value stands there.
CREATE FUNCTION devices.fn_sync_side_device(p_conflict devices.sync_conflicts, p_side jsonb) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_gateway CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
  v_device uuid := split_part(p_side ->> 'actor', '~', 1)::uuid;
BEGIN
  IF v_device <> c_gateway THEN
    RETURN v_device;
  END IF;
  RETURN (
    SELECT split_part(s.side ->> 'actor', '~', 1)::uuid
      FROM devices.sync_conflicts c
      JOIN devices.sync_resolutions r ON r.conflict_id = c.id
     CROSS JOIN LATERAL jsonb_array_elements(r.sides) AS s (side)
     WHERE (c.lenser_id, c.class, c.object, c.path)
         = (p_conflict.lenser_id, p_conflict.class, p_conflict.object, p_conflict.path)
       AND s.side -> 'value' = p_side -> 'value'
       AND split_part(s.side ->> 'actor', '~', 1)::uuid <> c_gateway
     ORDER BY r.id DESC LIMIT 1);
END
$$;

-- Of a conflict on whether an object exists: the paths, twenty at most, that were written by who had not seen a deletion.
CREATE FUNCTION devices.fn_sync_edited_meanwhile(p_conflict devices.sync_conflicts) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most CONSTANT integer := 20;
BEGIN
  IF p_conflict.path <> '$life' THEN
    RETURN '[]';
  END IF;
  RETURN (
    SELECT coalesce(jsonb_agg(e.path ORDER BY e.path), '[]')
      FROM (
        SELECT p.path
          FROM devices.sync_objects o
         CROSS JOIN LATERAL jsonb_each(o.state -> 'paths') AS p (path, writes)
         WHERE (o.lenser_id, o.class, o.object) = (p_conflict.lenser_id, p_conflict.class, p_conflict.object)
           AND p.path <> '$life'
           AND NOT EXISTS (
             SELECT FROM jsonb_array_elements(p_conflict.sides) AS s (side)
              WHERE s.side -> 'value' = 'null'
                AND devices.fn_clock_covers(s.side -> 'clock', p.writes -> 0 -> 'clock'))
         ORDER BY p.path LIMIT c_most) e);
END
$$;

-- A conflict as it is listed. Whose each side is follows from its writer's name; the gateway's own have no device.
CREATE FUNCTION devices.fn_show_conflict(p_conflict devices.sync_conflicts) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object(
    'id', p_conflict.id,
    'class', p_conflict.class,
    'object', p_conflict.object,
    'path', p_conflict.path,
    'base', p_conflict.base,
    'sides', (
      SELECT jsonb_agg(jsonb_build_object(
               'actor', s.side -> 'actor', 'device_id', d.id, 'device_name', d.name,
               'clock', s.side -> 'clock', 'value', s.side -> 'value') ORDER BY s.place)
        FROM jsonb_array_elements(p_conflict.sides) WITH ORDINALITY AS s (side, place)
        LEFT JOIN devices.registered_devices d
          ON d.id = devices.fn_sync_side_device(p_conflict, s.side) AND d.lenser_id = p_conflict.lenser_id),
    'edited', devices.fn_sync_edited_meanwhile(p_conflict),
    'sides_digest', devices.fn_b64url(p_conflict.sides_digest),
    'opened_at', devices.fn_unix_ms(p_conflict.opened_at),
    'changed_at', devices.fn_unix_ms(p_conflict.changed_at),
    'closed_at', devices.fn_unix_ms(p_conflict.closed_at),
    'resolutions', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', r.id, 'kind', r.kind, 'at', devices.fn_unix_ms(r.resolved_at), 'by', r.resolved_by,
               'winner', r.winner) ORDER BY r.id), '[]')
        FROM devices.sync_resolutions r WHERE r.conflict_id = p_conflict.id));
END
$$;

-- One that no answer has room for, without its values and clocks: `omitted` says so. It can be decided all the same.
CREATE FUNCTION devices.fn_without_values(p_shown jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN p_shown || jsonb_build_object(
    'omitted', true,
    'base', CASE WHEN jsonb_typeof(p_shown -> 'base') = 'object' THEN '{"value": null}'::jsonb END,
    'sides', (SELECT jsonb_agg(s.side || '{"value": null, "clock": {}}' ORDER BY s.place)
                FROM jsonb_array_elements(p_shown -> 'sides') WITH ORDINALITY AS s (side, place)),
    'resolutions', (SELECT coalesce(jsonb_agg(
                             CASE WHEN r.one -> 'winner' ? 'value' THEN r.one || '{"winner": {"value": null}}'
                                  ELSE r.one END ORDER BY r.place), '[]')
                      FROM jsonb_array_elements(p_shown -> 'resolutions') WITH ORDINALITY AS r (one, place)));
END
$$;

-- The account's open conflicts after the one that `after` names, oldest first: as many as fit into an answer of 192
-- KiB. Or one of them, open or not. `more` says that there are others.
CREATE FUNCTION devices.fn_sync_conflicts(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_rows CONSTANT bigint := devices.fn_limit('conflictsPerAnswer');
  v_request devices.request := devices.fn_request_open(p_envelope, 'sync_conflicts', false);
  v_one uuid := (v_request.parts).body ->> 'conflict_id';
  v_after uuid := coalesce((v_request.parts).body ->> 'after', '00000000-0000-0000-0000-000000000000');
  v_ids uuid[];
  v_conflicts jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  IF v_one IS NOT NULL THEN
    v_ids := ARRAY(SELECT c.id FROM devices.sync_conflicts c WHERE c.id = v_one AND c.lenser_id = v_request.lenser_id);
    IF cardinality(v_ids) = 0 THEN
      RETURN devices.fn_refusal('unknown_conflict');
    END IF;
  ELSE
    v_ids := ARRAY(
      SELECT c.id FROM devices.sync_conflicts c
       WHERE c.lenser_id = v_request.lenser_id AND c.closed_at IS NULL AND c.id > v_after
       ORDER BY c.id LIMIT c_most_rows + 1);
  END IF;
  WITH own AS (
    SELECT devices.fn_show_conflict(c) AS shown, row_number() OVER (ORDER BY c.id) AS place
      FROM devices.sync_conflicts c WHERE c.id = ANY (v_ids[1:c_most_rows])
  ), cut AS (
    SELECT place,
           CASE WHEN octet_length(shown::text) > c_most_bytes THEN devices.fn_without_values(shown)
                ELSE shown END AS shown
      FROM own
  ), measured AS (
    SELECT shown, place, sum(octet_length(shown::text)) OVER (ORDER BY place) <= c_most_bytes AS fits FROM cut
  )
  SELECT coalesce(jsonb_agg(shown ORDER BY place) FILTER (WHERE fits), '[]'),
         coalesce(NOT bool_and(fits), false) OR cardinality(v_ids) > c_most_rows
    INTO v_conflicts, v_more
    FROM measured;
  RETURN devices.fn_ok(jsonb_build_object('conflicts', v_conflicts, 'more', v_more));
END
$$;

-- How far a device has come, and what it last said of itself. `behind`: how many numbers the feed has beyond those that
-- it was given in the class in which it was given least.
CREATE FUNCTION devices.fn_show_device_sync(p_device devices.registered_devices, p_seq bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
             'device_id', p_device.id,
             'name', p_device.name,
             'trust_level', p_device.trust_level,
             'classes', w.classes,
             'behind', greatest(0, p_seq - coalesce(w.least, 0)),
             'pending', r.pending,
             'set_aside', r.set_aside,
             'last_code', r.last_code,
             'diverged', r.diverged,
             'reported_at', devices.fn_unix_ms(r.reported_at),
             'pulled_at', devices.fn_unix_ms(w.pulled_at))
      FROM (
        SELECT coalesce(jsonb_object_agg(m.class, m.watermark), '{}') AS classes, max(m.pulled_at) AS pulled_at,
               min(m.watermark) FILTER (WHERE m.lenser_id = p_device.lenser_id) AS least
          FROM devices.sync_watermarks m WHERE m.device_id = p_device.id) w
      LEFT JOIN devices.sync_reports r ON r.device_id = p_device.id);
END
$$;

-- How the account's sync stands: its feed, what awaits a person, who leads, and each device that was not revoked,
-- oldest first: as many as fit into an answer of 192 KiB. `unsequenced`: objects that the gateway wrote and that the
-- feed does not tell of yet.
CREATE FUNCTION devices.fn_sync_status(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_pending CONSTANT bigint := 10000;
  v_request devices.request := devices.fn_request_open(p_envelope, 'sync_status', false);
  v_lenser uuid := v_request.lenser_id;
  v_seq bigint;
  v_devices jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  v_seq := coalesce((SELECT h.seq FROM devices.sync_heads h WHERE h.lenser_id = v_lenser), 0);
  WITH own AS (
    SELECT devices.fn_show_device_sync(d, v_seq) AS shown, row_number() OVER (ORDER BY d.created_at, d.id) AS place
      FROM devices.registered_devices d WHERE d.lenser_id = v_lenser AND d.revoked_at IS NULL
  ), measured AS (
    SELECT shown, place, sum(octet_length(shown::text)) OVER (ORDER BY place) <= c_most_bytes AS fits FROM own
  )
  SELECT coalesce(jsonb_agg(shown ORDER BY place) FILTER (WHERE fits), '[]'), coalesce(NOT bool_and(fits), false)
    INTO v_devices, v_more
    FROM measured;
  RETURN devices.fn_ok(jsonb_build_object(
    'epoch', devices.fn_sync_epoch(),
    'seq', v_seq,
    'conflicts', (SELECT count(*) FROM devices.sync_conflicts c WHERE c.lenser_id = v_lenser AND c.closed_at IS NULL),
    'unsequenced', (
      SELECT count(*) FROM (SELECT FROM devices.sync_pending p WHERE p.lenser_id = v_lenser LIMIT c_most_pending) p),
    'leader', (
      SELECT jsonb_build_object('device_id', l.device_id, 'fence', l.fence,
                                'expires_at', devices.fn_unix_ms(l.expires_at))
        FROM devices.peer_leases l
       WHERE l.lease_kind = 'sync_flush' AND l.lenser_id = v_lenser AND l.expires_at > now()
         AND devices.fn_may_lead(l.device_id, now())),
    'devices', v_devices,
    'more', v_more));
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_sync_conflicts(text), devices.fn_sync_status(text) TO ltg_registrar;
