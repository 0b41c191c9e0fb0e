-- RFC-0003 §5, second half: the owner approves a device that answered its challenge, or revokes one for ever.
SET LOCAL ROLE ltg_owner;

-- Locks a device's row against claims in flight too: they hold FOR KEY SHARE. Whoever returns from here knows that no
-- claim of this device is half done (law 7).
-- A row lock alone could wait for ever: claims that overlap without a gap share the row past whoever waits for it, and a
-- device could put off its own revocation by talking. So after a while the table is locked, where waiters stand in line.
CREATE FUNCTION devices.fn_lock_device(p_id uuid)
RETURNS devices.registered_devices
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- All claims of all accounts stand in that line too: behind one worker that hangs, the request is rather asked again.
SET lock_timeout = '3s'
AS $$
DECLARE
  c_attempts CONSTANT int := 40;
  c_pause_seconds CONSTANT double precision := 0.005;
  v_device devices.registered_devices;
BEGIN
  FOR n IN 1 .. c_attempts LOOP
    -- A failed attempt lets go of the table too: two that kept their share of it would wait for each other below.
    BEGIN
      SELECT * INTO v_device FROM devices.registered_devices WHERE id = p_id FOR UPDATE NOWAIT;
      RETURN v_device;
    EXCEPTION
      WHEN lock_not_available THEN PERFORM pg_sleep(c_pause_seconds);
    END;
  END LOOP;
  LOCK TABLE devices.registered_devices IN EXCLUSIVE MODE;
  SELECT * INTO STRICT v_device FROM devices.registered_devices WHERE id = p_id FOR UPDATE;
  RETURN v_device;
END
$$;

-- Locks the device that a request names; `refusal` is set, and nothing locked, where it is not the account's, where its state or
-- what was changed of late forbids it. Nor is anything locked where nothing is left to do: everybody's claims of a device wait for
-- such a lock, and whoever asks without end must not make them.
CREATE FUNCTION devices.fn_lock_own_device(p_request devices.request, OUT device devices.registered_devices, OUT refusal jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := (p_request.parts).body->>'device_id';
  v_device devices.registered_devices;
BEGIN
  -- A device never changes hands, so this needs no lock; nobody holds up another account's devices by naming them.
  SELECT * INTO v_device FROM devices.registered_devices WHERE id = v_id;
  IF NOT FOUND THEN
    refusal := devices.fn_refusal('device_not_found');
  ELSIF v_device.lenser_id <> p_request.lenser_id THEN
    refusal := devices.fn_refusal('not_owner');
  ELSE
    refusal := devices.fn_change_refusal((p_request.parts).kind, v_device);
  END IF;
  IF refusal IS NULL AND devices.fn_is_settled(p_request, v_device) THEN
    device := v_device;
    RETURN;
  ELSIF refusal IS NULL AND v_device.trust_level = 'revoked' THEN
    refusal := devices.fn_dating_limit(v_id);
  END IF;
  IF refusal IS NULL THEN
    device := devices.fn_lock_device(v_id);
  END IF;
END
$$;

-- Why a device cannot be approved now, or null. One that is approved already is no refusal: approving again is the same.
CREATE FUNCTION devices.fn_approval_refusal(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE p_device.trust_level
    WHEN 'revoked' THEN devices.fn_refusal('device_revoked')
    WHEN 'blocked' THEN devices.fn_refusal('device_blocked')
    WHEN 'unhealthy' THEN devices.fn_refusal('invalid_transition')
    WHEN 'pending' THEN CASE
      -- From before there were challenges: in one step (RFC-0003 §9).
      WHEN p_device.is_legacy THEN NULL
      WHEN p_device.challenge_verified_at IS NOT NULL THEN NULL
      WHEN p_device.challenge_expires_at <= now() THEN devices.fn_refusal('challenge_expired')
      ELSE devices.fn_refusal('awaiting_device_challenge')
    END
  END
$$;

-- Approves a device of the session's account (DA-1, DA-3); the submitted key becomes its key (DR-5). A legacy one has none and
-- stays without: the result says so.
CREATE FUNCTION devices.fn_device_approve(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'approve', true);
  v_own record;
  v_device devices.registered_devices;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_device := v_own.device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(v_refusal, devices.fn_approval_refusal(v_device));
  IF v_refusal IS NULL AND v_device.trust_level = 'pending' THEN
    v_refusal := devices.fn_new_key_refusal(v_device.submitted_public_key);
  END IF;
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  IF v_device.trust_level = 'pending' THEN
    UPDATE devices.registered_devices
       SET trust_level = 'approved', trust_actor = 'owner',
           trust_reason = CASE WHEN is_legacy THEN 'approved by its owner, without a key' ELSE 'approved by its owner' END,
           public_key = submitted_public_key
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  RETURN devices.fn_operation_commit(v_request.parts, v_device.lenser_id, v_device.id, devices.fn_ok(jsonb_build_object(
    'device_id', v_device.id,
    'name', v_device.name,
    'trust_level', v_device.trust_level,
    'fingerprint', devices.fn_fingerprint(v_device.public_key))
    || CASE WHEN v_device.is_legacy THEN '{"legacy": true}' ELSE '{}'::jsonb END));
END
$$;

-- Since when a request says that others knew the device's key, or null: at the latest now. Its own clock may be ahead.
CREATE FUNCTION devices.fn_compromised_since(p_parts devices.envelope_parts)
RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN said.since > greatest(now(), to_timestamp(p_parts.iat)) THEN 'infinity' ELSE least(said.since, now()) END
    FROM (SELECT to_timestamp((p_parts.body->>'compromised_since')::bigint) AS since) AS said
   WHERE said.since IS NOT NULL
$$;

-- Why a device cannot be revoked, or null. What the platform blocked, the platform alone unblocks.
CREATE FUNCTION devices.fn_revocation_refusal(p_device devices.registered_devices, p_since timestamptz)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN p_device.trust_level = 'blocked' THEN devices.fn_refusal('device_blocked')
    WHEN p_since = 'infinity' THEN devices.fn_refusal('malformed_body', 'compromised_since is in the future')
  END
$$;

-- Revokes a device of the session's account, for ever; its name becomes free. When it returns, no claim of the device
-- is in flight and none succeeds any more (law 7). With a date since when others knew its key, also of a device that was
-- revoked before, what it attested since loses its trust (trust.md, rule 8); without, nothing that it attested changes.
CREATE FUNCTION devices.fn_device_revoke(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'revoke', true);
  v_since timestamptz;
  v_own record;
  v_device devices.registered_devices;
  v_refusal jsonb;
  v_is_settled boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  v_since := devices.fn_compromised_since(v_request.parts);
  v_refusal := devices.fn_revocation_refusal(NULL, v_since);
  IF v_refusal IS NULL THEN
    SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
    v_device := v_own.device;
    v_refusal := coalesce(v_own.refusal, devices.fn_revocation_refusal(v_device, v_since));
  END IF;
  v_is_settled := devices.fn_is_settled(v_request, v_device);
  IF v_refusal IS NULL AND v_device.trust_level = 'revoked' AND NOT v_is_settled THEN
    v_refusal := devices.fn_dating_limit(v_device.id);
  END IF;
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_commit_restriction(v_request, NULL, v_refusal, false);
  END IF;
  IF v_device.trust_level <> 'revoked' THEN
    UPDATE devices.registered_devices
       SET trust_level = 'revoked', trust_actor = 'owner',
           trust_reason = coalesce((v_request.parts).body->>'reason', 'revoked by its owner')
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  IF v_since IS NOT NULL AND NOT v_is_settled THEN
    INSERT INTO devices.compromises (device_id, kind, since, reason)
    VALUES (v_device.id, 'revoked', v_since, coalesce((v_request.parts).body->>'reason', v_device.trust_reason, 'revoked by its owner'));
  END IF;
  RETURN devices.fn_commit_restriction(v_request, v_device.id, devices.fn_ok(jsonb_build_object(
    'device_id', v_device.id,
    'name', v_device.name,
    'trust_level', v_device.trust_level,
    'revoked_at', devices.fn_unix(v_device.revoked_at))
    || jsonb_strip_nulls(jsonb_build_object('compromised_since', devices.fn_unix(v_since)))), NOT v_is_settled);
END
$$;
