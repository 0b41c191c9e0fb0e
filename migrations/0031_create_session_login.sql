-- Sessions: a verified owner token vouches for a session key; from then on the key speaks for the account.
SET LOCAL ROLE ltg_owner;

-- The account of an issuer's subject, made where there is none. `user_id` is what auth.uid() will say for its owner:
-- the subject of the one issuer that backs it, where that is a UUID, else a version-8 UUID made from issuer and subject:
-- whoever names another's UUID as subject elsewhere gets no row of theirs.
CREATE FUNCTION lensers.fn_profile_of(p_issuer text, p_subject text, p_backs_auth_uid boolean)
RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_derived uuid := devices.fn_kid_of_key(convert_to(p_issuer || E'\n' || p_subject, 'UTF8'));
  v_user uuid := CASE
    WHEN p_backs_auth_uid AND p_subject ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN p_subject::uuid
    ELSE v_derived END;
  v_lenser uuid;
BEGIN
  SELECT id INTO v_lenser FROM lensers.profiles WHERE issuer = p_issuer AND subject = p_subject;
  IF FOUND THEN
    RETURN v_lenser;
  END IF;
  -- Without a conflict target: another issuer's subject may be the same UUID, and must not share or seize its user_id.
  INSERT INTO lensers.profiles (user_id, issuer, subject) VALUES (v_user, p_issuer, p_subject) ON CONFLICT DO NOTHING;
  INSERT INTO lensers.profiles (user_id, issuer, subject)
  SELECT v_derived, p_issuer, p_subject
   WHERE NOT EXISTS (SELECT FROM lensers.profiles WHERE issuer = p_issuer AND subject = p_subject)
  ON CONFLICT DO NOTHING;
  -- A later statement sees the row of whoever was faster.
  SELECT id INTO STRICT v_lenser FROM lensers.profiles WHERE issuer = p_issuer AND subject = p_subject;
  RETURN v_lenser;
END
$$;

-- Whether this session key may present this token. One that names the key is its alone; any other is whose presents it
-- first, and stays so until it counts no more.
-- p_token: as fn_session_login takes it.
CREATE FUNCTION lensers.fn_take_token(p_parts devices.envelope_parts, p_token jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_signed text[] := string_to_array(p_parts.body->>'token', '.');
  v_digest bytea := sha256(convert_to(concat_ws('.', v_signed[1], v_signed[2]), 'UTF8'));
  v_kid uuid;
BEGIN
  IF p_token->'bound' IS NOT DISTINCT FROM 'true'::jsonb THEN
    RETURN true;
  END IF;
  INSERT INTO lensers.token_uses (issuer, digest, kid, expires_at)
  VALUES (p_token->>'issuer', v_digest, p_parts.kid, to_timestamp((p_token->>'expires_at')::bigint))
  ON CONFLICT DO NOTHING;
  -- A later statement sees the row of whoever was faster.
  SELECT kid INTO v_kid FROM lensers.token_uses WHERE issuer = p_token->>'issuer' AND digest = v_digest;
  RETURN coalesce(v_kid = p_parts.kid, false);
END
$$;

-- Forgets what no answer rests on any more: uses of tokens that count no more, and sessions that ended so long ago that no
-- result of theirs is kept. A login makes one of each at most and forgets more than that, so neither table grows for ever.
CREATE FUNCTION lensers.fn_forget_ended(p_most integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM lensers.token_uses WHERE (issuer, digest) IN (
    SELECT issuer, digest FROM lensers.token_uses WHERE expires_at <= now()
     ORDER BY expires_at LIMIT p_most FOR UPDATE SKIP LOCKED);
  DELETE FROM lensers.sessions WHERE kid IN (
    SELECT kid FROM lensers.sessions
     WHERE least(revoked_at, expires_at) < now() - make_interval(days => devices.fn_limit('operationKeepDays')::int)
     ORDER BY least(revoked_at, expires_at) LIMIT p_most FOR UPDATE SKIP LOCKED);
END
$$;

-- Registers the session key that signed the envelope for the account that the token names.
-- p_token: {issuer, subject, expires_at, bound?, backs_auth_uid?} of a token whose signature and audience were checked, `bound`
-- where it names this kid; or {refused} with the code of one that was not accepted: a login committed before keeps its result
-- all the same.
CREATE FUNCTION lensers.fn_session_login(p_envelope text, p_token jsonb)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_read(p_envelope, 'login', true);
  v_parts devices.envelope_parts := v_request.parts;
  v_key bytea;
  v_lenser uuid;
  v_session lensers.sessions;
  v_is_new boolean;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- Refused without an account to note it under: nothing is committed.
  IF p_token->>'refused' = 'token_not_bound' THEN
    RETURN devices.fn_refusal('token_not_bound');
  ELSIF (p_token->>'expires_at')::bigint > extract(epoch FROM now()) IS NOT TRUE
     OR coalesce(p_token->>'issuer', '') = '' OR coalesce(p_token->>'subject', '') = '' THEN
    RETURN devices.fn_refusal('token_invalid');
  END IF;
  v_key := devices.fn_b64url_decode(v_parts.body->>'public_key');
  IF octet_length(v_key) IS DISTINCT FROM 32 OR devices.fn_kid_of_key(v_key) <> v_parts.kid THEN
    RETURN devices.fn_refusal('kid_mismatch');
  END IF;
  IF NOT lensers.fn_take_token(v_parts, p_token) THEN
    RETURN devices.fn_refusal('token_not_bound');
  END IF;
  PERFORM lensers.fn_forget_ended(4);

  v_lenser := lensers.fn_profile_of(
    p_token->>'issuer', p_token->>'subject', p_token->'backs_auth_uid' IS NOT DISTINCT FROM 'true'::jsonb);
  INSERT INTO lensers.sessions (kid, public_key, lenser_id, machine, expires_at)
  VALUES (v_parts.kid, v_key, v_lenser, v_parts.body->>'machine', now() + make_interval(secs => devices.fn_limit('sessionSeconds')))
  ON CONFLICT (kid) DO NOTHING;
  v_is_new := FOUND;
  SELECT * INTO STRICT v_session FROM lensers.sessions WHERE kid = v_parts.kid FOR UPDATE;
  -- A key speaks for one account, one that was revoked never again, and an API key signs nobody in, whatever the door said.
  v_refusal := CASE
    WHEN v_session.scope <> 'owner' THEN devices.fn_refusal('not_permitted')
    WHEN v_session.lenser_id <> v_lenser THEN devices.fn_refusal('not_owner')
    WHEN v_session.revoked_at IS NOT NULL THEN devices.fn_refusal('session_expired')
  END;
  IF v_refusal IS NOT NULL THEN
    v_request.lenser_id := v_lenser;
    RETURN devices.fn_commit_restriction(v_request, NULL, v_refusal, false);
  END IF;
  -- Whoever may ask already asks for that; a fresh key signs in all the same, with a token that the issuer made for it.
  v_refusal := CASE WHEN NOT v_is_new AND v_session.expires_at > now() THEN devices.fn_account_limit(v_lenser, v_parts.kid) END;
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  UPDATE lensers.sessions
     SET expires_at = now() + make_interval(secs => devices.fn_limit('sessionSeconds')),
         machine = coalesce(v_parts.body->>'machine', machine)
   WHERE kid = v_parts.kid
  RETURNING * INTO v_session;
  RETURN devices.fn_operation_commit(v_parts, v_lenser, NULL, devices.fn_ok(jsonb_build_object(
    'lenser_id', v_lenser,
    'session', v_session.kid,
    'expires_at', devices.fn_unix(v_session.expires_at))));
END
$$;
