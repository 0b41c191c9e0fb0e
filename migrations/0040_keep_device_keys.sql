-- The keys that devices have had: what a device signed stays checkable against the key that it had then.
SET LOCAL ROLE ltg_owner;

-- A key is one device's alone, and never again anybody's: the public key is unique among all devices of all accounts.
CREATE TABLE devices.device_keys (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  number integer NOT NULL CHECK (number >= 1),
  public_key bytea NOT NULL UNIQUE CHECK (octet_length(public_key) = 32),
  how text NOT NULL CHECK (how IN ('registered', 'rotated', 'reproved')),
  since timestamptz NOT NULL,
  -- What the broker stored until then may be signed by it; null for the one in force.
  until timestamptz,
  PRIMARY KEY (device_id, number)
);
ALTER TABLE devices.device_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_keys ON devices.device_keys FOR SELECT TO authenticated
  USING (device_id IN (SELECT d.id FROM devices.registered_devices d));
GRANT SELECT ON devices.device_keys TO authenticated;

-- History only grows: the one change that a key's row knows is its end, once.
CREATE FUNCTION devices.fn_key_only_ends() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF OLD.until IS NULL AND NEW.until IS NOT NULL
     AND (NEW.device_id, NEW.number, NEW.public_key, NEW.how, NEW.since)
       = (OLD.device_id, OLD.number, OLD.public_key, OLD.how, OLD.since) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a key can only end' USING ERRCODE = 'LT003';
END
$$;
CREATE TRIGGER only_ends BEFORE UPDATE ON devices.device_keys
  FOR EACH ROW EXECUTE FUNCTION devices.fn_key_only_ends();
ALTER TABLE devices.device_keys ENABLE ALWAYS TRIGGER only_ends;
CREATE TRIGGER deny_mutation BEFORE DELETE OR TRUNCATE ON devices.device_keys
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.device_keys ENABLE ALWAYS TRIGGER deny_mutation;

-- A device goes from one key to the next and counts them, whoever changes it; every key has its end from the start.
CREATE FUNCTION devices.fn_guard_key() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.public_key IS NULL THEN
    RAISE EXCEPTION 'a device that has a key keeps one' USING ERRCODE = 'check_violation';
  ELSIF NEW.public_key = OLD.public_key
    OR NEW.key_number <> OLD.key_number + (OLD.public_key IS NOT NULL)::integer
    OR NEW.former_public_key <> OLD.public_key
  THEN
    RAISE EXCEPTION 'a device goes from one key to the next' USING ERRCODE = 'LT003';
  END IF;
  NEW.key_expires_at := clock_timestamp() + devices.fn_limit('keyMaxAgeDays') * interval '1 day';
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_key BEFORE UPDATE ON devices.registered_devices
  FOR EACH ROW WHEN (
    OLD.public_key IS DISTINCT FROM NEW.public_key OR OLD.key_number <> NEW.key_number
    OR (NEW.former_public_key IS NOT NULL AND NEW.former_public_key IS DISTINCT FROM OLD.former_public_key))
  EXECUTE FUNCTION devices.fn_guard_key();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER guard_key;

-- By trigger, so that no change of a key is without its history. One that leaves a former key in force is a rotation.
CREATE FUNCTION devices.fn_keep_key() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_how text := 'registered';
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.public_key IS NOT NULL THEN
    v_how := CASE WHEN NEW.former_public_key IS NULL THEN 'reproved' ELSE 'rotated' END;
    UPDATE devices.device_keys SET until = coalesce(NEW.former_key_until, v_now)
     WHERE device_id = NEW.id AND number = OLD.key_number;
  END IF;
  INSERT INTO devices.device_keys (device_id, number, public_key, how, since)
  VALUES (NEW.id, NEW.key_number, NEW.public_key, v_how, v_now);
  RETURN NULL;
END
$$;
CREATE TRIGGER keep_first_key AFTER INSERT ON devices.registered_devices
  FOR EACH ROW WHEN (NEW.public_key IS NOT NULL) EXECUTE FUNCTION devices.fn_keep_key();
CREATE TRIGGER keep_key AFTER UPDATE ON devices.registered_devices
  FOR EACH ROW WHEN (OLD.public_key IS DISTINCT FROM NEW.public_key) EXECUTE FUNCTION devices.fn_keep_key();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER keep_first_key;
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER keep_key;

ALTER TABLE execution.attestations ADD FOREIGN KEY (device_id, key_number) REFERENCES devices.device_keys (device_id, number);

-- Whether an owner vouched for another key after this one: then this one is dead whenever its envelopes were stored.
CREATE FUNCTION devices.fn_is_reproved_since(p_device uuid, p_number integer) RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM devices.device_keys k WHERE k.device_id = p_device AND k.number > p_number AND k.how = 'reproved');
END
$$;

-- Why what a device's former key signed does not count, or null: it was stored while that key was good.
CREATE FUNCTION devices.fn_former_key_refusal(p_device uuid, p_number integer, p_stored_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM devices.device_keys k
    WHERE k.device_id = p_device AND k.number = p_number AND p_stored_at <= k.until;
  IF FOUND AND NOT devices.fn_is_reproved_since(p_device, p_number) THEN
    RETURN NULL;
  END IF;
  RETURN devices.fn_refusal('signature_mismatch', 'the key that signed it was replaced');
END
$$;

-- The last keys that devices had before the one in force, as far as something that they signed may still be under way, for the
-- appliers that check signatures themselves. good_until_ns: nanoseconds since 1970; null where the key is dead whatever the time.
CREATE FUNCTION devices.fn_retired_keys(p_kids uuid[])
RETURNS TABLE (kid uuid, number integer, public_key bytea, good_until_ns bigint)
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Each is tried against a signature. No device has replaced more in that time: devices.fn_key_limit, of each way.
  v_most_keys CONSTANT bigint := 2 * devices.fn_limit('keyChangesPerWindow');
BEGIN
  RETURN QUERY
  SELECT asked.id, k.number, k.public_key,
         CASE WHEN NOT devices.fn_is_reproved_since(asked.id, k.number)
              THEN (extract(epoch FROM k.until) * 1000000000)::bigint END
    FROM (SELECT DISTINCT unnest(p_kids) AS id) asked
    CROSS JOIN LATERAL (
      SELECT * FROM devices.device_keys one
       WHERE one.device_id = asked.id AND one.until > now() - devices.fn_claim_keep_seconds() * interval '1 second'
       ORDER BY one.number DESC LIMIT v_most_keys) k;
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_retired_keys(uuid[]) TO ltg_registrar, ltg_trust_evaluator, ltg_sync_applier;
