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
CREATE FUNCTION devices.fn_look_verified(p_envelopes text[], p_kind text, p_writes boolean)
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
  RETURN v_items;
END
$$;

-- The same, and counts them: protocol.md, Clone detection. Once a batch.
CREATE FUNCTION devices.fn_open_verified(p_envelopes text[], p_kind text, p_writes boolean)
RETURNS devices.verified_item[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_items devices.verified_item[] := devices.fn_look_verified(p_envelopes, p_kind, p_writes);
BEGIN
  PERFORM devices.fn_note_counters(v_items);
  RETURN v_items;
END
$$;

-- Looks up what became of each operation before, and holds those that are new against everybody else. As
-- devices.fn_operation_begin does for one: the locks in the items' order, then a later statement reads, which sees what those
-- committed whom they waited for.
CREATE FUNCTION devices.fn_begin_verified(p_items devices.verified_item[]) RETURNS devices.verified_item[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(o.kid || ' ' || o.op_id, 0))
    FROM (SELECT DISTINCT (i.parts).kid, (i.parts).op_id
            FROM unnest(p_items) i
           WHERE i.step IS DISTINCT FROM 'refused' AND uuid_extract_version((i.parts).op_id) = 7
           ORDER BY 1, 2) o;
  RETURN (
    SELECT array_agg(
             ROW(b.idx, b.parts, b.lenser_id, b.trust_level, b.earlier_level, b.stored_at,
                 CASE WHEN b.step = 'refused' THEN 'refused'
                      WHEN b.is_twin THEN 'twin'
                      WHEN b.known IS NOT NULL THEN 'known'
                      WHEN b.step = 'stale' THEN 'refused'
                      ELSE 'new' END,
                 -- A committed result outranks every rejection.
                 CASE WHEN b.is_twin THEN b.outcome ELSE coalesce(b.known, b.outcome) END,
                 b.run_id, b.key_number, b.is_forked)::devices.verified_item
             ORDER BY b.place)
      FROM (
        SELECT i.*,
               CASE WHEN i.step = 'refused' THEN NULL
                    WHEN o.kid IS NOT NULL THEN devices.fn_operation_outcome(o, (i.parts).content_digest)
                    ELSE devices.fn_op_id_refusal((i.parts).op_id, (i.parts).iat) END AS known,
               -- A stale one begins nothing.
               i.step IS DISTINCT FROM 'refused' AND (i.parts).op_id IS NOT NULL
                 AND coalesce(bool_or(i.step IS NULL) OVER before, false) AS is_twin
          FROM unnest(p_items) WITH ORDINALITY
            AS i (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number, is_forked, place)
          LEFT JOIN devices.operations o ON o.kid = (i.parts).kid AND o.op_id = (i.parts).op_id
        WINDOW before AS (PARTITION BY (i.parts).kid, (i.parts).op_id ORDER BY i.place
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) b);
END
$$;

-- Commits what was decided, as devices.fn_operation_commit does for one, and returns every item's outcome, with what a receipt
-- needs besides. p_records: what an item's audit record tells instead of its outcome, by its index.
CREATE FUNCTION devices.fn_commit_verified(p_items devices.verified_item[], p_records jsonb DEFAULT '{}')
RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  IF EXISTS (SELECT FROM unnest(p_items) i
              WHERE i.step = 'new' AND (i.outcome ->> 'ok')::boolean IS NOT TRUE
                AND NOT EXISTS (SELECT FROM devices.reasons r WHERE r.code = i.outcome ->> 'code')) THEN
    RAISE EXCEPTION 'an operation has no outcome' USING ERRCODE = 'LT004';
  END IF;
  WITH final AS MATERIALIZED (
    SELECT i.place, i.idx, i.lenser_id, (i.parts).kid, (i.parts).op_id, (i.parts).kind, (i.parts).content_digest,
           (i.parts).digest, i.outcome, i.outcome ->> 'code' AS code
      FROM unnest(p_items) WITH ORDINALITY
        AS i (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number, is_forked, place)
     WHERE i.step = 'new' AND i.lenser_id IS NOT NULL
       AND ((i.outcome ->> 'ok')::boolean
            OR EXISTS (SELECT FROM devices.reasons r WHERE r.code = i.outcome ->> 'code' AND r.next = 'stop'))
  ), stored AS (
    INSERT INTO devices.operations (kid, op_id, kind, content_digest, digest, lenser_id, code, result)
    SELECT f.kid, f.op_id, f.kind, f.content_digest, f.digest, f.lenser_id, f.code,
           CASE WHEN f.code IS NULL THEN f.outcome -> 'result'
                ELSE jsonb_strip_nulls(jsonb_build_object('detail', f.outcome -> 'detail')) END
      FROM final f ORDER BY f.place
  )
  -- The record of each in the same transaction (AU-2).
  INSERT INTO audit.pending (lenser_id, device_id, kid, op_id, event_kind, digest, payload)
  SELECT f.lenser_id, f.kid, f.kid, f.op_id, f.kind, f.digest, coalesce(p_records -> f.idx::text, f.outcome)
    FROM final f ORDER BY f.place;

  RETURN QUERY
  SELECT i.idx, devices.fn_addressed(
           ROW(i.idx, i.parts, i.lenser_id, i.trust_level, i.earlier_level, i.stored_at, i.step, i.outcome, i.run_id,
               i.key_number, i.is_forked)::devices.verified_item,
           CASE WHEN i.step <> 'twin' THEN i.outcome
           -- What the first of them has just committed; where that was not final, the same holds for this one.
           ELSE coalesce(devices.fn_operation_begin(i.parts), (
             SELECT a.outcome
               FROM unnest(p_items) WITH ORDINALITY
                 AS a (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number,
                       is_forked, place)
              WHERE ((a.parts).kid, (a.parts).op_id) = ((i.parts).kid, (i.parts).op_id)
                AND a.place < i.place AND a.step IN ('new', 'known')
              ORDER BY a.place DESC LIMIT 1)) END)
    FROM unnest(p_items) WITH ORDINALITY
      AS i (idx, parts, lenser_id, trust_level, earlier_level, stored_at, step, outcome, run_id, key_number, is_forked, place)
   ORDER BY i.place;
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
