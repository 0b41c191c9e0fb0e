-- What an account or a device may ask of itself. No operations: the newest answer wins, nothing is stored.
SET LOCAL ROLE ltg_owner;

-- What an owner weighs before a device works again: which key it has since when, since when it is unhealthy, and whether
-- its key was replaced meanwhile, which whoever holds it may do. Times are Unix seconds.
CREATE FUNCTION devices.fn_show_key(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_since timestamptz := (
    SELECT k.since FROM devices.device_keys k WHERE k.device_id = p_device.id AND k.number = p_device.key_number);
BEGIN
  RETURN jsonb_build_object(
    'key_number', p_device.key_number,
    'key_changed_at', devices.fn_unix(v_since),
    'unhealthy_since', devices.fn_unix(p_device.unhealthy_since),
    'key_changed_while_unhealthy', coalesce(v_since > p_device.unhealthy_since, false));
END
$$;

-- How a device is shown to its owner. Times are Unix seconds.
CREATE FUNCTION devices.fn_show_device(p_device devices.registered_devices)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'device_id', p_device.id,
    'name', p_device.name,
    'device_type', p_device.device_type,
    'os', p_device.os,
    'trust_level', p_device.trust_level,
    'trust_reason', p_device.trust_reason,
    'fingerprint', devices.fn_fingerprint(coalesce(p_device.public_key, p_device.submitted_public_key)),
    'key_expires_at', devices.fn_unix(p_device.key_expires_at),
    'former_key_until', CASE WHEN p_device.former_key_until > now() THEN devices.fn_unix(p_device.former_key_until) END,
    'legacy', p_device.is_legacy,
    'challenge_verified', p_device.challenge_verified_at IS NOT NULL,
    'last_heartbeat_at', devices.fn_unix(p_device.last_heartbeat_at),
    'daemon_version', p_device.daemon_version,
    'gateway_status', p_device.gateway_status,
    'created_at', devices.fn_unix(p_device.created_at)) || devices.fn_show_key(p_device)
$$;

-- The account's devices, living ones first, newest first: as many as fit into an answer of 192 KiB. `more` says that there
-- are others.
CREATE FUNCTION devices.fn_device_list(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_rows CONSTANT int := 1000;
  v_request devices.request := devices.fn_request_open(p_envelope, 'list', false);
  v_trust text := (v_request.parts).body->>'trust';
  v_devices jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  WITH own AS (
    SELECT devices.fn_show_device(device) AS shown,
           row_number() OVER (ORDER BY device.trust_level = 'revoked', device.created_at DESC, device.id) AS place
      FROM devices.registered_devices AS device
     WHERE device.lenser_id = v_request.lenser_id
       AND (v_trust IS NULL OR device.trust_level = v_trust)
     ORDER BY place
     LIMIT c_most_rows
  ), measured AS (
    SELECT shown, place, sum(octet_length(shown::text)) OVER (ORDER BY place) <= c_most_bytes AS fits FROM own
  )
  SELECT coalesce(jsonb_agg(shown ORDER BY place) FILTER (WHERE fits), '[]'),
         coalesce(NOT bool_and(fits), false) OR count(*) = c_most_rows
    INTO v_devices, v_more
    FROM measured;
  RETURN devices.fn_ok(jsonb_build_object('devices', v_devices, 'more', v_more));
END
$$;

-- Whether an account's owner keeps its daemons from working.
CREATE FUNCTION agents.fn_is_paused(p_lenser uuid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((SELECT settings.runner_paused FROM agents.workspace_settings AS settings
                    WHERE settings.lenser_id = p_lenser), false)
$$;

-- What the gateway knows of the signer, a device or a session. A device in any state may ask: nobody is refused without
-- a word.
CREATE FUNCTION devices.fn_status(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_read(p_envelope, 'status', false);
  v_device devices.registered_devices;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_device FROM devices.registered_devices WHERE id = (v_request.parts).kid;
  IF FOUND THEN
    RETURN devices.fn_ok(devices.fn_show_device(v_device) || jsonb_build_object(
      'signer', 'device',
      'lenser_id', v_device.lenser_id,
      'paused', agents.fn_is_paused(v_device.lenser_id),
      'time', devices.fn_unix(now())));
  END IF;
  v_request := devices.fn_request_open(p_envelope, 'status', false);
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  RETURN (
    SELECT devices.fn_ok(jsonb_build_object(
      'signer', 'session',
      'session', session.kid,
      'lenser_id', session.lenser_id,
      'kind', CASE session.scope WHEN 'owner' THEN 'sign-in' ELSE 'api_key' END,
      'name', session.name,
      'machine', session.machine,
      'scope', session.scope,
      'expires_at', devices.fn_unix(session.expires_at),
      'devices', (SELECT count(*) FROM devices.registered_devices
                   WHERE lenser_id = session.lenser_id AND revoked_at IS NULL),
      'paused', agents.fn_is_paused(session.lenser_id),
      'time', devices.fn_unix(now())))
      FROM lensers.sessions AS session
     WHERE session.kid = (v_request.parts).kid);
END
$$;

-- Verifies the account's own chain (AU-4).
CREATE FUNCTION audit.fn_audit_verify(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'audit_verify', false);
  v_kind text := (v_request.parts).body->>'chain_kind';
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  RETURN (
    SELECT devices.fn_ok(jsonb_build_object(
      'chain_kind', v_kind,
      'intact', verdict.ok,
      'entries', verdict.entries,
      'first_bad_index', verdict.first_bad_index,
      'reason', verdict.reason))
      FROM audit.fn_chain_check(v_request.lenser_id, v_kind) AS verdict);
END
$$;
