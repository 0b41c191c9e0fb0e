SET LOCAL ROLE ltg_owner;

-- What functions need of an envelope. Every column that is stored comes from here: from the bytes that were signed.
CREATE TYPE devices.envelope_parts AS (
  -- SHA-256 of the bytes as received: what claims and receipts name it by.
  digest bytea,
  -- SHA-256 of the body's bytes without its counter: the same for each attempt at one operation, which is signed anew.
  content_digest bytea,
  kid uuid,
  iat bigint,
  nonce text,
  kind text,
  aud uuid,
  op_id uuid,
  -- Of what a device says through the `in` door; protocol.md, Clone detection.
  counter bigint,
  body jsonb,
  wire bytea
);

-- The bytes of a canonical body without its counter. A quote within a string is escaped there and a member follows `{` or `,`, so
-- the member's text begins at no other place than a member of that name, and the body's own is the first: no kind has another.
CREATE FUNCTION devices.fn_without_counter(p_bytes bytea, p_body jsonb) RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_member bytea := convert_to(concat(',"counter":', p_body ->> 'counter'), 'UTF8');
  v_at integer;
BEGIN
  IF NOT p_body ? 'counter' THEN
    RETURN p_bytes;
  END IF;
  v_at := position(v_member IN p_bytes);
  RETURN CASE WHEN v_at = 0 THEN p_bytes ELSE overlay(p_bytes PLACING ''::bytea FROM v_at FOR octet_length(v_member)) END;
END
$$;

-- Takes a canonical version 1 envelope apart (protocol.md, The envelope on the wire), which whoever claimed it found it to be.
-- The members around the body have one place each, counted from both ends; what is between is the body, and parses by itself.
-- LT001 where the text is not an envelope; no more than its form is judged.
CREATE FUNCTION devices.fn_read_envelope(p_text text) RETURNS devices.envelope_parts
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_head constant text := '{"alg":"ed25519","body":';
  -- From `,"kid":"` to the end.
  c_tail_chars constant integer := 180;
  -- `,"iat":` and a safe integer.
  c_iat_chars constant integer := 24;
  v_parts devices.envelope_parts;
  v_tail text := right(p_text, c_tail_chars);
  v_iat text := split_part(left(right(p_text, c_tail_chars + c_iat_chars), c_iat_chars), ',"iat":', -1);
  v_body bytea;
BEGIN
  -- Literals and character sets apart: a regular expression with counts costs ten times as much.
  IF p_text IS NULL OR NOT starts_with(p_text, c_head) OR v_iat = '' OR v_iat ~ '[^0-9-]'
    OR length(v_tail) <> c_tail_chars
    OR overlay(overlay(overlay(v_tail PLACING '' FROM 87 FOR 86) PLACING '' FROM 56 FOR 22) PLACING '' FROM 9 FOR 36)
       <> ',"kid":"","nonce":"","sig":"","v":1}'
    OR substring(v_tail FROM 56 FOR 22) || substring(v_tail FROM 87 FOR 86) ~ '[^A-Za-z0-9_-]'
    OR substring(v_tail FROM 9 FOR 36) ~ '[^0-9a-f-]'
  THEN
    RAISE EXCEPTION 'not an envelope' USING ERRCODE = 'LT001';
  END IF;
  v_parts.wire := convert_to(p_text, 'UTF8');
  v_body := substring(v_parts.wire FROM octet_length(c_head) + 1
    FOR octet_length(v_parts.wire) - octet_length(c_head) - octet_length(v_iat) - octet_length(',"iat":') - c_tail_chars);
  v_parts.digest := sha256(v_parts.wire);
  v_parts.nonce := substring(v_tail FROM 56 FOR 22);
  BEGIN
    v_parts.iat := v_iat;
    v_parts.kid := substring(v_tail FROM 9 FOR 36);
    v_parts.body := convert_from(v_body, 'UTF8');
    v_parts.kind := v_parts.body ->> 'kind';
    v_parts.aud := v_parts.body ->> 'aud';
    v_parts.op_id := v_parts.body ->> 'op_id';
    v_parts.counter := v_parts.body ->> 'counter';
  EXCEPTION
    WHEN data_exception OR program_limit_exceeded THEN
      v_parts.body := NULL;
  END;
  IF jsonb_typeof(v_parts.body) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION 'not an envelope' USING ERRCODE = 'LT001';
  END IF;
  v_parts.content_digest := sha256(devices.fn_without_counter(v_body, v_parts.body));
  RETURN v_parts;
END
$$;

-- The final result of every operation (law 2), committed with its effect. Append-only.
CREATE TABLE devices.operations (
  kid uuid NOT NULL,
  op_id uuid NOT NULL,
  kind text NOT NULL,
  content_digest bytea NOT NULL CHECK (octet_length(content_digest) = 32),
  -- Of the attempt that was applied.
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  lenser_id uuid NOT NULL,
  -- Of an owner's request: the device that it changed. What a device asks for is about itself.
  device_id uuid,
  -- NULL where it succeeded.
  code text REFERENCES devices.reasons (code),
  -- Of what was refused: {"detail": …} or empty.
  result jsonb NOT NULL CHECK (jsonb_typeof(result) = 'object'),
  committed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kid, op_id)
);
ALTER TABLE devices.operations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.operations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.operations ENABLE ALWAYS TRIGGER deny_mutation;

-- Why an op_id that is not on record cannot be used; null where it can.
CREATE FUNCTION devices.fn_op_id_refusal(p_op_id uuid, p_iat bigint) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_made_at timestamptz := CASE WHEN uuid_extract_version(p_op_id) = 7 THEN uuid_extract_timestamp(p_op_id) END;
BEGIN
  IF v_made_at IS NULL THEN
    RETURN devices.fn_refusal('malformed_body', 'op_id is not a UUIDv7');
  ELSIF v_made_at > to_timestamp(p_iat) + devices.fn_limit('operationLeadSeconds') * interval '1 second' THEN
    RETURN devices.fn_refusal('malformed_body', 'op_id is dated after the envelope');
  ELSIF v_made_at < now() - devices.fn_limit('operationMaxAgeDays') * interval '1 day' THEN
    RETURN devices.fn_refusal('op_expired');
  END IF;
  RETURN NULL;
END
$$;

-- What an attempt at an operation on record is told: its outcome, where it is the same operation. The kind is of the content.
CREATE FUNCTION devices.fn_operation_outcome(p_known devices.operations, p_content_digest bytea) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_known.content_digest <> p_content_digest THEN
    RETURN devices.fn_refusal('op_id_conflict');
  ELSIF p_known.code IS NULL THEN
    RETURN devices.fn_ok(p_known.result);
  END IF;
  RETURN devices.fn_refusal(p_known.code, p_known.result ->> 'detail');
END
$$;

-- Call it first. NULL where the operation is new, and then nobody else begins it until this transaction ends; else its outcome:
-- the one committed before, or why its id cannot be used. Several in one transaction: in (kid, op_id) order, or by
-- devices.fn_begin_verified, which does the same for a batch.
CREATE FUNCTION devices.fn_operation_begin(p devices.envelope_parts) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_known devices.operations;
BEGIN
  IF uuid_extract_version(p.op_id) = 7 THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(p.kid || ' ' || p.op_id, 0));
    SELECT o.* INTO v_known FROM devices.operations o WHERE o.kid = p.kid AND o.op_id = p.op_id;
    IF FOUND THEN
      RETURN devices.fn_operation_outcome(v_known, p.content_digest);
    END IF;
  END IF;
  RETURN devices.fn_op_id_refusal(p.op_id, p.iat);
END
$$;

-- Call it when the effect is done: stores a final outcome with its audit record (AU-2) and returns it. What an edge sends again
-- (resign, wait) is no result and is not stored, nor what nobody's account is behind: p_lenser NULL. p_note: what the record
-- tells besides the outcome.
CREATE FUNCTION devices.fn_operation_commit(
  p devices.envelope_parts, p_lenser uuid, p_device uuid, p_outcome jsonb, p_note jsonb DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_is_ok boolean NOT NULL := (p_outcome ->> 'ok')::boolean;
  v_next text;
BEGIN
  IF NOT v_is_ok THEN
    SELECT r.next INTO STRICT v_next FROM devices.reasons r WHERE r.code = p_outcome ->> 'code';
  END IF;
  IF p_lenser IS NULL OR v_next <> 'stop' THEN
    RETURN p_outcome;
  END IF;
  INSERT INTO devices.operations (kid, op_id, kind, content_digest, digest, lenser_id, device_id, code, result)
  VALUES (p.kid, p.op_id, p.kind, p.content_digest, p.digest, p_lenser, nullif(p_device, p.kid), p_outcome ->> 'code',
          CASE WHEN v_is_ok THEN p_outcome -> 'result' ELSE jsonb_strip_nulls(jsonb_build_object('detail', p_outcome -> 'detail')) END);
  PERFORM audit.fn_record(p_lenser, p_device, p.kid, p.op_id, p.kind, p.digest, p_outcome || p_note);
  RETURN p_outcome;
END
$$;
