-- What was verified, or refused after its signature was, is written down once: a claim (RP-1, RP-2, DH-5).
-- The nonce of a claim is spent. A claim outlives every message that could still carry it, then its partition goes whole.
SET LOCAL ROLE ltg_owner;

CREATE TABLE devices.envelope_claims (
  kid uuid NOT NULL,
  nonce text NOT NULL,
  iat bigint NOT NULL,
  -- Written by the door's own function, never by its caller: a claim of one door is worth nothing at another.
  door text NOT NULL CHECK (door IN ('ingress', 'connect', 'ask')),
  kind text NOT NULL,
  digest bytea NOT NULL CHECK (length(digest) = 32),
  verdict text NOT NULL CHECK (verdict ~ '^[a-z_]+$'),
  -- Of the signer as it was at the claim; null for a session that nobody vouched for yet.
  lenser_id uuid,
  trust_level text,
  -- Which of a device's keys signed it; null for a session.
  key_number integer,
  -- Which message it was. A redelivery has the digest and these three equal; only the ingress door has redeliveries.
  stream text,
  seq bigint,
  stored_ns bigint,
  claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kid, nonce, iat),
  CHECK ((door = 'ingress') = (stream IS NOT NULL AND seq IS NOT NULL AND stored_ns IS NOT NULL)),
  CHECK (door <> 'ingress' OR key_number IS NOT NULL)
) PARTITION BY RANGE (iat);

ALTER TABLE devices.envelope_claims ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- A verdict is final: deleting is the maintenance's, changing is nobody's.
CREATE TRIGGER deny_mutation BEFORE UPDATE ON devices.envelope_claims
  FOR EACH ROW EXECUTE FUNCTION public.fn_deny_mutation();

-- Times so far off that no partition is made for them (they are refused), and what comes while nobody makes partitions.
CREATE TABLE devices.envelope_claims_default PARTITION OF devices.envelope_claims DEFAULT;
ALTER TABLE devices.envelope_claims_default ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- How long after its signed time a claim is kept, seconds: until the last message that could carry its nonce is refused
-- for its age, and past the 600 s of RP-2.
CREATE FUNCTION devices.fn_claim_keep_seconds() RETURNS bigint
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN devices.fn_limit('iatWindowSeconds') + devices.fn_limit('storeLagSeconds') + devices.fn_limit('claimMarginSeconds');
END
$$;

-- Makes the claims of these nonces wait for each other until the transaction ends, in one order for everybody. The unique key
-- alone would let two transactions spend one nonce under two iats, since neither sees what the other has not committed.
-- Nor would one that keeps its first snapshot see what was committed since, so whatever its caller set, it judges nothing.
CREATE FUNCTION devices.fn_claim_lock_nonces(p_kids uuid[], p_nonces text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'claims are judged in READ COMMITTED alone' USING ERRCODE = 'serialization_failure';
  END IF;
  PERFORM pg_advisory_xact_lock(l.key)
    FROM (
      SELECT DISTINCT hashtextextended(m.kid::text || m.nonce, 0) AS key
        FROM unnest(p_kids, p_nonces) AS m (kid, nonce)
       ORDER BY 1
    ) l;
END
$$;
