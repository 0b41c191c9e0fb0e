-- One hash chain a Lenser (RFC-0003 §11): each entry's hash covers every column that means something and the hash before it.
SET LOCAL ROLE ltg_owner;

-- Audit records that their effect's transaction wrote and that no chain holds yet. The audit-chain worker takes them off.
CREATE TABLE audit.pending (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lenser_id uuid NOT NULL,
  device_id uuid,
  kid uuid,
  op_id uuid,
  event_kind text NOT NULL CHECK (event_kind ~ '^[a-z_.]+$'),
  digest bytea CHECK (octet_length(digest) = 32),
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE audit.pending ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR TRUNCATE ON audit.pending
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE audit.pending ENABLE ALWAYS TRIGGER deny_mutation;

CREATE TABLE audit.hash_chains (
  chain_kind text NOT NULL CHECK (chain_kind = 'gateway'),
  lenser_id uuid NOT NULL,
  seq bigint NOT NULL CHECK (seq > 0),
  -- 32 zero bytes in the first entry.
  prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
  entry_hash bytea NOT NULL CHECK (octet_length(entry_hash) = 32),
  -- The pattern also keeps the canonical form free of escapes.
  event_kind text NOT NULL CHECK (event_kind ~ '^[a-z_.]+$'),
  device_id uuid,
  kid uuid,
  op_id uuid,
  digest bytea CHECK (octet_length(digest) = 32),
  payload jsonb NOT NULL,
  -- SHA-256 of the payload's text as jsonb writes it.
  payload_hash bytea NOT NULL CHECK (octet_length(payload_hash) = 32),
  -- When it happened, not when it was linked.
  created_at timestamptz NOT NULL,
  PRIMARY KEY (chain_kind, lenser_id, seq)
);
ALTER TABLE audit.hash_chains ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.hash_chains
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE audit.hash_chains ENABLE ALWAYS TRIGGER deny_mutation;
CREATE POLICY own_chain ON audit.hash_chains FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON audit.hash_chains TO authenticated;

-- The last entry of each chain. Its row lock, taken last in a transaction, is what makes commit order sequence order.
CREATE TABLE audit.chain_heads (
  chain_kind text NOT NULL,
  lenser_id uuid NOT NULL,
  seq bigint NOT NULL,
  entry_hash bytea NOT NULL CHECK (octet_length(entry_hash) = 32),
  PRIMARY KEY (chain_kind, lenser_id)
) WITH (fillfactor = 50);
ALTER TABLE audit.chain_heads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE DELETE OR TRUNCATE ON audit.chain_heads
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE audit.chain_heads ENABLE ALWAYS TRIGGER deny_mutation;

-- What prev_hash is in the first entry of a chain.
CREATE FUNCTION audit.fn_genesis() RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN decode(repeat('00', 32), 'hex');
END
$$;

-- The hash of an entry: SHA-256 of its canonical JSON (RFC 8785) with hashes in hex and the time in microseconds since 1970.
-- Values need no escaping: they are hex, UUIDs, integers and names that a CHECK holds to [a-z_.].
CREATE FUNCTION audit.fn_entry_hash(p_entry audit.hash_chains) RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN sha256(convert_to(
    '{"chain_kind":"' || p_entry.chain_kind
    || '","created_at":' || (extract(epoch FROM p_entry.created_at) * 1000000)::bigint
    || ',"device_id":' || coalesce('"' || p_entry.device_id || '"', 'null')
    || ',"digest":' || coalesce('"' || encode(p_entry.digest, 'hex') || '"', 'null')
    || ',"event_kind":"' || p_entry.event_kind
    || '","kid":' || coalesce('"' || p_entry.kid || '"', 'null')
    || ',"lenser_id":"' || p_entry.lenser_id
    || '","op_id":' || coalesce('"' || p_entry.op_id || '"', 'null')
    || ',"payload_hash":"' || encode(p_entry.payload_hash, 'hex')
    || '","prev_hash":"' || encode(p_entry.prev_hash, 'hex')
    || '","seq":' || p_entry.seq || '}', 'UTF8'));
END
$$;

-- Leaves an audit record in the caller's transaction; the audit-chain worker links it.
CREATE FUNCTION audit.fn_record(
  p_lenser uuid, p_device uuid, p_kid uuid, p_op uuid, p_event text, p_digest bytea, p_payload jsonb
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO audit.pending (lenser_id, device_id, kid, op_id, event_kind, digest, payload)
  VALUES (p_lenser, p_device, p_kid, p_op, p_event, p_digest, p_payload);
END
$$;

-- Appends to a Lenser's chain in the caller's transaction, which holds that chain from here to its end: call it last.
CREATE FUNCTION audit.fn_append(p_kind text, p_lenser uuid, p_device uuid, p_event text, p_payload jsonb) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_entry audit.hash_chains;
BEGIN
  INSERT INTO audit.chain_heads (chain_kind, lenser_id, seq, entry_hash)
  VALUES (p_kind, p_lenser, 0, audit.fn_genesis())
  ON CONFLICT DO NOTHING;
  SELECT h.seq + 1, h.entry_hash INTO v_entry.seq, v_entry.prev_hash
    FROM audit.chain_heads h
   WHERE h.chain_kind = p_kind AND h.lenser_id = p_lenser
     FOR UPDATE;
  v_entry.chain_kind := p_kind;
  v_entry.lenser_id := p_lenser;
  v_entry.device_id := p_device;
  v_entry.event_kind := p_event;
  v_entry.payload := p_payload;
  v_entry.payload_hash := sha256(convert_to(p_payload::text, 'UTF8'));
  v_entry.created_at := now();
  v_entry.entry_hash := audit.fn_entry_hash(v_entry);
  INSERT INTO audit.hash_chains SELECT (v_entry).*;
  UPDATE audit.chain_heads h
     SET seq = v_entry.seq, entry_hash = v_entry.entry_hash
   WHERE h.chain_kind = p_kind AND h.lenser_id = p_lenser;
  RETURN v_entry.seq;
END
$$;
