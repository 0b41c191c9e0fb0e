SET LOCAL ROLE ltg_owner;

-- Links up to p_limit pending records into their Lensers' chains and returns how many; fewer than p_limit says that none is left.
-- Linkers take turns. A record that commits late gets a late place: none is skipped, since what is linked is taken off.
CREATE FUNCTION audit.fn_chain_link(p_limit integer) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A plan made while the queue was short would read all that it ever held.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_pending audit.pending[];
  v_record audit.pending;
  v_entry audit.hash_chains;
  v_entries audit.hash_chains[] := '{}';
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('audit.fn_chain_link', 0));
  SELECT array_agg(oldest.record ORDER BY (oldest.record).lenser_id, (oldest.record).id) INTO v_pending
    FROM (SELECT p AS record FROM audit.pending p ORDER BY p.id LIMIT p_limit) oldest;
  IF v_pending IS NULL THEN
    RETURN 0;
  END IF;

  INSERT INTO audit.chain_heads (chain_kind, lenser_id, seq, entry_hash)
  SELECT DISTINCT 'gateway', p.lenser_id, 0, audit.fn_genesis() FROM unnest(v_pending) p ORDER BY p.lenser_id
  ON CONFLICT DO NOTHING;
  PERFORM FROM audit.chain_heads h
    WHERE h.chain_kind = 'gateway' AND h.lenser_id IN (SELECT p.lenser_id FROM unnest(v_pending) p)
    ORDER BY h.lenser_id
      FOR UPDATE;

  FOREACH v_record IN ARRAY v_pending LOOP
    IF v_entry.lenser_id IS DISTINCT FROM v_record.lenser_id THEN
      SELECT h.seq, h.entry_hash INTO v_entry.seq, v_entry.entry_hash
        FROM audit.chain_heads h
       WHERE h.chain_kind = 'gateway' AND h.lenser_id = v_record.lenser_id;
    END IF;
    v_entry.chain_kind := 'gateway';
    v_entry.lenser_id := v_record.lenser_id;
    v_entry.seq := v_entry.seq + 1;
    v_entry.prev_hash := v_entry.entry_hash;
    v_entry.event_kind := v_record.event_kind;
    v_entry.device_id := v_record.device_id;
    v_entry.kid := v_record.kid;
    v_entry.op_id := v_record.op_id;
    v_entry.digest := v_record.digest;
    v_entry.payload := v_record.payload;
    v_entry.payload_hash := sha256(convert_to(v_record.payload::text, 'UTF8'));
    v_entry.created_at := v_record.created_at;
    v_entry.entry_hash := audit.fn_entry_hash(v_entry);
    v_entries := array_append(v_entries, v_entry);
  END LOOP;

  INSERT INTO audit.hash_chains SELECT e.* FROM unnest(v_entries) e;
  UPDATE audit.chain_heads h
     SET seq = last.seq, entry_hash = last.entry_hash
    FROM (SELECT DISTINCT ON (e.lenser_id) e.* FROM unnest(v_entries) e ORDER BY e.lenser_id, e.seq DESC) last
   WHERE h.chain_kind = 'gateway' AND h.lenser_id = last.lenser_id;
  -- By index, however many are waiting.
  DELETE FROM audit.pending p WHERE p.id = ANY (ARRAY(SELECT linked.id FROM unnest(v_pending) linked));
  RETURN cardinality(v_entries);
END
$$;

-- How many entries a chain has and the first that is not what was written or does not follow the one before it.
-- The inner query is fenced (OFFSET 0) so that parallel workers hash; RETURN QUERY, unlike SELECT INTO, lets them.
CREATE FUNCTION audit.fn_chain_scan(p_lenser_id uuid, p_kind text)
RETURNS TABLE (entries bigint, first_bad_seq bigint)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_genesis constant bytea := audit.fn_genesis();
BEGIN
  RETURN QUERY
  SELECT count(*), min(link.seq) FILTER (WHERE link.is_bad)
    FROM (
      SELECT own.seq,
             own.is_altered
             OR own.prev_hash <> lag(own.entry_hash, 1, v_genesis) OVER chain
             OR own.seq <> lag(own.seq, 1, 0::bigint) OVER chain + 1 AS is_bad
        FROM (
          SELECT c.seq, c.prev_hash, c.entry_hash,
                 c.payload_hash <> sha256(convert_to(c.payload::text, 'UTF8'))
                 OR c.entry_hash <> audit.fn_entry_hash(c) AS is_altered
            FROM audit.hash_chains c
           WHERE c.chain_kind = p_kind AND c.lenser_id = p_lenser_id
          OFFSET 0
        ) own
      WINDOW chain AS (ORDER BY own.seq)
    ) link;
END
$$;

-- Recomputes a chain. first_bad_index is the first place (from 1) that is not what was written, and reason says how: missing,
-- broken_link (another entry stood before it), payload_altered, entry_altered, or head_mismatch (the chain's end is not the one
-- on record). Whoever rewrites a chain's end and its head alike escapes this; that takes an anchor outside the database.
-- STABLE, so that all of it reads one snapshot.
CREATE FUNCTION audit.fn_chain_check(p_lenser_id uuid, p_kind text)
RETURNS TABLE (ok boolean, first_bad_index bigint, entries bigint, reason text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_bad_seq bigint;
  v_bad audit.hash_chains;
  v_before bigint;
  v_head audit.chain_heads;
BEGIN
  SELECT s.entries, s.first_bad_seq INTO entries, v_bad_seq FROM audit.fn_chain_scan(p_lenser_id, p_kind) s;
  SELECT c.* INTO v_bad
    FROM audit.hash_chains c
   WHERE c.chain_kind = p_kind AND c.lenser_id = p_lenser_id AND c.seq = v_bad_seq;
  -- The entry before the bad one; of a chain that is sound, its last.
  SELECT coalesce(max(c.seq), 0) INTO v_before
    FROM audit.hash_chains c
   WHERE c.chain_kind = p_kind AND c.lenser_id = p_lenser_id AND (v_bad_seq IS NULL OR c.seq < v_bad_seq);
  SELECT h.* INTO v_head FROM audit.chain_heads h WHERE h.chain_kind = p_kind AND h.lenser_id = p_lenser_id;

  IF v_bad_seq > v_before + 1 THEN
    first_bad_index := v_before + 1;
    reason := 'missing';
  ELSIF v_bad_seq IS NOT NULL THEN
    first_bad_index := v_bad_seq;
    reason := CASE
      WHEN v_bad.payload_hash <> sha256(convert_to(v_bad.payload::text, 'UTF8')) THEN 'payload_altered'
      WHEN v_bad.entry_hash <> audit.fn_entry_hash(v_bad) THEN 'entry_altered'
      ELSE 'broken_link'
    END;
  ELSIF v_before < coalesce(v_head.seq, 0) THEN
    first_bad_index := v_before + 1;
    reason := 'missing';
  ELSIF v_before > coalesce(v_head.seq, 0) THEN
    first_bad_index := coalesce(v_head.seq, 0) + 1;
    reason := 'head_mismatch';
  ELSIF v_before > 0 AND v_head.entry_hash <> (
    SELECT c.entry_hash FROM audit.hash_chains c
     WHERE c.chain_kind = p_kind AND c.lenser_id = p_lenser_id AND c.seq = v_before
  ) THEN
    first_bad_index := v_before;
    reason := 'head_mismatch';
  END IF;
  ok := first_bad_index IS NULL;
  RETURN NEXT;
END
$$;

-- AU-4: verifies the caller's own chain; anybody else's is 42501 (security rule R7), whether it exists or not.
CREATE FUNCTION audit.fn_chain_verify(p_lenser_id uuid, p_kind text)
RETURNS TABLE (ok boolean, first_bad_index bigint, entries bigint, reason text)
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM lensers.profiles p WHERE p.id = p_lenser_id AND p.user_id = auth.uid();
  IF NOT FOUND THEN
    RAISE EXCEPTION 'an audit chain is verified by its owner' USING ERRCODE = '42501';
  END IF;
  RETURN QUERY SELECT * FROM audit.fn_chain_check(p_lenser_id, p_kind);
END
$$;

GRANT EXECUTE ON FUNCTION audit.fn_chain_link(integer) TO ltg_audit_chain;
GRANT EXECUTE ON FUNCTION audit.fn_chain_verify(uuid, text) TO authenticated;
