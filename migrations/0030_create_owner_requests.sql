-- What every owner's request begins and ends with. A request is an envelope, claimed at the `ask` door; whose it is
-- follows from its kid alone, never from a parameter beside it (law 4).
SET LOCAL ROLE ltg_owner;

-- An opened request. `outcome` is set where the answer is known already: a refusal, or the result of the same
-- operation committed before.
CREATE TYPE devices.request AS (
  parts devices.envelope_parts,
  lenser_id uuid,
  outcome jsonb
);

-- How an owner recognizes a key: `SHA256:` and the SHA-256 of the raw public key as base64url.
CREATE FUNCTION devices.fn_fingerprint(p_key bytea)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT 'SHA256:' || devices.fn_b64url(sha256(p_key))
$$;

-- Whole seconds since 1970: how times are told to edges.
CREATE FUNCTION devices.fn_unix(p_time timestamptz)
RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT floor(extract(epoch FROM p_time))::bigint
$$;

-- Whether the door of requests recorded this very envelope and let it in.
CREATE FUNCTION devices.fn_is_claimed_request(p_parts devices.envelope_parts)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- Partitions are born empty and fill up: a plan made for an empty one would read a full one whole.
SET enable_seqscan = off
AS $$
BEGIN
  PERFORM FROM devices.envelope_claims AS claim
    WHERE claim.kid = p_parts.kid AND claim.nonce = p_parts.nonce AND claim.iat = p_parts.iat
      AND claim.door = 'ask' AND claim.kind = p_parts.kind AND claim.digest = p_parts.digest AND claim.verdict = 'ok';
  RETURN FOUND;
END
$$;

-- Reads a request and its claim; of an operation also what became of it before.
CREATE FUNCTION devices.fn_request_read(p_envelope text, p_kind text, p_operation boolean)
RETURNS devices.request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request;
  v_parts devices.envelope_parts := devices.fn_read_envelope(p_envelope);
BEGIN
  v_request.parts := v_parts;
  v_request.outcome := CASE
    -- An envelope of one kind must not reach the function of another: what was signed is what is done.
    WHEN v_parts.kind IS DISTINCT FROM p_kind THEN devices.fn_refusal('kind_mismatch')
    WHEN NOT devices.fn_is_claimed_request(v_parts) THEN devices.fn_refusal('claim_expired')
  END;
  IF v_request.outcome IS NULL AND p_operation THEN
    v_request.outcome := devices.fn_operation_begin(v_parts);
  END IF;
  RETURN v_request;
END
$$;

-- Opens an owner's request: as above, and the account is that of the session which signed it, whose scope must allow the
-- kind whatever the door said, and which may not have changed too much of late, unless this restricts (0037). An operation keeps the session's row locked, so that a session cannot end between this and the
-- effect. A question has none and locks nothing: one that takes long (a long chain's) would hold up whoever ends the session,
-- and behind them, since they lock the table after a while, every account's requests.
CREATE FUNCTION devices.fn_request_open(p_envelope text, p_kind text, p_operation boolean)
RETURNS devices.request
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_read(p_envelope, p_kind, p_operation);
  v_session lensers.sessions;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request;
  END IF;
  IF p_operation THEN
    PERFORM FROM lensers.sessions WHERE kid = (v_request.parts).kid FOR SHARE;
  END IF;
  SELECT * INTO v_session FROM lensers.sessions WHERE kid = (v_request.parts).kid;
  IF NOT FOUND THEN
    v_request.outcome := devices.fn_refusal('unknown_session');
  ELSIF v_session.revoked_at IS NOT NULL OR v_session.expires_at <= now() THEN
    v_request.outcome := devices.fn_refusal('session_expired');
  ELSIF NOT EXISTS (SELECT FROM devices.session_kinds AS k WHERE k.kind = p_kind AND k.scope = v_session.scope) THEN
    v_request.outcome := devices.fn_refusal('not_permitted');
  ELSIF p_operation AND p_kind NOT IN ('revoke', 'suspend', 'session_revoke') THEN
    v_request.outcome := devices.fn_account_limit(v_session.lenser_id, v_session.kid);
  END IF;
  v_request.lenser_id := v_session.lenser_id;
  RETURN v_request;
END
$$;
