SET LOCAL ROLE ltg_owner;

-- Claims a batch of messages of the ingress stream whose signatures verified. Arrays run in step, in the order of the batch;
-- p_keys are the public keys (hex) that the verifier checked p_signers' signatures with; digests are hex too, times nanoseconds.
--
-- Returns a verdict a message: 'ok', a reason code, or the mark 'key_changed': that signer has another key now, nothing was
-- claimed, check again. In this order: the same message before → its verdict then; signature_mismatch where the key that signed
-- was replaced before the broker stored it (nothing is claimed: a dead key spends no nonce); iat_window; device_<state>;
-- key_expired; nonce_replay.
-- Raises LT010 where the broker's clock is ahead of the database's by over storeLeadSeconds: no time can be judged then.
--
-- Each statement sees what was committed before it began, so their order is what matters here.
CREATE FUNCTION devices.fn_claim_ingress(
  p_signers uuid[], p_keys text[], p_stream text,
  p_kids uuid[], p_nonces text[], p_iats bigint[], p_kinds text[], p_digests text[], p_seqs bigint[], p_stored bigint[]
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Partitions are born empty and fill up: a plan made for an empty one would read a full one whole.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  c_second CONSTANT bigint := 1000000000;
  v_window CONSTANT bigint := devices.fn_limit('iatWindowSeconds') * c_second;
  v_now bigint;
  v_oldest bigint;
  v_latest timestamptz;
  v_changed uuid[];
  v_former uuid[] := '{}';
  v_verdicts text[];
  v_claimed bigint;
BEGIN
  -- Whoever changes a trust level waits for the claims in flight from here on, and claims wait for a change in flight (law 7).
  PERFORM FROM devices.registered_devices AS d WHERE d.id = ANY (p_signers) ORDER BY d.id FOR KEY SHARE;
  PERFORM devices.fn_claim_lock_nonces(p_kids, p_nonces);

  v_now := (extract(epoch FROM clock_timestamp()) * c_second)::bigint;
  v_oldest := v_now - devices.fn_limit('storeLagSeconds') * c_second;
  v_latest := clock_timestamp() + devices.fn_limit('storeLeadSeconds') * interval '1 second';
  IF (SELECT max(s) FROM unnest(p_stored) AS s) > v_now + devices.fn_limit('storeLeadSeconds') * c_second THEN
    RAISE EXCEPTION 'the broker''s clock is ahead of the database''s' USING ERRCODE = 'LT010';
  END IF;

  SELECT coalesce(array_agg(s.kid), '{}') INTO v_changed
    FROM unnest(p_signers, p_keys) AS s (kid, public_key)
    LEFT JOIN devices.registered_devices AS d ON d.id = s.kid
   WHERE decode(s.public_key, 'hex') IS DISTINCT FROM coalesce(d.public_key, d.submitted_public_key);
  IF cardinality(v_changed) > 0 THEN
    SELECT coalesce(array_agg(s.kid) FILTER (WHERE decode(s.public_key, 'hex') = d.former_public_key), '{}'),
           coalesce(array_agg(s.kid) FILTER (WHERE decode(s.public_key, 'hex') IS DISTINCT FROM d.former_public_key), '{}')
      INTO v_former, v_changed
      FROM unnest(p_signers, p_keys) AS s (kid, public_key)
      LEFT JOIN devices.registered_devices AS d ON d.id = s.kid
     WHERE s.kid = ANY (v_changed);
  END IF;

  WITH m AS MATERIALIZED (
    SELECT m.*, d.lenser_id, d.trust_level, d.key_number - (m.kid = ANY (v_former))::integer AS key_number,
           CASE
             WHEN d.id IS NULL OR m.kid = ANY (v_changed) THEN 'key_changed'
             WHEN m.kid = ANY (v_former) AND m.stored > extract(epoch FROM d.former_key_until) * c_second
               THEN 'signature_mismatch'
             -- Signed times are whole seconds, of any size: the bounds are rounded instead.
             WHEN m.iat > (m.stored + v_window) / c_second
               OR m.iat < (m.stored - v_window + c_second - 1) / c_second
               OR m.stored < v_oldest THEN 'iat_window'
             WHEN NOT EXISTS (SELECT FROM devices.kind_states AS k WHERE k.kind = m.kind AND k.trust_level = d.trust_level)
               THEN 'device_' || d.trust_level
             -- The first question alone is asked of nearly every message.
             WHEN d.key_expires_at < v_latest AND m.stored > extract(epoch FROM d.key_expires_at) * c_second
              AND NOT EXISTS (SELECT FROM devices.kind_states AS k WHERE k.kind = m.kind AND k.trust_level = 'unhealthy')
               THEN 'key_expired'
             ELSE 'ok'
           END AS verdict
      FROM unnest(p_kids, p_nonces, p_iats, p_kinds, p_digests, p_seqs, p_stored) WITH ORDINALITY
        AS m (kid, nonce, iat, kind, digest, seq, stored, idx)
      LEFT JOIN devices.registered_devices AS d ON d.id = m.kid
  ), claimed AS (
    -- A nonce twice in the batch belongs to the message that comes first. One spent before is found here for certain, since its
    -- lock is held: hence no ON CONFLICT, which would cost a quarter of the call.
    INSERT INTO devices.envelope_claims
      (kid, nonce, iat, door, kind, digest, verdict, lenser_id, trust_level, key_number, stream, seq, stored_ns)
    SELECT DISTINCT ON (m.kid, m.nonce)
           m.kid, m.nonce, m.iat, 'ingress', m.kind, decode(m.digest, 'hex'), m.verdict, m.lenser_id, m.trust_level,
           m.key_number, p_stream, m.seq, m.stored
      FROM m
     WHERE m.verdict NOT IN ('key_changed', 'signature_mismatch')
       AND NOT EXISTS (SELECT FROM devices.envelope_claims AS c WHERE c.kid = m.kid AND c.nonce = m.nonce)
     ORDER BY m.kid, m.nonce, m.idx
    RETURNING 1
  )
  SELECT (SELECT array_agg(m.verdict ORDER BY m.idx) FROM m), (SELECT count(*) FROM claimed) INTO v_verdicts, v_claimed;
  IF v_claimed = cardinality(p_kids) THEN
    RETURN v_verdicts;
  END IF;

  -- Some nonces were spent before, by these very messages or by others.
  RETURN (
    SELECT array_agg(CASE
             WHEN c.iat = m.iat AND c.door = 'ingress' AND c.digest = decode(m.digest, 'hex')
              AND c.stream = p_stream AND c.seq = m.seq AND c.stored_ns = m.stored THEN c.verdict
             WHEN m.verdict = 'ok' THEN 'nonce_replay'
             ELSE m.verdict
           END ORDER BY m.idx)
      FROM unnest(p_kids, p_nonces, p_iats, p_digests, p_seqs, p_stored, v_verdicts) WITH ORDINALITY
        AS m (kid, nonce, iat, digest, seq, stored, verdict, idx)
      LEFT JOIN devices.envelope_claims AS c ON c.kid = m.kid AND c.nonce = m.nonce
  );
END
$$;

GRANT EXECUTE ON FUNCTION
  devices.fn_claim_ingress(uuid[], text[], text, uuid[], text[], bigint[], text[], text[], bigint[], bigint[])
  TO ltg_verifier;
