-- The sessions of an account, API keys among them: listed and ended by whoever signed in.
SET LOCAL ROLE ltg_owner;

-- How a session is shown to its owner. Times are Unix seconds.
CREATE FUNCTION lensers.fn_show_session(p_session lensers.sessions)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'session', p_session.kid,
    'kind', CASE p_session.scope WHEN 'owner' THEN 'sign-in' ELSE 'api_key' END,
    'name', p_session.name,
    'machine', p_session.machine,
    'scope', p_session.scope,
    'created_at', devices.fn_unix(p_session.created_at),
    'expires_at', devices.fn_unix(p_session.expires_at),
    'revoked_at', devices.fn_unix(p_session.revoked_at))
$$;

-- The account's sessions, living ones first, newest first: as many as fit into an answer of 192 KiB. `more` says that there
-- are others.
CREATE FUNCTION lensers.fn_session_list(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_rows CONSTANT int := 1000;
  v_request devices.request := devices.fn_request_open(p_envelope, 'sessions', false);
  v_sessions jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  WITH own AS (
    SELECT lensers.fn_show_session(session) || jsonb_build_object('current', session.kid = (v_request.parts).kid) AS shown,
           row_number() OVER (
             ORDER BY session.revoked_at IS NOT NULL OR session.expires_at <= now(), session.created_at DESC, session.kid
           ) AS place
      FROM lensers.sessions AS session
     WHERE session.lenser_id = v_request.lenser_id
     ORDER BY place
     LIMIT c_most_rows
  ), measured AS (
    SELECT shown, place, sum(octet_length(shown::text)) OVER (ORDER BY place) <= c_most_bytes AS fits FROM own
  )
  SELECT coalesce(jsonb_agg(shown ORDER BY place) FILTER (WHERE fits), '[]'),
         coalesce(NOT bool_and(fits), false) OR count(*) = c_most_rows
    INTO v_sessions, v_more
    FROM measured;
  RETURN devices.fn_ok(jsonb_build_object('sessions', v_sessions, 'more', v_more));
END
$$;

-- Locks a session of the asker's account, and the asker's own, against the requests in flight that share their rows: whoever
-- returns from here knows that none of either is half done (law 7). Nobody's are locked by naming another account's.
-- Both at once and before anything else is: two who end one another wait in one order. And as with devices, after a while the
-- table is locked, since requests that overlap without a gap would share the row past whoever waits for it.
CREATE FUNCTION lensers.fn_lock_sessions(p_kid uuid, p_asker uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- All owners' requests stand in that line too: behind one worker that hangs, the request is rather asked again.
SET lock_timeout = '3s'
AS $$
DECLARE
  c_attempts CONSTANT int := 40;
  c_pause_seconds CONSTANT double precision := 0.005;
  v_lenser uuid := (SELECT s.lenser_id FROM lensers.sessions AS s WHERE s.kid = p_asker);
BEGIN
  FOR n IN 1 .. c_attempts LOOP
    -- A failed attempt lets go of the table too: two that kept their share of it would wait for each other below.
    BEGIN
      PERFORM FROM lensers.sessions AS s WHERE s.kid IN (p_kid, p_asker) AND s.lenser_id = v_lenser
        ORDER BY s.kid FOR UPDATE NOWAIT;
      RETURN;
    EXCEPTION
      WHEN lock_not_available THEN PERFORM pg_sleep(c_pause_seconds);
    END;
  END LOOP;
  LOCK TABLE lensers.sessions IN EXCLUSIVE MODE;
END
$$;

-- Ends a session of the account for ever, the asker's own too: when this returns, no request of it has an effect any more.
CREATE FUNCTION lensers.fn_session_revoke(p_envelope text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_read(p_envelope, 'session_revoke', true);
  v_kid uuid := (v_request.parts).body->>'session';
  v_session lensers.sessions;
  v_is_change boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- One that was revoked stays so. Everybody's requests may wait for this lock: whoever asks without end must not make them.
  PERFORM FROM lensers.sessions AS s JOIN lensers.sessions AS asker ON asker.lenser_id = s.lenser_id
    WHERE s.kid = v_kid AND s.revoked_at IS NULL AND asker.kid = (v_request.parts).kid;
  v_is_change := FOUND;
  IF v_is_change THEN
    PERFORM lensers.fn_lock_sessions(v_kid, (v_request.parts).kid);
  END IF;
  v_request := devices.fn_request_open(p_envelope, 'session_revoke', true);
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  IF v_is_change THEN
    UPDATE lensers.sessions SET revoked_at = now()
     WHERE kid = v_kid AND lenser_id = v_request.lenser_id AND revoked_at IS NULL;
    v_is_change := FOUND;
  END IF;
  SELECT * INTO v_session FROM lensers.sessions AS s WHERE s.kid = v_kid AND s.lenser_id = v_request.lenser_id;
  RETURN devices.fn_commit_restriction(v_request, NULL, CASE
    WHEN v_session.kid IS NULL THEN devices.fn_refusal('session_not_found')
    ELSE devices.fn_ok(lensers.fn_show_session(v_session))
  END, v_is_change);
END
$$;

GRANT EXECUTE ON FUNCTION lensers.fn_session_list(text), lensers.fn_session_revoke(text) TO ltg_registrar;
