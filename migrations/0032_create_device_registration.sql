-- RFC-0003 §5, first half: a device is registered with its key and answers a challenge signed by it.
SET LOCAL ROLE ltg_owner;

-- 16 bytes that nobody can guess; two random UUIDs hold 244 random bits.
CREATE FUNCTION devices.fn_new_challenge()
RETURNS bytea
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16)
$$;

-- The key that answered the challenge is the key that is approved: it never changes under way.
CREATE FUNCTION devices.fn_guard_submitted_key()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'a device keeps the key that it was registered with' USING ERRCODE = 'LT003';
END
$$;
CREATE TRIGGER guard_submitted_key BEFORE UPDATE ON devices.registered_devices
  FOR EACH ROW WHEN (OLD.submitted_public_key IS DISTINCT FROM NEW.submitted_public_key)
  EXECUTE FUNCTION devices.fn_guard_submitted_key();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER guard_submitted_key;

-- Why a device of that name cannot be registered now, or null. A pending device whose challenge expired unanswered can
-- never be approved: it gives way, so that registering again works as `challenge_expired` says.
CREATE FUNCTION devices.fn_registration_refusal(p_lenser uuid, p_name text)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE devices.registered_devices
     SET trust_level = 'revoked', trust_reason = 'challenge expired; registered anew', trust_actor = 'owner'
   WHERE lenser_id = p_lenser AND name = p_name AND trust_level = 'pending'
     AND challenge_verified_at IS NULL AND challenge_expires_at <= now();
  IF EXISTS (SELECT FROM devices.registered_devices
              WHERE lenser_id = p_lenser AND name = p_name AND revoked_at IS NULL) THEN
    RETURN devices.fn_refusal('device_name_taken');
  ELSIF (SELECT count(*) FROM devices.registered_devices WHERE lenser_id = p_lenser AND revoked_at IS NULL)
        >= devices.fn_limit('devicesPerLenser') THEN
    RETURN devices.fn_refusal('device_limit');
  END IF;
  RETURN NULL;
END
$$;

-- Registers a device of the session's account (DR-1, DR-3); it starts pending (DR-2) with a challenge to answer.
CREATE FUNCTION devices.fn_device_register_with_key(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'register', true);
  v_parts devices.envelope_parts := v_request.parts;
  v_body jsonb := v_parts.body;
  v_refusal jsonb;
  v_device devices.registered_devices;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- One registration of an account at a time: names and the limit are counted without a race.
  PERFORM FROM lensers.profiles WHERE id = v_request.lenser_id FOR NO KEY UPDATE;
  v_refusal := devices.fn_registration_refusal(v_request.lenser_id, v_body->>'name');
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  INSERT INTO devices.registered_devices
    (lenser_id, name, device_type, os, capabilities, submitted_public_key, trust_level, challenge, challenge_expires_at)
  VALUES
    (v_request.lenser_id, v_body->>'name', v_body->>'device_type', v_body->>'os', v_body->'capabilities',
     devices.fn_b64url_decode(v_body->>'public_key'), 'pending', devices.fn_new_challenge(),
     now() + make_interval(secs => devices.fn_limit('challengeSeconds')))
  RETURNING * INTO v_device;
  RETURN devices.fn_operation_commit(v_parts, v_request.lenser_id, v_device.id, devices.fn_ok(jsonb_build_object(
    'device_id', v_device.id,
    'lenser_id', v_device.lenser_id,
    'name', v_device.name,
    'trust_level', v_device.trust_level,
    'challenge', devices.fn_b64url(v_device.challenge),
    'challenge_expires_at', devices.fn_unix(v_device.challenge_expires_at))));
END
$$;

-- What one answered challenge comes to (DA-1, DA-2); its device's row is locked. Judged by the time at which the broker
-- stored the answer, so that neither an outage nor a backlog makes it late.
CREATE FUNCTION devices.fn_apply_challenge(p_item devices.verified_item)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body jsonb := (p_item.parts).body;
  v_device devices.registered_devices;
  v_refusal jsonb;
BEGIN
  SELECT * INTO STRICT v_device FROM devices.registered_devices WHERE id = (p_item.parts).kid;
  v_refusal := coalesce(devices.fn_state_refusal('challenge', v_device.trust_level), CASE
    WHEN v_body->>'device_id' IS DISTINCT FROM v_device.id::text
      OR v_body->>'challenge' IS DISTINCT FROM devices.fn_b64url(v_device.challenge)
      THEN devices.fn_refusal('challenge_mismatch')
    WHEN v_device.challenge_verified_at IS NULL AND p_item.stored_at > v_device.challenge_expires_at
      THEN devices.fn_refusal('challenge_expired')
  END);
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  UPDATE devices.registered_devices
     SET challenge_verified_at = coalesce(challenge_verified_at, p_item.stored_at)
   WHERE id = v_device.id;
  RETURN devices.fn_ok(jsonb_build_object(
    'device_id', v_device.id, 'trust_level', v_device.trust_level, 'challenge_verified', true));
END
$$;

-- Applies answered challenges, each once. The caller has checked each signature against the submitted key (law 5).
CREATE FUNCTION devices.fn_device_post_challenge(p_envelopes text[])
RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'challenge', true));
  v_item devices.verified_item;
BEGIN
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := devices.fn_apply_challenge(v_item);
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT done.idx, done.outcome FROM devices.fn_commit_verified(v_items) AS done;
END
$$;
