-- The platform's own measure against abuse: no owner and no worker has these functions.
SET LOCAL ROLE ltg_owner;

-- Locks the device that the platform names. A measure of weight is taken for a reason that the record keeps.
CREATE FUNCTION devices.fn_lock_for_platform(p_device_id uuid, p_reason text) RETURNS devices.registered_devices
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF btrim(p_reason) = '' OR char_length(p_reason) > 200 IS NOT FALSE THEN
    RAISE EXCEPTION 'a reason of 1 to 200 characters is needed' USING ERRCODE = '22023';
  END IF;
  -- fn_lock_device is for devices that exist.
  PERFORM FROM devices.registered_devices d WHERE d.id = p_device_id;
  RETURN CASE WHEN FOUND THEN devices.fn_lock_device(p_device_id) END;
END
$$;

-- Blocks a device, whatever it is. When it returns, no claim of the device is in flight and none succeeds (law 7).
CREATE FUNCTION devices.fn_device_block(p_device_id uuid, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_device devices.registered_devices := devices.fn_lock_for_platform(p_device_id, p_reason);
BEGIN
  IF v_device.id IS NULL THEN
    RETURN devices.fn_refusal('device_not_found');
  END IF;
  IF v_device.trust_level <> 'blocked' THEN
    UPDATE devices.registered_devices
       SET trust_level = 'blocked', trust_actor = 'platform', trust_reason = 'blocked by the platform: ' || p_reason
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  RETURN devices.fn_ok(jsonb_build_object('device_id', v_device.id, 'trust_level', v_device.trust_level));
END
$$;

-- Gives a blocked device back the level that it was blocked at, and what was said of it then: one that two machines
-- share the key of is still that.
CREATE FUNCTION devices.fn_device_unblock(p_device_id uuid, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_device devices.registered_devices := devices.fn_lock_for_platform(p_device_id, p_reason);
BEGIN
  IF v_device.id IS NULL THEN
    RETURN devices.fn_refusal('device_not_found');
  END IF;
  IF v_device.trust_level = 'blocked' THEN
    UPDATE devices.registered_devices
       SET trust_level = earlier_level, trust_actor = 'platform', trust_reason = 'unblocked by the platform: ' || p_reason
     WHERE id = v_device.id;
    -- The chain has why it was unblocked; the row says why it is what it is.
    UPDATE devices.registered_devices
       SET trust_reason = v_device.earlier_reason
     WHERE id = v_device.id
    RETURNING * INTO v_device;
  END IF;
  RETURN devices.fn_ok(jsonb_build_object('device_id', v_device.id, 'trust_level', v_device.trust_level));
END
$$;

GRANT USAGE ON SCHEMA devices TO service_role;
GRANT EXECUTE ON FUNCTION devices.fn_device_block(uuid, text), devices.fn_device_unblock(uuid, text) TO service_role;
