-- A device replaces its key: the old one signs the operation, the new one proves itself in it (RFC-0003 §9).
SET LOCAL ROLE ltg_owner;

-- Why a key cannot become a device's, or null. Held until the transaction ends against whoever would take it at the same time.
CREATE FUNCTION devices.fn_new_key_refusal(p_key bytea) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('device key ' || encode(p_key, 'hex'), 0));
  PERFORM FROM devices.device_keys k WHERE k.public_key = p_key;
  IF FOUND THEN
    RETURN devices.fn_refusal('key_reused');
  END IF;
  RETURN NULL;
END
$$;

-- What a change of keys is told and audited as.
CREATE FUNCTION devices.fn_changed_key(p_before devices.registered_devices, p_after devices.registered_devices) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'device_id', p_after.id,
    'key_number', p_after.key_number,
    'public_key', devices.fn_b64url(p_after.public_key),
    'fingerprint', devices.fn_fingerprint(p_after.public_key),
    'former_fingerprint', devices.fn_fingerprint(p_before.public_key),
    'key_expires_at', devices.fn_unix(p_after.key_expires_at))
$$;

-- Why a rotation does not count in its device's state, or null. p_key is the key under which the registrar found both the
-- envelope's signature and the new key's proof good, null where it found none.
CREATE FUNCTION devices.fn_rotation_refusal(
  p_parts devices.envelope_parts, p_key bytea, p_device devices.registered_devices
) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(devices.fn_state_refusal('rotate', p_device.trust_level), CASE
    -- Both of the two who hold the key could replace it: the owner alone says which of them goes on.
    WHEN p_device.trust_level = 'unhealthy' AND p_device.trust_reason = 'identity_forked'
      THEN devices.fn_refusal('identity_forked')
    WHEN p_key IS NULL OR p_parts.body ->> 'device_id' IS DISTINCT FROM p_device.id::text
      THEN devices.fn_refusal('proof_mismatch')
  END);
END
$$;

-- Whether anything may come of a rotation; its device's row is not locked.
CREATE FUNCTION devices.fn_may_rotate(p_parts devices.envelope_parts, p_key bytea) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_device devices.registered_devices;
BEGIN
  SELECT * INTO v_device FROM devices.registered_devices WHERE id = p_parts.kid AND public_key = p_key;
  RETURN FOUND AND devices.fn_rotation_refusal(p_parts, p_key, v_device) IS NULL
    AND devices.fn_key_limit(v_device.id, 'rotated') IS NULL
    AND NOT EXISTS (SELECT FROM devices.device_keys k
                     WHERE k.public_key = devices.fn_b64url_decode(p_parts.body ->> 'new_public_key'));
END
$$;

-- What one rotation comes to. Null where its key was replaced since, or where its device's row is not locked though it may
-- count by now: judge again.
CREATE FUNCTION devices.fn_apply_rotation(p_item devices.verified_item, p_key bytea, p_is_locked boolean) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_new bytea := devices.fn_b64url_decode((p_item.parts).body ->> 'new_public_key');
  v_before devices.registered_devices;
  v_after devices.registered_devices;
  v_refusal jsonb;
BEGIN
  SELECT * INTO STRICT v_before FROM devices.registered_devices WHERE id = (p_item.parts).kid;
  v_refusal := devices.fn_rotation_refusal(p_item.parts, p_key, v_before);
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  ELSIF p_key <> v_before.public_key OR p_item.key_number <> v_before.key_number THEN
    RETURN NULL;
  END IF;
  v_refusal := coalesce(devices.fn_key_limit(v_before.id, 'rotated'), devices.fn_new_key_refusal(v_new));
  IF v_refusal IS NOT NULL OR NOT p_is_locked THEN
    RETURN v_refusal;
  END IF;
  UPDATE devices.registered_devices
     SET public_key = v_new, key_number = key_number + 1, former_public_key = public_key,
         -- What the old key may not have signed any more, it does not get back.
         former_key_until = least(
           clock_timestamp() + devices.fn_limit('keyOverlapSeconds') * interval '1 second', key_expires_at)
   WHERE id = v_before.id
  RETURNING * INTO v_after;
  RETURN devices.fn_ok(devices.fn_changed_key(v_before, v_after));
END
$$;

-- Applies rotations, each once. p_keys (base64url, one an envelope) as above; outcome {"again": true} where the registrar is to
-- judge anew. When it returns, no claim under the old key is in flight, and none succeeds for what is stored after the overlap.
CREATE FUNCTION devices.fn_device_rotate(p_envelopes text[], p_keys text[])
RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_items devices.verified_item[];
  v_item devices.verified_item;
  v_locked uuid[];
BEGIN
  -- First, and as a revoke does: weaker locks that are strengthened wait for each other. Not where nothing can come of it:
  -- whoever sends that without end must not make everybody's claims wait.
  SELECT array_agg((devices.fn_lock_device(d.kid)).id) INTO v_locked
    FROM (SELECT DISTINCT r.kid
            FROM (SELECT (devices.fn_read_envelope(e.wire)).kid, devices.fn_may_rotate(
                    devices.fn_read_envelope(e.wire), devices.fn_b64url_decode(e.key)) AS may
                    FROM unnest(p_envelopes, p_keys) AS e (wire, key) WHERE e.key IS NOT NULL) AS r
           WHERE r.may ORDER BY 1) AS d;
  v_items := devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'rotate', true));
  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := devices.fn_apply_rotation(
      v_item, devices.fn_b64url_decode(p_keys[v_item.idx]), (v_item.parts).kid = ANY (coalesce(v_locked, '{}')));
    IF v_item.outcome IS NULL THEN
      v_item.step := 'again';
      v_item.outcome := jsonb_build_object('again', true);
    END IF;
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT done.idx, done.outcome FROM devices.fn_commit_verified(v_items) AS done ORDER BY done.idx;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_device_rotate(text[], text[]) TO ltg_registrar;
