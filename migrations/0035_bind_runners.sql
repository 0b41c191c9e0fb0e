-- RH-1: a runner of an account is bound to exactly one of its devices at a time.
SET LOCAL ROLE ltg_owner;

-- Why a runner cannot be bound to a device in its state, or null. `offline` is advisory: the level that it keeps counts.
CREATE FUNCTION execution.fn_binding_refusal(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE p_device.trust_level
    WHEN 'pending' THEN devices.fn_refusal('device_pending')
    WHEN 'unhealthy' THEN devices.fn_refusal('device_unhealthy')
    WHEN 'revoked' THEN devices.fn_refusal('device_revoked')
    WHEN 'blocked' THEN devices.fn_refusal('device_blocked')
  END
$$;

-- Binds the named runner, made where it does not exist, to a device of the account; its former binding ends. Binding
-- again to the same device leaves the binding as it is: ending it would cost runs in flight their level. The result says what that
-- changed: the runner is new to its device (bound), was there already (unchanged), or was taken from the former one (moved).
CREATE FUNCTION execution.fn_runner_bind(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'runner_bind', true);
  v_name text := (v_request.parts).body->>'name';
  v_own record;
  v_device devices.registered_devices;
  v_refusal jsonb;
  v_runner uuid;
  v_former uuid;
  v_change text;
  v_binding uuid;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_own FROM devices.fn_lock_own_device(v_request);
  v_device := v_own.device;
  v_refusal := v_own.refusal;
  v_refusal := coalesce(v_refusal, execution.fn_binding_refusal(v_device));
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;

  INSERT INTO execution.runners (lenser_id, name) VALUES (v_request.lenser_id, v_name)
  ON CONFLICT (lenser_id, name) DO NOTHING;
  SELECT id INTO STRICT v_runner FROM execution.runners
   WHERE lenser_id = v_request.lenser_id AND name = v_name FOR UPDATE;
  UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = now()
   WHERE runner_id = v_runner AND status = 'active' AND device_id <> v_device.id
  RETURNING device_id INTO v_former;
  SELECT id INTO v_binding FROM execution.runner_device_bindings
   WHERE runner_id = v_runner AND status = 'active';
  v_change := CASE WHEN v_binding IS NOT NULL THEN 'unchanged' WHEN v_former IS NULL THEN 'bound' ELSE 'moved' END;
  IF v_binding IS NULL THEN
    INSERT INTO execution.runner_device_bindings (runner_id, device_id, status)
    VALUES (v_runner, v_device.id, 'active')
    RETURNING id INTO v_binding;
  END IF;
  RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, v_device.id, devices.fn_ok(jsonb_build_object(
    'runner_id', v_runner,
    'binding_id', v_binding,
    'name', v_name,
    'device_id', v_device.id,
    'change', v_change,
    'former_device_id', v_former,
    'former_device_name', (SELECT d.name FROM devices.registered_devices d WHERE d.id = v_former))));
END
$$;
