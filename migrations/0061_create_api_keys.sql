-- API keys: sessions that an owner vouches for, by name and with a scope of their own. The key that signs is derived from the
-- API key where that was made; only its public half is ever here.
SET LOCAL ROLE ltg_owner;

-- Why the account cannot have an API key of that name now, or null. Its row must be locked: it counts without a race.
CREATE FUNCTION lensers.fn_api_key_refusal(p_lenser uuid, p_name text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_names text[] := ARRAY(
    SELECT s.name FROM lensers.sessions AS s
     WHERE s.lenser_id = p_lenser AND s.name IS NOT NULL AND s.revoked_at IS NULL AND s.expires_at > now());
BEGIN
  RETURN CASE
    WHEN p_name = ANY (v_names) THEN devices.fn_refusal('api_key_name_taken')
    WHEN cardinality(v_names) >= devices.fn_limit('apiKeysPerLenser') THEN devices.fn_refusal('api_key_limit')
  END;
END
$$;

-- Makes an API key of the session's account. The name of one that ended is free again.
CREATE FUNCTION lensers.fn_api_key_create(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'api_key_create', true);
  v_body jsonb := (v_request.parts).body;
  v_days bigint;
  v_key bytea;
  v_outcome jsonb;
  v_session lensers.sessions;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- One of an account at a time: names and the limit are counted without a race.
  PERFORM FROM lensers.profiles WHERE id = v_request.lenser_id FOR NO KEY UPDATE;
  v_days := v_body->>'expires_in_days';
  v_key := devices.fn_b64url_decode(v_body->>'public_key');
  v_outcome := CASE
    WHEN v_days NOT BETWEEN 1 AND devices.fn_limit('apiKeyMaxDays') THEN devices.fn_refusal('malformed_body')
    ELSE lensers.fn_api_key_refusal(v_request.lenser_id, v_body->>'name')
  END;
  IF v_outcome IS NULL THEN
    INSERT INTO lensers.sessions (kid, public_key, lenser_id, scope, name, expires_at)
    VALUES (devices.fn_kid_of_key(v_key), v_key, v_request.lenser_id,
            CASE WHEN (v_body->>'may_approve')::boolean THEN 'api_approver' ELSE 'api' END,
            v_body->>'name', now() + make_interval(days => v_days::int))
    ON CONFLICT (kid) DO NOTHING
    RETURNING * INTO v_session;
    -- A key names one session: nobody makes another's session, or an ended key, into an API key.
    v_outcome := CASE
      WHEN v_session.kid IS NULL THEN devices.fn_refusal('malformed_body', 'that key is in use: make a fresh one')
      ELSE devices.fn_ok(lensers.fn_show_session(v_session))
    END;
  END IF;
  RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_outcome);
END
$$;

GRANT EXECUTE ON FUNCTION lensers.fn_api_key_create(text) TO ltg_registrar;
