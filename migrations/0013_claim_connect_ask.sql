-- The two doors that have no redeliveries: a nonce there is good for one message alone.
SET LOCAL ROLE ltg_owner;

-- The state of a signer as the two doors judge it, its row locked against change until the transaction ends.
CREATE TYPE devices.claim_signer AS (
  signer text,
  lenser_id uuid,
  public_key bytea,
  trust_level text,
  is_over boolean,
  -- Of a session.
  scope text,
  -- Of a device.
  key_number integer,
  key_expires_at timestamptz,
  is_key_over boolean
);

-- Who signs under that kid: a device, a session, or a session key that nobody vouched for yet (`unknown`).
CREATE FUNCTION devices.fn_claim_signer(p_kid uuid) RETURNS devices.claim_signer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_signer devices.claim_signer;
BEGIN
  -- Waits for a change of trust level in flight; the next statement then sees it (law 7).
  PERFORM FROM devices.registered_devices AS d WHERE d.id = p_kid FOR KEY SHARE;
  IF FOUND THEN
    SELECT 'device', d.lenser_id, coalesce(d.public_key, d.submitted_public_key), d.trust_level, false, NULL,
           d.key_number, d.key_expires_at, coalesce(d.key_expires_at <= clock_timestamp(), false)
      INTO v_signer
      FROM devices.registered_devices AS d WHERE d.id = p_kid;
    RETURN v_signer;
  END IF;
  PERFORM FROM lensers.sessions AS s WHERE s.kid = p_kid FOR SHARE;
  IF FOUND THEN
    SELECT 'session', s.lenser_id, s.public_key, NULL, s.revoked_at IS NOT NULL OR s.expires_at <= clock_timestamp(), s.scope,
           NULL, NULL, false
      INTO v_signer
      FROM lensers.sessions AS s WHERE s.kid = p_kid;
    RETURN v_signer;
  END IF;
  v_signer.signer := 'unknown';
  RETURN v_signer;
END
$$;

-- The verdict on the signer's state for one kind at one door: 'ok' or a reason code.
CREATE FUNCTION devices.fn_claim_state_verdict(p_signer devices.claim_signer, p_door text, p_kind text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_signer.signer = 'session' THEN
    -- Signing in anew is what an ended session is told to do.
    RETURN CASE
      -- An API key signs nobody in.
      WHEN p_kind = 'login' AND p_signer.scope <> 'owner' THEN 'not_permitted'
      WHEN p_kind = 'login' THEN 'ok'
      WHEN p_signer.is_over THEN 'session_expired'
      WHEN p_door = 'connect'
        OR EXISTS (SELECT FROM devices.session_kinds AS k WHERE k.kind = p_kind AND k.scope = p_signer.scope) THEN 'ok'
      -- What no session may ask, or what an API key may not.
      WHEN p_signer.scope = 'owner' THEN 'unsupported_kind'
      ELSE 'not_permitted'
    END;
  END IF;
  -- Any key may connect; what it may do there follows from its state, which the caller is told.
  IF p_signer.signer = 'unknown' OR p_door = 'connect' THEN
    RETURN 'ok';
  END IF;
  PERFORM FROM devices.kind_states AS k WHERE k.kind = p_kind AND k.trust_level = p_signer.trust_level;
  IF FOUND THEN
    PERFORM FROM devices.kind_states AS k WHERE k.kind = p_kind AND k.trust_level = 'unhealthy';
    RETURN CASE WHEN p_signer.is_key_over AND NOT FOUND THEN 'key_expired' ELSE 'ok' END;
  END IF;
  -- An owner's request is no device's to make, in whatever state.
  IF p_signer.trust_level IN ('approved', 'trusted', 'offline')
     OR NOT EXISTS (SELECT FROM devices.kind_states AS k WHERE k.kind = p_kind) THEN
    RETURN 'unsupported_kind';
  END IF;
  RETURN 'device_' || p_signer.trust_level;
END
$$;

-- Claims one message at a door without redeliveries. p_claim: {kid, kind, nonce, iat, digest, public_key}, the last two
-- base64url, public_key being the key that the service checked the signature with. iat is judged by the database's clock.
-- Returns {verdict, signer, lenser_id, trust_level, key_number, key_expired, key_seconds_left, scope, time}; verdict is 'ok', a
-- reason code, or 'key_changed' (check again). What is left of a device's key is in whole seconds, 1 at least: its reader's clock
-- is another. Null where the key is over or has no end.
CREATE FUNCTION devices.fn_claim_once(p_door text, p_claim jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_kid uuid := p_claim ->> 'kid';
  v_kind text := p_claim ->> 'kind';
  v_nonce text := p_claim ->> 'nonce';
  v_iat bigint := p_claim ->> 'iat';
  v_digest bytea := devices.fn_b64url_decode(p_claim ->> 'digest');
  v_key bytea := devices.fn_b64url_decode(p_claim ->> 'public_key');
  v_signer devices.claim_signer;
  v_now numeric;
  v_verdict text;
BEGIN
  v_signer := devices.fn_claim_signer(v_kid);
  PERFORM devices.fn_claim_lock_nonces(ARRAY[v_kid], ARRAY[v_nonce]);
  v_now := extract(epoch FROM clock_timestamp());

  v_verdict := CASE
    WHEN v_signer.signer = 'unknown' AND (
           (p_door <> 'connect' AND v_kind <> 'login') OR v_kid <> devices.fn_kid_of_key(v_key)
         ) THEN 'unknown_session'
    WHEN v_signer.signer <> 'unknown' AND v_signer.public_key IS DISTINCT FROM v_key THEN 'key_changed'
    WHEN abs(v_iat - v_now) > devices.fn_limit('iatWindowSeconds') THEN 'iat_window'
    ELSE devices.fn_claim_state_verdict(v_signer, p_door, v_kind)
  END;
  IF v_verdict NOT IN ('unknown_session', 'key_changed') THEN
    INSERT INTO devices.envelope_claims (kid, nonce, iat, door, kind, digest, verdict, lenser_id, trust_level, key_number)
    SELECT v_kid, v_nonce, v_iat, p_door, v_kind, v_digest, v_verdict, v_signer.lenser_id, v_signer.trust_level,
           v_signer.key_number
     WHERE NOT EXISTS (SELECT FROM devices.envelope_claims AS c WHERE c.kid = v_kid AND c.nonce = v_nonce);
    IF NOT FOUND AND v_verdict = 'ok' THEN
      v_verdict := 'nonce_replay';
    END IF;
  END IF;
  RETURN jsonb_build_object('verdict', v_verdict, 'signer', v_signer.signer, 'lenser_id', v_signer.lenser_id,
    'trust_level', v_signer.trust_level, 'key_number', v_signer.key_number,
    'key_expired', coalesce(v_signer.is_key_over, false),
    'key_seconds_left', CASE WHEN NOT v_signer.is_key_over
                             THEN greatest(1, ceil(extract(epoch FROM v_signer.key_expires_at) - v_now)) END,
    'scope', v_signer.scope, 'time', floor(v_now));
END
$$;

-- The door of connections (auth callout). p_claim says beside the rest which connection it is: {server_id, client_id}, as the
-- server does.
CREATE FUNCTION devices.fn_claim_connect(p_claim jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_claimed jsonb := devices.fn_claim_once('connect', p_claim);
BEGIN
  -- A key that nobody vouched for reaches its login alone, and not for long.
  IF v_claimed ->> 'signer' <> 'unknown' AND v_claimed ->> 'verdict' NOT IN ('nonce_replay', 'unknown_session', 'key_changed') THEN
    PERFORM devices.fn_admit(p_claim, v_claimed);
  END IF;
  RETURN v_claimed;
END
$$;

-- The door of requests that are asked again if unanswered.
CREATE FUNCTION devices.fn_claim_ask(p_claim jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN devices.fn_claim_once('ask', p_claim);
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_claim_connect(jsonb) TO ltg_broker_auth;
GRANT EXECUTE ON FUNCTION devices.fn_claim_ask(jsonb) TO ltg_registrar;
