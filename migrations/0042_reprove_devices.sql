-- The owner's word on a device's key: another one at once, or a rotation within a time.
SET LOCAL ROLE ltg_owner;

-- Why the key of a device cannot be the owner's business now, or null.
CREATE FUNCTION devices.fn_key_change_refusal(p_device devices.registered_devices) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN p_device.trust_level IN ('pending', 'revoked', 'blocked')
      THEN devices.fn_refusal(concat('device_', p_device.trust_level))
    WHEN p_device.public_key IS NULL THEN devices.fn_refusal('invalid_transition', 'the device has no key')
  END
$$;

-- The owner vouches for another key of a device of theirs, whose proof the registrar has checked. The key before is dead at once,
-- whatever is still under way; an unhealthy device is again what it was. When it returns, no claim under the old key is in flight
-- and none succeeds any more.
CREATE FUNCTION devices.fn_device_reprove(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'reprove', true);
  v_new bytea;
  v_own record;
  v_before devices.registered_devices;
  v_after devices.registered_devices;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  v_new := devices.fn_b64url_decode((v_request.parts).body ->> 'new_public_key');
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_before := v_own.device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(
    v_refusal, devices.fn_key_change_refusal(v_before), devices.fn_key_limit(v_before.id, 'reproved'),
    devices.fn_new_key_refusal(v_new));
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  IF v_before.trust_level = 'unhealthy' THEN
    UPDATE devices.registered_devices
       SET public_key = v_new, key_number = key_number + 1, former_public_key = NULL, former_key_until = NULL,
           trust_level = earlier_level, trust_reason = 'reproved by its owner', trust_actor = 'owner'
     WHERE id = v_before.id
    RETURNING * INTO v_after;
  ELSE
    UPDATE devices.registered_devices
       SET public_key = v_new, key_number = key_number + 1, former_public_key = NULL, former_key_until = NULL
     WHERE id = v_before.id
    RETURNING * INTO v_after;
  END IF;
  RETURN devices.fn_operation_commit(v_request.parts, v_after.lenser_id, v_after.id, devices.fn_ok(
    devices.fn_changed_key(v_before, v_after) || jsonb_build_object('name', v_after.name, 'trust_level', v_after.trust_level)));
END
$$;

-- The owner brings the end of a device's key forward, never back: its daemon learns it with the next heartbeat and rotates.
CREATE FUNCTION devices.fn_device_rotation_require(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'rotation_require', true);
  v_within interval;
  v_own record;
  v_device devices.registered_devices;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  v_within := ((v_request.parts).body ->> 'within_seconds')::integer * interval '1 second';
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_device := v_own.device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(v_refusal, devices.fn_key_change_refusal(v_device));
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  UPDATE devices.registered_devices SET key_expires_at = least(key_expires_at, clock_timestamp() + v_within)
   WHERE id = v_device.id
  RETURNING * INTO v_device;
  RETURN devices.fn_operation_commit(v_request.parts, v_device.lenser_id, v_device.id, devices.fn_ok(jsonb_build_object(
    'device_id', v_device.id,
    'name', v_device.name,
    'trust_level', v_device.trust_level,
    'key_number', v_device.key_number,
    'fingerprint', devices.fn_fingerprint(v_device.public_key),
    'key_expires_at', devices.fn_unix(v_device.key_expires_at))));
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_device_reprove(text), devices.fn_device_rotation_require(text) TO ltg_registrar;
