-- A run's tool log (WT-3, R12): an entry before each use, judged by the account's denied tools.
SET LOCAL ROLE ltg_owner;

-- Which of an account's denied names, or beginnings of names that end with *, a tool is; null where none.
CREATE FUNCTION agents.fn_denied_by(p_denied text[], p_tool text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT d.name FROM unnest(p_denied) AS d (name)
   WHERE d.name = p_tool OR right(d.name, 1) = '*' AND starts_with(p_tool, left(d.name, -1))
   ORDER BY d.name LIMIT 1
$$;

-- What one is told of its place in the log: the entry that stands there, if it is this one.
CREATE FUNCTION agents.fn_tool_outcome(p_entry agents.tool_invocations, p_body jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_entry.tool <> p_body ->> 'tool'
    OR p_entry.arguments_hash <> devices.fn_b64url_decode(p_body ->> 'arguments_hash') THEN
    RETURN devices.fn_refusal('tool_out_of_order');
  END IF;
  RETURN devices.fn_ok(jsonb_build_object(
    'run_id', p_entry.run_id, 'seq', p_entry.seq, 'verdict', p_entry.verdict, 'denied_by', p_entry.denied_by));
END
$$;

-- Applies entries of tool logs; a denied one is logged too. Of two for one place the first has it.
CREATE FUNCTION agents.fn_record_tool_invocation(p_envelopes text[]) RETURNS TABLE (idx integer, outcome jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_items devices.verified_item[] :=
    devices.fn_begin_verified(devices.fn_open_verified(p_envelopes, 'tool_invocation', false));
  v_item devices.verified_item;
  v_refused jsonb;
  v_said jsonb;
BEGIN
  -- Their own runs alone: nobody holds up another's by naming it.
  PERFORM FROM execution.runs r
    WHERE r.id IN (SELECT ((i.parts).body ->> 'run_id')::uuid FROM unnest(v_items) i
                    WHERE i.step = 'new' AND r.requester_lenser_id = i.lenser_id AND r.device_id = (i.parts).kid)
    ORDER BY r.id FOR NO KEY UPDATE;

  SELECT coalesce(jsonb_object_agg(f.idx, f.code), '{}') INTO v_refused FROM (
    SELECT i.idx, CASE
             WHEN k.kind IS NULL THEN 'device_' || i.trust_level
             WHEN r.id IS NULL THEN 'unknown_run'
             WHEN (r.requester_lenser_id, r.device_id) <> (i.lenser_id, (i.parts).kid) THEN 'run_not_owned'
             -- One stored before the attestation and applied after it is evidence still (trust.md, rule 15).
             WHEN t.stored_at <= i.stored_at THEN 'run_ended'
             -- What was not allowed uses nothing; what was is judged tool by tool, to its end.
             WHEN first.verdict <> 'allow' AND a.decision IS DISTINCT FROM 'approve' THEN 'policy_denied'
           END AS code
      FROM unnest(v_items) i
      LEFT JOIN devices.kind_states k ON k.kind = 'tool_invocation' AND k.trust_level = i.trust_level
      LEFT JOIN execution.runs r ON r.id = ((i.parts).body ->> 'run_id')::uuid
      LEFT JOIN execution.attestations t ON t.run_id = r.id
      LEFT JOIN agents.approvals a ON a.run_id = r.id
      LEFT JOIN LATERAL (
        SELECT e.verdict FROM agents.policy_evaluations e WHERE e.run_id = r.id ORDER BY e.id LIMIT 1) first ON true
     WHERE i.step = 'new') f
   WHERE f.code IS NOT NULL;

  INSERT INTO agents.tool_invocations
    (run_id, seq, lenser_id, tool, arguments_hash, verdict, denied_by, op_id, digest, stored_at)
  SELECT DISTINCT ON (n.run_id, n.seq)
         n.run_id, n.seq, i.lenser_id, (i.parts).body ->> 'tool',
         devices.fn_b64url_decode((i.parts).body ->> 'arguments_hash'),
         CASE WHEN d.name IS NULL THEN 'allow' ELSE 'deny' END, d.name, (i.parts).op_id, (i.parts).digest, i.stored_at
    FROM unnest(v_items) i
    CROSS JOIN LATERAL (
      SELECT ((i.parts).body ->> 'run_id')::uuid AS run_id, ((i.parts).body ->> 'seq')::integer AS seq) n
    LEFT JOIN agents.workspace_settings s ON s.lenser_id = i.lenser_id
    CROSS JOIN LATERAL agents.fn_denied_by(s.denied_tools, (i.parts).body ->> 'tool') AS d (name)
   WHERE i.step = 'new' AND NOT v_refused ? i.idx::text
   ORDER BY n.run_id, n.seq, i.stored_at, i.idx
  ON CONFLICT (run_id, seq) DO NOTHING;

  -- A later statement: it sees what stands in the log now, whoever put it there.
  SELECT jsonb_object_agg(i.idx, agents.fn_tool_outcome(e, (i.parts).body)) INTO v_said
    FROM unnest(v_items) i
    JOIN agents.tool_invocations e
      ON e.run_id = ((i.parts).body ->> 'run_id')::uuid AND e.seq = ((i.parts).body ->> 'seq')::integer
   WHERE i.step = 'new' AND NOT v_refused ? i.idx::text;

  FOR n IN 1 .. coalesce(cardinality(v_items), 0) LOOP
    v_item := v_items[n];
    CONTINUE WHEN v_item.step <> 'new';
    v_item.outcome := coalesce(
      v_said -> v_item.idx::text, devices.fn_refusal(v_refused ->> v_item.idx::text));
    v_items[n] := v_item;
  END LOOP;
  RETURN QUERY SELECT c.idx, c.outcome FROM devices.fn_commit_verified(v_items) c ORDER BY c.idx;
END
$$;

GRANT EXECUTE ON FUNCTION agents.fn_record_tool_invocation(text[]) TO ltg_trust_evaluator;
