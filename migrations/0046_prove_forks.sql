-- The trust-evaluator looks at suspicions of a fork: both signatures are its own to check (law 5), and what it finds proven, the
-- database checks again as far as bytes can tell.
SET LOCAL ROLE ltg_owner;

-- Suspicions that await a look, oldest first, each with the public key that both envelopes must verify under. A blocked device's
-- waits: what it returns to is kept for the platform, and its fork must not get lost on the way.
CREATE FUNCTION devices.fn_fork_suspicions(p_limit integer)
RETURNS TABLE (device_id uuid, lenser_id uuid, key_number integer, public_key bytea, earlier text, later text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.device_id, d.lenser_id, s.key_number, k.public_key, convert_from(s.earlier, 'UTF8'), convert_from(s.later, 'UTF8')
    FROM devices.fork_suspicions s
    JOIN devices.registered_devices d ON d.id = s.device_id
    JOIN devices.device_keys k ON k.device_id = s.device_id AND k.number = s.key_number
   WHERE d.trust_level <> 'blocked'
   ORDER BY s.raised_at
   LIMIT p_limit
$$;

-- Takes a suspicion off its table, if it is still the one with these digests.
CREATE FUNCTION devices.fn_take_suspicion(p_device uuid, p_key_number integer, p_earlier bytea, p_later bytea)
RETURNS devices.fork_suspicions
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM devices.fork_suspicions s
   WHERE s.device_id = p_device AND s.key_number = p_key_number
     AND sha256(s.earlier) = p_earlier AND sha256(s.later) = p_later
  RETURNING s.*
$$;

-- Whether two envelopes, taken as they are, can be no single honest signer's: one counter twice, or a lower counter signed later by
-- the signer's own clock, by more than the floor's margin leaves after twice the window.
CREATE FUNCTION devices.fn_is_fork(p_earlier devices.envelope_parts, p_later devices.envelope_parts) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p_earlier.kid = p_later.kid AND p_earlier.digest <> p_later.digest
     AND coalesce(p_later.counter = p_earlier.counter
      OR (p_later.counter < p_earlier.counter
          AND p_later.iat >= p_earlier.iat + devices.fn_limit('counterSettleSeconds') - 2 * devices.fn_limit('iatWindowSeconds')),
      false)
$$;

-- What was stored under a forked key since the earlier of both envelopes counts for nothing (trust.md, rule 8), and so under the keys
-- that it was rotated to: either of the two could have rotated it. A key that the owner vouched for is nobody else's.
CREATE FUNCTION devices.fn_distrust_forked(p_fork devices.identity_forks) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.compromises (device_id, kind, key_number, since, reason)
  SELECT p_fork.device_id, 'fork', k.number, least(p_fork.earlier_stored_at, now()), 'identity_forked'
    FROM devices.device_keys k
   WHERE k.device_id = p_fork.device_id AND k.number >= p_fork.key_number
     AND NOT EXISTS (SELECT FROM devices.device_keys r
                      WHERE r.device_id = k.device_id AND r.how = 'reproved'
                        AND r.number > p_fork.key_number AND r.number <= k.number)
   ORDER BY k.number;
END
$$;

-- Whoever has a proven fork does nothing more with that key: unhealthy, until its owner vouches for another one. One that is
-- unhealthy for something else stays so for this: its owner's word alone no longer clears it.
CREATE FUNCTION devices.fn_mark_forked(p_device devices.registered_devices) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_device.trust_level = 'unhealthy' THEN
    UPDATE devices.registered_devices SET trust_reason = 'identity_forked' WHERE id = p_device.id;
  ELSIF p_device.trust_level IN ('approved', 'trusted', 'offline') THEN
    UPDATE devices.registered_devices
       SET trust_level = 'unhealthy', trust_reason = 'identity_forked', trust_actor = 'server'
     WHERE id = p_device.id;
  END IF;
END
$$;

-- The trust-evaluator found both signatures good. Stores the verdict with both envelopes, once a key, and its record in the same
-- transaction (AU-2); claims in flight have ended when it returns, as at a revoke (law 7). False where there is no such
-- suspicion, or its bytes prove nothing.
CREATE FUNCTION devices.fn_judge_fork(p_device uuid, p_key_number integer, p_earlier bytea, p_later bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_device devices.registered_devices;
  v_suspicion devices.fork_suspicions;
  v_fork devices.identity_forks;
  v_earlier devices.envelope_parts;
  v_later devices.envelope_parts;
BEGIN
  IF NOT EXISTS (SELECT FROM devices.fork_suspicions s WHERE s.device_id = p_device AND s.key_number = p_key_number) THEN
    RETURN false;
  END IF;
  v_device := devices.fn_lock_device(p_device);
  IF v_device.trust_level = 'blocked' THEN
    RETURN false;
  END IF;
  v_suspicion := devices.fn_take_suspicion(p_device, p_key_number, p_earlier, p_later);
  IF v_suspicion.device_id IS NULL THEN
    RETURN false;
  END IF;
  v_earlier := devices.fn_read_envelope(convert_from(v_suspicion.earlier, 'UTF8'));
  v_later := devices.fn_read_envelope(convert_from(v_suspicion.later, 'UTF8'));
  IF v_earlier.kid <> p_device OR NOT devices.fn_is_fork(v_earlier, v_later) THEN
    RETURN false;
  END IF;
  INSERT INTO devices.identity_forks (device_id, key_number, earlier, earlier_stored_at, later, later_stored_at)
  VALUES (v_suspicion.device_id, v_suspicion.key_number, v_suspicion.earlier, v_suspicion.earlier_stored_at,
          v_suspicion.later, v_suspicion.later_stored_at)
  RETURNING * INTO v_fork;
  PERFORM devices.fn_distrust_forked(v_fork);
  PERFORM audit.fn_record(v_device.lenser_id, p_device, NULL, NULL, 'identity_forked', p_later, jsonb_build_object(
    'key_number', p_key_number,
    'earlier', jsonb_build_object('digest', devices.fn_b64url(p_earlier), 'counter', v_earlier.counter),
    'later', jsonb_build_object('digest', devices.fn_b64url(p_later), 'counter', v_later.counter)));
  IF NOT devices.fn_is_reproved_since(p_device, p_key_number) THEN
    PERFORM devices.fn_mark_forked(v_device);
  END IF;
  RETURN true;
END
$$;

-- The trust-evaluator found that a suspicion proves nothing: it is closed, and nothing happens to the device. p_false names those of
-- its envelopes that the device's key did not sign: they count no more, or what an honest device says would contradict them for ever.
CREATE FUNCTION devices.fn_dismiss_fork(
  p_device uuid, p_key_number integer, p_earlier bytea, p_later bytea, p_false bytea[]
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_suspicion devices.fork_suspicions := devices.fn_take_suspicion(p_device, p_key_number, p_earlier, p_later);
BEGIN
  IF v_suspicion.device_id IS NULL THEN
    RETURN false;
  END IF;
  DELETE FROM devices.counters c
   WHERE c.device_id = p_device AND c.key_number = p_key_number AND c.digest = ANY (p_false)
     AND c.digest IN (p_earlier, p_later);
  DELETE FROM devices.counter_floors f
   WHERE f.device_id = p_device AND f.key_number = p_key_number AND f.digest = ANY (p_false)
     AND f.digest IN (p_earlier, p_later);
  RETURN true;
END
$$;

GRANT EXECUTE ON FUNCTION
  devices.fn_fork_suspicions(integer),
  devices.fn_judge_fork(uuid, integer, bytea, bytea),
  devices.fn_dismiss_fork(uuid, integer, bytea, bytea, bytea[])
TO ltg_trust_evaluator;
