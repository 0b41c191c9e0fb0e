-- Which of an account's devices leads: it alone flushes the classes that need coordination. Not the lease that permits
-- execution.
--
-- Whoever asks is in line for some seconds. A lease that is free goes to whoever asks, unless one before it in line
-- asked a moment ago: first those that waited for longer than a turn, longest first, then by precedence (oldest trusted
-- device, else oldest approved). Whoever had a whole turn stands behind all that wait. So nobody leads beside another,
-- and nobody waits for ever.
SET LOCAL ROLE ltg_owner;

-- For how long a device leads without a break while others wait: two leases.
CREATE FUNCTION devices.fn_leader_turn() RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN 2 * devices.fn_limit('leaderSeconds') * interval '1 second';
END
$$;

-- Whether a device in its present state may lead, by the states that may ask; one whose key is over may not.
CREATE FUNCTION devices.fn_may_lead(p_device uuid, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM devices.registered_devices d
    JOIN devices.kind_states k ON k.kind = 'leader' AND k.trust_level = d.trust_level
   WHERE d.id = p_device AND coalesce(d.key_expires_at > p_now, true);
  RETURN FOUND;
END
$$;

-- Puts a device in line, or keeps its place there.
CREATE FUNCTION devices.fn_want_lease(p_kind text, p_lenser uuid, p_device uuid, p_now timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_remembered CONSTANT interval := '10 seconds';
BEGIN
  DELETE FROM devices.peer_candidates c
   WHERE c.lease_kind = p_kind AND c.lenser_id = p_lenser AND c.wanted_until <= p_now;
  INSERT INTO devices.peer_candidates (lease_kind, lenser_id, device_id, waits_since, wanted_until)
  VALUES (p_kind, p_lenser, p_device, p_now, p_now + c_remembered)
  ON CONFLICT (lease_kind, lenser_id, device_id) DO UPDATE SET wanted_until = excluded.wanted_until;
END
$$;

CREATE FUNCTION devices.fn_leave_line(p_kind text, p_lenser uuid, p_device uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM devices.peer_candidates c
   WHERE c.lease_kind = p_kind AND c.lenser_id = p_lenser AND c.device_id = p_device;
END
$$;

-- Who is first in line, of those that may lead; null where nobody is. p_last: who had a whole turn just now.
CREATE FUNCTION devices.fn_first_in_line(p_kind text, p_lenser uuid, p_last uuid, p_now timestamptz) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT d.id
      FROM devices.peer_candidates c
      JOIN devices.registered_devices d ON d.id = c.device_id
     WHERE c.lease_kind = p_kind AND c.lenser_id = p_lenser AND c.wanted_until > p_now
       AND devices.fn_may_lead(d.id, p_now)
     ORDER BY d.id IS NOT DISTINCT FROM p_last,
              CASE WHEN c.waits_since <= p_now - devices.fn_leader_turn() THEN c.waits_since END NULLS LAST,
              -- An offline device counts by the level that it keeps.
              CASE d.trust_level WHEN 'offline' THEN d.earlier_level ELSE d.trust_level END IS DISTINCT FROM 'trusted',
              d.created_at, d.id
     LIMIT 1);
END
$$;

-- How a lease is told to a device that asked: who leads, null where nobody does, under which fence, until when
-- (milliseconds since 1970); and to whom it was not given, after how many seconds to ask again so as to keep its place
-- in line.
CREATE FUNCTION devices.fn_show_lease(
  p_lease devices.peer_leases, p_is_held boolean, p_granted boolean, p_now timestamptz
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_ask_again CONSTANT integer := 5;
BEGIN
  RETURN jsonb_build_object(
    'granted', p_granted,
    'holder', CASE WHEN p_is_held THEN p_lease.device_id END,
    'fence', coalesce(p_lease.fence, 0),
    'expires_at', CASE WHEN p_is_held THEN devices.fn_unix_ms(p_lease.expires_at) END,
    'retry_after', CASE WHEN NOT p_granted THEN
      CASE WHEN p_is_held
        THEN least(c_ask_again, greatest(1, ceil(extract(epoch FROM p_lease.expires_at - p_now))))::integer
        ELSE 1 END END);
END
$$;

-- Gives the lease to a device that does not have it: under a new fence. A change of hands is on record.
CREATE FUNCTION devices.fn_grant_lease(p devices.envelope_parts, p_kind text, p_lenser uuid, p_seconds bigint)
RETURNS devices.peer_leases
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_was devices.peer_leases;
  v_lease devices.peer_leases;
  v_now timestamptz;
BEGIN
  -- Waits for what is being flushed under the old fence; the time counts from then.
  SELECT * INTO v_was FROM devices.peer_leases l WHERE l.lease_kind = p_kind AND l.lenser_id = p_lenser FOR UPDATE;
  v_now := clock_timestamp();
  INSERT INTO devices.peer_leases AS l (lease_kind, lenser_id, device_id, fence, acquired_at, expires_at)
  VALUES (p_kind, p_lenser, p.kid, 1, v_now, v_now + p_seconds * interval '1 second')
  ON CONFLICT (lease_kind, lenser_id) DO UPDATE
    SET device_id = excluded.device_id, fence = l.fence + 1, acquired_at = excluded.acquired_at,
        expires_at = excluded.expires_at
  RETURNING * INTO v_lease;
  PERFORM devices.fn_leave_line(p_kind, p_lenser, p.kid);
  IF v_was.device_id IS DISTINCT FROM p.kid THEN
    PERFORM audit.fn_record(p_lenser, p.kid, p.kid, NULL, p.kind, p.digest, jsonb_build_object(
      'lease_kind', p_kind, 'fence', v_lease.fence, 'from', v_was.device_id));
  END IF;
  RETURN v_lease;
END
$$;

-- Extends the lease of the device that has it, or with 0 seconds ends it.
CREATE FUNCTION devices.fn_extend_lease(p_lease devices.peer_leases, p_seconds bigint) RETURNS devices.peer_leases
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lease devices.peer_leases;
BEGIN
  UPDATE devices.peer_leases l
     SET expires_at = CASE WHEN p_seconds = 0 THEN clock_timestamp()
                           ELSE greatest(l.expires_at, clock_timestamp() + p_seconds * interval '1 second') END
   WHERE l.lease_kind = p_lease.lease_kind AND l.lenser_id = p_lease.lenser_id
  RETURNING * INTO v_lease;
  RETURN v_lease;
END
$$;

-- What a device that may lead is told. All of one account's ask one after another; what they read of the lease is so
-- until then.
CREATE FUNCTION devices.fn_lead(p devices.envelope_parts, p_lenser uuid) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_kind text := p.body ->> 'lease_kind';
  v_seconds bigint := least(greatest(0, (p.body ->> 'seconds')::bigint), devices.fn_limit('leaderSeconds'));
  v_lease devices.peer_leases;
  v_now timestamptz;
  v_is_held boolean;
  v_is_own boolean;
  v_had_turn boolean;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(concat('leader ', v_kind, ' ', p_lenser), 0));
  SELECT * INTO v_lease FROM devices.peer_leases l WHERE l.lease_kind = v_kind AND l.lenser_id = p_lenser;
  v_now := clock_timestamp();
  -- One that may not work any more has lost it: nothing more is taken from it.
  v_is_held := coalesce(v_lease.expires_at > v_now AND devices.fn_may_lead(v_lease.device_id, v_now), false);
  v_is_own := v_is_held AND v_lease.device_id = p.kid;
  v_had_turn := least(v_lease.expires_at, v_now) - v_lease.acquired_at >= devices.fn_leader_turn();
  IF v_seconds = 0 THEN
    PERFORM devices.fn_leave_line(v_kind, p_lenser, p.kid);
    IF v_is_own THEN
      v_lease := devices.fn_extend_lease(v_lease, 0);
    END IF;
    RETURN devices.fn_show_lease(v_lease, v_is_held AND NOT v_is_own, false, v_now);
  ELSIF v_is_own AND (
      NOT v_had_turn OR coalesce(devices.fn_first_in_line(v_kind, p_lenser, p.kid, v_now), p.kid) = p.kid) THEN
    PERFORM devices.fn_leave_line(v_kind, p_lenser, p.kid);
    RETURN devices.fn_show_lease(devices.fn_extend_lease(v_lease, v_seconds), true, true, v_now);
  END IF;
  PERFORM devices.fn_want_lease(v_kind, p_lenser, p.kid, v_now);
  IF v_is_held OR devices.fn_first_in_line(
      v_kind, p_lenser, CASE WHEN v_had_turn THEN v_lease.device_id END, v_now) IS DISTINCT FROM p.kid THEN
    RETURN devices.fn_show_lease(v_lease, v_is_held, false, v_now);
  END IF;
  RETURN devices.fn_show_lease(devices.fn_grant_lease(p, v_kind, p_lenser, v_seconds), true, true, v_now);
END
$$;

-- A device asks to lead, to go on leading, or gives it back. No operation: it is asked again and again, and the newest
-- answer holds. Times are the database's alone.
CREATE FUNCTION devices.fn_acquire_leader_lease(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_read(p_envelope, 'leader', false);
  v_signer devices.claim_signer;
  v_verdict text;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- Its state as it is now, and kept so until this is done (law 7).
  v_signer := devices.fn_claim_signer((v_request.parts).kid);
  IF v_signer.signer <> 'device' THEN
    RETURN devices.fn_refusal('unknown_device');
  END IF;
  v_verdict := devices.fn_claim_state_verdict(v_signer, 'ask', 'leader');
  IF v_verdict <> 'ok' THEN
    RETURN devices.fn_refusal(v_verdict);
  END IF;
  RETURN devices.fn_ok(devices.fn_lead(v_request.parts, v_signer.lenser_id));
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_acquire_leader_lease(text) TO ltg_registrar;
