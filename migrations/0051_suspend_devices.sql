-- The owner takes a device out of work and lets it back in: unlike a revoked one, it may prove itself again.
SET LOCAL ROLE ltg_owner;

-- Why a device is neither suspended nor reinstated in its state, or null.
CREATE FUNCTION devices.fn_suspension_refusal(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE p_device.trust_level
    WHEN 'pending' THEN devices.fn_refusal('device_pending')
    WHEN 'revoked' THEN devices.fn_refusal('device_revoked')
    WHEN 'blocked' THEN devices.fn_refusal('device_blocked')
  END
$$;

-- What a suspension or its end came to. p_before: the device as it was, so that whoever ends a suspension is told what
-- happened in it.
CREATE FUNCTION devices.fn_suspension_outcome(p_before devices.registered_devices, p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN devices.fn_ok(jsonb_build_object(
    'device_id', p_device.id,
    'name', p_device.name,
    'trust_level', p_device.trust_level,
    'trust_reason', p_device.trust_reason,
    'former_reason', CASE WHEN p_before.trust_level <> p_device.trust_level THEN p_before.trust_reason END)
    || devices.fn_show_key(p_before));
END
$$;

-- Makes a device of the session's account unhealthy. When it returns, no claim of the device that the level forbids is in
-- flight, and none succeeds (law 7). One that is unhealthy already keeps the reason that it has.
CREATE FUNCTION devices.fn_device_suspend(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'suspend', true);
  v_own record;
  v_device devices.registered_devices;
  v_refusal jsonb;
  v_is_settled boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_device := v_own.device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(v_refusal, devices.fn_suspension_refusal(v_device));
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_commit_restriction(v_request, NULL, v_refusal, false);
  END IF;
  v_is_settled := devices.fn_is_settled(v_request, v_device);
  IF NOT v_is_settled THEN
    UPDATE devices.registered_devices
       SET trust_level = 'unhealthy', trust_actor = 'owner',
           trust_reason = concat_ws(': ', 'suspended by its owner', (v_request.parts).body->>'reason')
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  RETURN devices.fn_commit_restriction(
    v_request, v_device.id, devices.fn_suspension_outcome(v_device, v_device), NOT v_is_settled);
END
$$;

-- The level that an unhealthy device returns to: the one that it left, or `offline`, which keeps that one, where nothing was
-- heard of it for so long that it would be offline by now.
CREATE FUNCTION devices.fn_reinstated_level(p_device devices.registered_devices)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN devices.fn_is_silent(p_device) THEN 'offline' ELSE p_device.earlier_level END
$$;

-- Why a device is not reinstated in its state, or null: one whose key two machines know has to have another.
CREATE FUNCTION devices.fn_reinstatement_refusal(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(devices.fn_suspension_refusal(p_device), CASE
    WHEN p_device.trust_level = 'unhealthy' AND p_device.trust_reason = 'identity_forked'
      THEN devices.fn_refusal('reprove_needed')
  END)
$$;

-- Clears an unhealthy device of the session's account. Not one whose key two machines know: with that key, either of them
-- would be trusted again, so its owner replaces it (`reprove`). Nor one whose key is another by now than its owner was shown.
CREATE FUNCTION devices.fn_device_reinstate(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'reinstate', true);
  v_own record;
  v_device devices.registered_devices;
  v_before devices.registered_devices;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_device := v_own.device;
  v_before := v_device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(v_refusal, devices.fn_reinstatement_refusal(v_device));
  IF v_refusal IS NULL AND (v_request.parts).body->>'key_number' <> v_device.key_number::text THEN
    v_refusal := devices.fn_refusal('device_key_changed');
  END IF;
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  IF v_device.trust_level = 'unhealthy' THEN
    UPDATE devices.registered_devices
       SET trust_level = devices.fn_reinstated_level(v_device), trust_reason = 'reinstated by its owner', trust_actor = 'owner'
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  RETURN devices.fn_operation_commit(
    v_request.parts, v_device.lenser_id, v_device.id, devices.fn_suspension_outcome(v_before, v_device));
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_device_suspend(text), devices.fn_device_reinstate(text) TO ltg_registrar;
