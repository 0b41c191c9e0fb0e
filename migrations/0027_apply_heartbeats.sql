SET LOCAL ROLE ltg_owner;

-- Of the runners that a heartbeat's body reports (RH-2), those of the account, each once.
CREATE FUNCTION execution.fn_reported_runners(p_lenser uuid, p_body jsonb) RETURNS uuid[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  IF NOT p_body ? 'runners' THEN
    RETURN '{}';
  END IF;
  RETURN ARRAY(
    SELECT DISTINCT r.id
      FROM jsonb_array_elements(p_body -> 'runners') said
      JOIN execution.runners r ON r.id = (said ->> 'runner_id')::uuid AND r.lenser_id = p_lenser
     ORDER BY r.id);
END
$$;

-- Notes when runners were heard: of each the newest store time, whatever order heartbeats come in. Before the heartbeats are
-- written, since those queue runs: who binds a runner holds it while its runs are queued.
CREATE FUNCTION execution.fn_note_runners(p_items devices.verified_item[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  WITH heard AS MATERIALIZED (
    SELECT runner.id, max(i.stored_at) AS stored_at
      FROM unnest(p_items) i
     CROSS JOIN unnest(execution.fn_reported_runners(i.lenser_id, (i.parts).body)) AS runner (id)
     GROUP BY runner.id
  ), held AS MATERIALIZED (
    SELECT r.id, d.stored_at
      FROM heard d
      JOIN execution.runners r ON r.id = d.id AND (r.last_heartbeat_at IS NULL OR r.last_heartbeat_at < d.stored_at)
     ORDER BY r.id
       FOR NO KEY UPDATE OF r
  )
  UPDATE execution.runners r SET last_heartbeat_at = greatest(r.last_heartbeat_at, d.stored_at) FROM held d WHERE r.id = d.id;
END
$$;

-- Of these heartbeats those that are kept: of one device so many of each second, since each attestation of its is judged by all of
-- five minutes. Their devices' rows are locked.
CREATE FUNCTION devices.fn_kept_heartbeats(p_items devices.verified_item[]) RETURNS devices.verified_item[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  RETURN (
    SELECT array_agg(s.i)
      FROM (SELECT i, before.count + row_number() OVER (
                     PARTITION BY (i.parts).kid, date_trunc('second', i.stored_at) ORDER BY i.stored_at, i.idx) AS place
              FROM unnest(p_items) i
              CROSS JOIN LATERAL (
                SELECT count(*) FROM devices.heartbeats h
                 WHERE h.device_id = (i.parts).kid AND h.stored_at >= date_trunc('second', i.stored_at)
                   AND h.stored_at < date_trunc('second', i.stored_at) + interval '1 second') before) s
     WHERE s.place <= devices.fn_limit('heartbeatsPerSecond'));
END
$$;

-- Applies heartbeats (DH-1, DH-2), their runners' too (RH-2). They are no operations: the newest by store time wins, one that comes again changes
-- nothing and has the result that it had, and an offline device is again what it was.
CREATE FUNCTION devices.fn_device_heartbeat(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_open_verified(p_envelopes, 'heartbeat', true);
  v_good devices.verified_item[];
  v_devices uuid[];
BEGIN
  SELECT array_agg(i), array_agg(DISTINCT (i.parts).kid) INTO v_good, v_devices
    FROM unnest(v_items) i
   WHERE i.step IS NULL AND devices.fn_state_refusal('heartbeat', i.trust_level) IS NULL;

  PERFORM execution.fn_note_runners(v_good);
  -- The record of those that are new, in the same transaction (AU-2).
  WITH fresh AS (
    INSERT INTO devices.heartbeats AS h (device_id, stored_at, digest, runners, trust_level, key_number, key_expires_at)
    SELECT d.id, g.stored_at, (g.parts).digest, execution.fn_reported_runners(g.lenser_id, (g.parts).body),
           CASE g.trust_level WHEN 'offline' THEN g.earlier_level ELSE g.trust_level END, d.key_number, d.key_expires_at
      FROM unnest(devices.fn_kept_heartbeats(v_good)) g JOIN devices.registered_devices d ON d.id = (g.parts).kid
     ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING
    RETURNING h.device_id, h.digest
  )
  INSERT INTO audit.pending (lenser_id, device_id, kid, event_kind, digest, payload)
  SELECT DISTINCT ON (f.device_id, f.digest)
         g.lenser_id, f.device_id, f.device_id, 'heartbeat', f.digest,
         devices.fn_ok(jsonb_build_object('daemon_version', (g.parts).body -> 'daemon_version'))
    FROM fresh f JOIN unnest(v_good) g ON (g.parts).kid = f.device_id AND (g.parts).digest = f.digest;
  DELETE FROM devices.heartbeats h
   WHERE h.device_id = ANY (v_devices) AND h.stored_at < now() - interval '1 hour';
  PERFORM devices.fn_note_heartbeat_days(v_good);

  UPDATE devices.registered_devices d
     SET last_heartbeat_at = newest.stored_at,
         daemon_version = newest.body ->> 'daemon_version',
         gateway_status = newest.body ->> 'gateway_status'
    FROM (SELECT DISTINCT ON ((g.parts).kid) (g.parts).kid AS id, g.stored_at, (g.parts).body AS body
            FROM unnest(v_good) g ORDER BY (g.parts).kid, g.stored_at DESC) newest
   WHERE d.id = newest.id AND (d.last_heartbeat_at IS NULL OR d.last_heartbeat_at < newest.stored_at);
  UPDATE devices.registered_devices d
     SET trust_level = d.earlier_level, trust_reason = 'heartbeat', trust_actor = 'server'
   WHERE d.id = ANY (v_devices) AND d.trust_level = 'offline';

  RETURN QUERY
  SELECT i.idx, devices.fn_addressed(i, CASE
           WHEN i.step = 'refused' THEN i.outcome
           WHEN h.digest IS NOT NULL THEN devices.fn_ok(jsonb_build_object(
             'trust_level', h.trust_level, 'key_number', h.key_number, 'key_expires_at', devices.fn_unix(h.key_expires_at),
             'runners', h.runners))
           -- One too many to be kept: heard, and told what holds now.
           ELSE coalesce(i.outcome, devices.fn_state_refusal('heartbeat', i.trust_level), devices.fn_ok(jsonb_build_object(
             'trust_level', CASE i.trust_level WHEN 'offline' THEN i.earlier_level ELSE i.trust_level END,
             'key_number', d.key_number, 'key_expires_at', devices.fn_unix(d.key_expires_at),
             'runners', execution.fn_reported_runners(i.lenser_id, (i.parts).body)))) END)
    FROM unnest(v_items) i
    LEFT JOIN devices.registered_devices d ON d.id = (i.parts).kid
    LEFT JOIN devices.heartbeats h
      ON h.device_id = (i.parts).kid AND h.stored_at = i.stored_at AND h.digest = (i.parts).digest
   ORDER BY i.idx;
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_device_heartbeat(text[]) TO ltg_trust_evaluator;
