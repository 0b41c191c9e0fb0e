-- Guards append-only tables: for every role, superusers and the owner too. It tells which table and which statement.
CREATE FUNCTION public.fn_deny_mutation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION '%.% refuses %', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'LT003', HINT = 'Its rows are evidence: they are added and never changed.';
END
$$;
ALTER FUNCTION public.fn_deny_mutation() OWNER TO ltg_owner;
REVOKE ALL ON FUNCTION public.fn_deny_mutation() FROM PUBLIC;

-- What was applied is evidence too. The migration runner made the table before there was an owner.
DO $$
BEGIN
  IF to_regclass('public.migrations') IS NOT NULL THEN
    ALTER TABLE public.migrations OWNER TO ltg_owner;
    ALTER TABLE public.migrations ENABLE ROW LEVEL SECURITY;
    ALTER TABLE public.migrations FORCE ROW LEVEL SECURITY;
    CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON public.migrations
      FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
    ALTER TABLE public.migrations ENABLE ALWAYS TRIGGER deny_mutation;
  END IF;
END
$$;

SET LOCAL ROLE ltg_owner;

-- Who calls, by the token that PostgREST checked: plain PostgreSQL and Supabase behave alike.
DO $$
BEGIN
  IF to_regprocedure('auth.uid()') IS NULL THEN
    CREATE FUNCTION auth.uid() RETURNS uuid
    LANGUAGE sql
    STABLE
    SET search_path = pg_catalog, pg_temp
    AS $fn$
      SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
    $fn$;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
    GRANT EXECUTE ON FUNCTION auth.uid() TO anon, authenticated, service_role;
  END IF;
END
$$;

-- Base64url without padding, as digests and keys are written in messages (RFC 4648 §5).
CREATE FUNCTION devices.fn_b64url(p_bytes bytea) RETURNS text
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN translate(encode(p_bytes, 'base64'), E'+/=\n', '-_');
END
$$;

-- The bytes of base64url text; LT001 where it is not the one text that fn_b64url writes for them.
CREATE FUNCTION devices.fn_b64url_decode(p_text text) RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_bytes bytea;
BEGIN
  -- Asked first: what decode() could throw on would have to be caught, which costs more than all of this.
  IF p_text !~ '[^A-Za-z0-9_-]' AND length(p_text) % 4 <> 1 THEN
    v_bytes := decode(translate(p_text, '-_', '+/') || repeat('=', (4 - length(p_text) % 4) % 4), 'base64');
  END IF;
  IF v_bytes IS NULL OR devices.fn_b64url(v_bytes) <> p_text THEN
    RAISE EXCEPTION 'not base64url without padding' USING ERRCODE = 'LT001';
  END IF;
  RETURN v_bytes;
END
$$;

-- The kid of keys that name themselves: the first 16 bytes of the key's SHA-256 as a version 8 UUID (RFC 9562 §5.8).
CREATE FUNCTION devices.fn_kid_of_key(p_public_key bytea) RETURNS uuid
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id bytea := substring(sha256(p_public_key) FROM 1 FOR 16);
BEGIN
  v_id := set_byte(v_id, 6, (get_byte(v_id, 6) & 15) | 128);
  v_id := set_byte(v_id, 8, (get_byte(v_id, 8) & 63) | 128);
  RETURN encode(v_id, 'hex')::uuid;
END
$$;
