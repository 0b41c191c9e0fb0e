-- What every applier of verified batches begins and ends with: open, begin, (apply), commit.
SET LOCAL ROLE ltg_owner;

-- One envelope of a batch: what it says, whose it is, what its device is now, when the broker stored it.
-- step: `refused` (outcome says why), `stale` (its key is good no more, and outcome says so, unless there was a result before),
-- `known` (an operation with this outcome before), `new`, or `twin` (the same operation as the item before it). run_id is for the
-- appliers of runs. key_number says which of its device's keys signed it, is_forked whether two are proven to hold that device's.
CREATE TYPE devices.verified_item AS (
  idx integer,
  parts devices.envelope_parts,
  lenser_id uuid,
  trust_level text,
  earlier_level text,
  stored_at timestamptz,
  step text,
  outcome jsonb,
  run_id uuid,
  key_number integer,
  is_forked boolean
);

-- Reads a batch and locks its devices in order: FOR KEY SHARE, so that whoever changes a trust level waits (law 7), or,
-- with p_writes, for a change of the row. Items come in the order of (kid, op_id), so that locks which appliers take
-- item by item are taken in one order everywhere.
CREATE FUNCTION devices.fn_open_verified(p_envelopes text[], p_kind text, p_writes boolean)
RETURNS devices.verified_item[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- As in devices.fn_claim_ingress: partitions of claims are born empty and fill up.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_parts devices.envelope_parts[];
  v_kids uuid[];
  v_items devices.verified_item[];
BEGIN
  SELECT array_agg(devices.fn_read_envelope(e.wire) ORDER BY e.idx) INTO v_parts
    FROM unnest(p_envelopes) WITH ORDINALITY AS e (wire, idx);
  SELECT array_agg(DISTINCT p.kid) INTO v_kids FROM unnest(v_parts) p;
  IF NOT p_writes THEN
    PERFORM FROM devices.registered_devices d WHERE d.id = ANY (v_kids) ORDER BY d.id FOR KEY SHARE;
  ELSIF EXISTS (SELECT FROM devices.registered_devices d WHERE d.id = ANY (v_kids) AND d.trust_level = 'offline') THEN
    -- A level may change: the strong lock from the start, since two that strengthen theirs wait for each other.
    PERFORM FROM devices.registered_devices d WHERE d.id = ANY (v_kids) ORDER BY d.id FOR UPDATE;
  ELSE
    PERFORM FROM devices.registered_devices d WHERE d.id = ANY (v_kids) ORDER BY d.id FOR NO KEY UPDATE;
  END IF;
  -- A later statement: it sees what those committed whom the locks waited for.
  SELECT array_agg(
           ROW(item.idx, item.parts, item.lenser_id, item.trust_level, item.earlier_level, item.stored_at,
               CASE WHEN item.refusal IS NOT NULL THEN 'refused' WHEN item.stale IS NOT NULL THEN 'stale' END,
               coalesce(item.refusal, item.stale), NULL, item.key_number, item.is_forked)::devices.verified_item
           ORDER BY (item.parts).kid, (item.parts).op_id, item.idx)
    INTO v_items
    FROM (
      SELECT p.idx::integer,
             ROW(p.digest, p.content_digest, p.kid, p.iat, p.nonce, p.kind, p.aud, p.op_id, p.counter, p.body, p.wire)
               ::devices.envelope_parts AS parts,
             d.lenser_id, d.trust_level, d.earlier_level, to_timestamp(c.stored_ns / 1e9) AS stored_at, c.key_number,
             d.trust_level = 'unhealthy' AND d.trust_reason = 'identity_forked' AS is_forked,
             CASE
               WHEN p.kind IS DISTINCT FROM p_kind THEN devices.fn_refusal('kind_mismatch')
               WHEN d.id IS NULL THEN devices.fn_refusal('unknown_device')
               WHEN c.kid IS NULL THEN devices.fn_refusal('claim_expired')
               WHEN p.counter IS NULL OR p.counter < 1 THEN devices.fn_refusal('malformed_body', 'it is not counted')
             END AS refusal,
             CASE
               WHEN c.key_number <> d.key_number
                 THEN devices.fn_former_key_refusal(d.id, c.key_number, to_timestamp(c.stored_ns / 1e9))
               WHEN d.key_expires_at < to_timestamp(c.stored_ns / 1e9)
                 AND NOT EXISTS (SELECT FROM devices.kind_states k WHERE k.kind = p.kind AND k.trust_level = 'unhealthy')
                 THEN devices.fn_refusal('key_expired')
             END AS stale
        FROM unnest(v_parts) WITH ORDINALITY
          AS p (digest, content_digest, kid, iat, nonce, kind, aud, op_id, counter, body, wire, idx)
        LEFT JOIN devices.registered_devices d ON d.id = p.kid
        LEFT JOIN devices.envelope_claims c
          ON c.kid = p.kid AND c.nonce = p.nonce AND c.iat = p.iat
         AND c.door = 'ingress' AND c.kind = p.kind AND c.digest = p.digest AND c.verdict = 'ok') item;
  PERFORM devices.fn_note_counters(v_items);
  RETURN v_items;
END
$$;

-- Looks up what became of each operation before, and holds those that are new against everybody else.
CREATE FUNCTION devices.fn_begin_verified(p_items devices.verified_item[]) RETURNS devices.verified_item[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_items devices.verified_item[] := p_items;
  v_item devices.verified_item;
  v_begun devices.envelope_parts;
  v_known jsonb;
BEGIN
  FOR n IN 1 .. coalesce(cardinality(p_items), 0) LOOP
    v_item := p_items[n];
    CONTINUE WHEN v_item.step = 'refused';
    IF ((v_item.parts).kid, (v_item.parts).op_id) = (v_begun.kid, v_begun.op_id) THEN
      v_item.step := 'twin';
    ELSIF v_item.step = 'stale' THEN
      -- A committed result outranks every rejection.
      v_known := devices.fn_operation_begin(v_item.parts);
      v_item.step := CASE WHEN v_known IS NULL THEN 'refused' ELSE 'known' END;
      v_item.outcome := coalesce(v_known, v_item.outcome);
    ELSE
      v_item.outcome := devices.fn_operation_begin(v_item.parts);
      v_item.step := CASE WHEN v_item.outcome IS NULL THEN 'new' ELSE 'known' END;
      v_begun := v_item.parts;
    END IF;
    v_items[n] := v_item;
  END LOOP;
  RETURN v_items;
END
$$;

-- Commits what was decided and returns every item's outcome, with what a receipt needs besides.
CREATE FUNCTION devices.fn_commit_verified(p_items devices.verified_item[])
RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_item devices.verified_item;
BEGIN
  FOR n IN 1 .. coalesce(cardinality(p_items), 0) LOOP
    v_item := p_items[n];
    IF v_item.step = 'new' THEN
      v_item.outcome := devices.fn_operation_commit(
        v_item.parts, v_item.lenser_id, (v_item.parts).kid, v_item.outcome);
    ELSIF v_item.step = 'twin' THEN
      -- What the first of them has just committed; where that was not final, the same holds for this one.
      v_item.outcome := coalesce(devices.fn_operation_begin(v_item.parts), outcome);
    END IF;
    idx := v_item.idx;
    outcome := devices.fn_addressed(v_item, v_item.outcome);
    RETURN NEXT;
  END LOOP;
END
$$;

-- An outcome with what a receipt needs besides.
CREATE FUNCTION devices.fn_addressed(p_item devices.verified_item, p_outcome jsonb) RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN p_outcome || jsonb_strip_nulls(jsonb_build_object(
    'digest', devices.fn_b64url((p_item.parts).digest),
    'op_id', (p_item.parts).op_id,
    'lenser', p_item.lenser_id,
    'kid', (p_item.parts).kid,
    -- Its owner must know that waiting does not help.
    'detail', CASE WHEN p_item.is_forked AND p_outcome ->> 'code' = 'device_unhealthy' THEN 'identity_forked' END));
END
$$;

-- Why a device in its present state may not do this; null where it may.
CREATE FUNCTION devices.fn_state_refusal(p_kind text, p_level text) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM devices.kind_states k WHERE k.kind = p_kind AND k.trust_level = p_level;
  IF FOUND THEN
    RETURN NULL;
  END IF;
  RETURN devices.fn_refusal(concat('device_', p_level));
END
$$;

-- Whether a device counts as trusted: by the level that an advisory `offline` keeps.
CREATE FUNCTION devices.fn_is_trusted(p_level text, p_earlier text) RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(CASE p_level WHEN 'offline' THEN p_earlier ELSE p_level END IN ('approved', 'trusted'), false);
END
$$;
