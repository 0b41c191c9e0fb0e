-- The levels of the device ladder that the server takes from history: trusted is earned, offline is noticed.
SET LOCAL ROLE ltg_owner;

-- The days (UTC) on which an approved or trusted device was heard, as far back as trust looks.
CREATE TABLE devices.heartbeat_days (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  day date NOT NULL,
  PRIMARY KEY (device_id, day)
);
ALTER TABLE devices.heartbeat_days ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The first day that counts towards trust now.
CREATE FUNCTION devices.fn_first_trusted_day() RETURNS date
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (now() AT TIME ZONE 'UTC')::date - devices.fn_limit('trustedWindowDays')::int + 1
$$;

-- Notes the days of a batch's heartbeats; most batches bring none that is new. An unhealthy device earns nothing by them.
CREATE FUNCTION devices.fn_note_heartbeat_days(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.heartbeat_days (device_id, day)
  SELECT heard.device_id, heard.day
    FROM (SELECT DISTINCT (i.parts).kid AS device_id, (i.stored_at AT TIME ZONE 'UTC')::date AS day
            FROM unnest(p_items) i WHERE devices.fn_is_trusted(i.trust_level, i.earlier_level)) heard
   WHERE NOT EXISTS (
           SELECT FROM devices.heartbeat_days y WHERE y.device_id = heard.device_id AND y.day = heard.day)
   ORDER BY 1, 2
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    DELETE FROM devices.heartbeat_days y
     WHERE y.device_id IN (SELECT (i.parts).kid FROM unnest(p_items) i) AND y.day < devices.fn_first_trusted_day();
  END IF;
END
$$;

-- Since when a device must have been heard not to be offline (DH-3).
CREATE FUNCTION devices.fn_offline_before() RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT now() - devices.fn_limit('offlineSeconds') * interval '1 second'
$$;

-- Whether nothing was heard of a device for as long as makes it offline: since its last heartbeat, or its approval.
CREATE FUNCTION devices.fn_is_silent(p_device devices.registered_devices) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(p_device.last_heartbeat_at, p_device.approved_at) < devices.fn_offline_before()
$$;

-- What a device's rise to trusted rests on: on how many days of the window it was heard, and its newest attestation in it that
-- two verified and that no compromise concerns.
CREATE FUNCTION devices.fn_trust_evidence(p_device_id uuid, OUT heartbeat_days bigint, OUT attested_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_since CONSTANT date := devices.fn_first_trusted_day();
BEGIN
  heartbeat_days := (SELECT count(*) FROM devices.heartbeat_days y WHERE y.device_id = p_device_id AND y.day >= v_since);
  attested_at := (
    SELECT a.stored_at
      FROM execution.attestations a
     WHERE a.device_id = p_device_id AND a.stored_at >= v_since::timestamp AT TIME ZONE 'UTC'
       AND a.signed AND a.gateway_verified
       AND NOT EXISTS (SELECT FROM devices.compromises k
                        WHERE k.device_id = a.device_id AND k.since <= a.stored_at
                          AND (k.key_number IS NULL OR k.key_number = a.key_number))
     ORDER BY a.stored_at DESC
     LIMIT 1);
END
$$;

-- Brings up to p_limit approved devices to trusted and says how many: those heard on enough days of the window, lately too,
-- with an attestation in it that counts. One whose row is in use is left for the next time.
CREATE FUNCTION devices.fn_promote_trusted(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lately CONSTANT timestamptz := devices.fn_offline_before();
  v_promoted integer;
BEGIN
  WITH earned AS (
    SELECT d.id
      FROM devices.registered_devices d
     WHERE d.trust_level = 'approved' AND d.last_heartbeat_at >= v_lately
       AND (SELECT e.attested_at IS NOT NULL AND e.heartbeat_days >= devices.fn_limit('trustedHeartbeatDays')
              FROM devices.fn_trust_evidence(d.id) e)
     ORDER BY d.id
     LIMIT p_limit
       FOR UPDATE OF d SKIP LOCKED
  )
  UPDATE devices.registered_devices d
     SET trust_level = 'trusted', trust_actor = 'server', trust_reason = 'heartbeats and a verified attestation'
    FROM earned e
   WHERE d.id = e.id;
  GET DIAGNOSTICS v_promoted = ROW_COUNT;
  RETURN v_promoted;
END
$$;

-- Brings up to p_limit devices that fell silent to offline (DH-3) and says how many. It is advisory: a heartbeat brings them
-- back to the level that they keep. One whose row is in use is heard just now, or left for the next time.
CREATE FUNCTION devices.fn_mark_offline(p_limit integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_before constant timestamptz := devices.fn_offline_before();
  v_marked integer;
BEGIN
  WITH silent AS (
    SELECT d.id
      FROM devices.registered_devices d
     -- devices.fn_is_silent, without a call for each device that there is.
     WHERE d.trust_level IN ('approved', 'trusted') AND coalesce(d.last_heartbeat_at, d.approved_at) < v_before
     ORDER BY d.id
     LIMIT p_limit
       FOR UPDATE OF d SKIP LOCKED
  )
  UPDATE devices.registered_devices d
     SET trust_level = 'offline', trust_actor = 'server', trust_reason = 'no heartbeat', gateway_status = 'disconnected'
    FROM silent s
   WHERE d.id = s.id;
  GET DIAGNOSTICS v_marked = ROW_COUNT;
  RETURN v_marked;
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_promote_trusted(integer), devices.fn_mark_offline(integer) TO ltg_trust_evaluator;
