SET LOCAL ROLE ltg_owner;

CREATE TABLE devices.registered_devices (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  device_type text NOT NULL CHECK (device_type IN ('desktop', 'laptop', 'server', 'ci')),
  os text NOT NULL CHECK (char_length(os) BETWEEN 1 AND 64),
  capabilities jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(capabilities) = 'array'),
  -- The key that registration brought; its challenge is verified against it (DA-2).
  submitted_public_key bytea CHECK (octet_length(submitted_public_key) = 32),
  -- The same key once the owner approved it: everything after is verified against this one.
  public_key bytea CHECK (octet_length(public_key) = 32),
  -- Counts the keys that the device has had; devices.device_keys keeps them all.
  key_number integer NOT NULL DEFAULT 1 CHECK (key_number >= 1),
  -- When its key is to be replaced at the latest. Past it, the device may do what an unhealthy one may.
  key_expires_at timestamptz,
  -- The key before this one, good for what the broker stored until then: envelopes in flight when the key was replaced.
  former_public_key bytea CHECK (octet_length(former_public_key) = 32),
  former_key_until timestamptz,
  -- Imported from before devices had keys: it has none, gets none, and signs nothing.
  is_legacy boolean NOT NULL DEFAULT false,
  signing_algo text NOT NULL DEFAULT 'ed25519' CHECK (signing_algo = 'ed25519'),
  trust_level text NOT NULL DEFAULT 'pending'
    CHECK (trust_level IN ('pending', 'approved', 'trusted', 'offline', 'unhealthy', 'revoked', 'blocked')),
  -- What offline, unhealthy and blocked return to. The transition trigger alone keeps it.
  earlier_level text,
  trust_reason text,
  -- Who caused the last transition.
  trust_actor text,
  -- What trust_reason was when the platform blocked the device: it comes back with the level. The transition trigger alone keeps it.
  earlier_reason text,
  -- Since when it is unhealthy, a block in between included. The transition trigger alone keeps it.
  unhealthy_since timestamptz,
  challenge bytea CHECK (octet_length(challenge) = 16),
  challenge_expires_at timestamptz,
  challenge_verified_at timestamptz,
  last_heartbeat_at timestamptz,
  daemon_version text,
  -- Informational: never used for authorization.
  gateway_status text NOT NULL DEFAULT 'disconnected',
  created_at timestamptz NOT NULL DEFAULT now(),
  approved_at timestamptz,
  revoked_at timestamptz,
  -- Makes a change of trust_level or of the key a key update, which waits for FOR KEY SHARE; heartbeats change other columns and do not.
  -- So whoever acts on a device's level locks its row FOR KEY SHARE, in id order, and a revoke waits for claims in flight.
  UNIQUE (id, trust_level, key_number),
  -- DR-5.
  CONSTRAINT approved_has_public_key
    CHECK (trust_level IN ('pending', 'revoked', 'blocked') OR public_key IS NOT NULL OR is_legacy),
  CONSTRAINT legacy_has_no_key
    CHECK (NOT is_legacy OR (public_key IS NULL AND submitted_public_key IS NULL AND former_public_key IS NULL)),
  CHECK ((former_public_key IS NULL) = (former_key_until IS NULL)),
  CHECK (trust_level <> 'revoked' OR revoked_at IS NOT NULL)
) WITH (fillfactor = 70);
-- DR-4. A revoked device's name becomes free, also where the platform blocks that device afterwards.
CREATE UNIQUE INDEX registered_devices_name_key ON devices.registered_devices (lenser_id, name) WHERE revoked_at IS NULL;
-- An account's devices, those that it revoked too: nobody's list reads everybody's.
CREATE INDEX registered_devices_lenser_id_idx ON devices.registered_devices (lenser_id);

ALTER TABLE devices.registered_devices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_devices ON devices.registered_devices FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON devices.registered_devices TO authenticated;

-- A device is revoked, never removed: its attestations and audit entries name it.
CREATE TRIGGER deny_mutation BEFORE DELETE OR TRUNCATE ON devices.registered_devices
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER deny_mutation;

-- DR-2: every device starts pending, so that all it becomes later is a transition. Legacy rows are imported by whoever may
-- act as the owner role: no function that a service calls makes one.
CREATE FUNCTION devices.fn_guard_registration() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.trust_level <> 'pending' OR NEW.earlier_level IS NOT NULL OR NEW.unhealthy_since IS NOT NULL
    OR NEW.revoked_at IS NOT NULL THEN
    RAISE EXCEPTION 'a device starts pending' USING ERRCODE = 'LT002';
  END IF;
  IF NEW.is_legacy AND NOT pg_has_role(session_user, 'ltg_owner', 'MEMBER') THEN
    RAISE EXCEPTION 'a device is registered with its key' USING ERRCODE = 'LT002';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_registration BEFORE INSERT ON devices.registered_devices
  FOR EACH ROW EXECUTE FUNCTION devices.fn_guard_registration();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER guard_registration;

-- What a device that goes from one level to another returns to later. Where it lost its way back to approved or trusted
-- (unhealthy or offline, then blocked), it is approved: trusted is earned again.
CREATE FUNCTION devices.fn_earlier_level(p_from text, p_to text, p_earlier text) RETURNS text
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE
    WHEN p_to = 'blocked' THEN p_from
    WHEN p_to NOT IN ('offline', 'unhealthy') THEN NULL
    WHEN p_from IN ('approved', 'trusted') THEN p_from
    WHEN p_from = 'blocked' THEN 'approved'
    ELSE p_earlier
  END;
END
$$;

-- Who causes a transition: the one that the statement names, or the only one who may.
CREATE FUNCTION devices.fn_transition_actor(p_from text, p_to text, p_named text) RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_actors text[];
BEGIN
  SELECT array_agg(t.actor) INTO v_actors
    FROM devices.trust_transitions t WHERE t.from_level = p_from AND t.to_level = p_to;
  IF p_named = ANY (v_actors) THEN
    RETURN p_named;
  ELSIF cardinality(v_actors) > 1 THEN
    RAISE EXCEPTION 'several may bring a device from % to %: say who does', p_from, p_to USING ERRCODE = 'LT002';
  END IF;
  RETURN v_actors[1];
END
$$;

-- Refuses a statement that names somebody who may not cause the transition that it asks for, or names anybody without one.
-- It fires for statements that name the column, and only those: the row's own value is the last transition's.
CREATE FUNCTION devices.fn_guard_actor() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.trust_level = OLD.trust_level THEN
    IF NEW.trust_actor IS DISTINCT FROM OLD.trust_actor THEN
      RAISE EXCEPTION 'only a transition has somebody who caused it' USING ERRCODE = 'LT002';
    END IF;
  ELSIF NOT EXISTS (SELECT FROM devices.trust_transitions t
                     WHERE t.from_level = OLD.trust_level AND t.to_level = NEW.trust_level AND t.actor = NEW.trust_actor) THEN
    RAISE EXCEPTION 'a device does not go from % to % by %', OLD.trust_level, NEW.trust_level, NEW.trust_actor
      USING ERRCODE = 'LT002';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_actor BEFORE UPDATE OF trust_actor ON devices.registered_devices
  FOR EACH ROW EXECUTE FUNCTION devices.fn_guard_actor();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER guard_actor;

-- Refuses what is no transition of the table, and a return to another level than the one left.
CREATE FUNCTION devices.fn_guard_transition() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (NEW.id, NEW.lenser_id, NEW.is_legacy) <> (OLD.id, OLD.lenser_id, OLD.is_legacy) THEN
    RAISE EXCEPTION 'a device keeps its id, its account and where it came from' USING ERRCODE = 'LT003';
  END IF;
  IF NEW.trust_level = OLD.trust_level THEN
    IF (NEW.earlier_level, NEW.earlier_reason, NEW.unhealthy_since, NEW.revoked_at)
       IS DISTINCT FROM (OLD.earlier_level, OLD.earlier_reason, OLD.unhealthy_since, OLD.revoked_at) THEN
      RAISE EXCEPTION 'only a transition sets these' USING ERRCODE = 'LT002';
    END IF;
    RETURN NEW;
  END IF;
  NEW.trust_actor := devices.fn_transition_actor(OLD.trust_level, NEW.trust_level, NEW.trust_actor);
  IF NEW.trust_actor IS NULL
    OR (OLD.trust_level = 'blocked' AND NEW.trust_level <> OLD.earlier_level)
    OR (OLD.trust_level IN ('offline', 'unhealthy') AND NEW.trust_level IN ('approved', 'trusted')
        AND NEW.trust_level <> OLD.earlier_level)
  THEN
    RAISE EXCEPTION 'a device does not go from % to %', OLD.trust_level, NEW.trust_level USING ERRCODE = 'LT002';
  END IF;
  NEW.earlier_level := devices.fn_earlier_level(OLD.trust_level, NEW.trust_level, OLD.earlier_level);
  NEW.earlier_reason := CASE WHEN NEW.trust_level = 'blocked' THEN OLD.trust_reason END;
  -- By the clock that device_keys.since is told by, under the row's lock: which came first can be told.
  NEW.unhealthy_since := CASE NEW.trust_level
    WHEN 'unhealthy' THEN coalesce(OLD.unhealthy_since, clock_timestamp())
    WHEN 'blocked' THEN OLD.unhealthy_since
  END;
  NEW.approved_at := CASE WHEN OLD.trust_level = 'pending' AND NEW.trust_level = 'approved' THEN now() ELSE OLD.approved_at END;
  NEW.revoked_at := CASE WHEN NEW.trust_level = 'revoked' THEN coalesce(OLD.revoked_at, now()) ELSE OLD.revoked_at END;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_transition BEFORE UPDATE ON devices.registered_devices
  FOR EACH ROW EXECUTE FUNCTION devices.fn_guard_transition();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER guard_transition;

-- AU-1: every transition is in its Lenser's chain before its statement ends; by statement and in Lenser order, so that two
-- statements about devices of several Lensers wait for one another and never both ways.
CREATE FUNCTION devices.fn_audit_registration() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM audit.fn_append('gateway', d.lenser_id, d.id, 'trust_transition',
            jsonb_build_object('from', NULL, 'to', d.trust_level, 'actor', 'owner', 'reason', d.trust_reason))
     FROM (SELECT * FROM new_rows ORDER BY lenser_id, id) d;
  RETURN NULL;
END
$$;
CREATE TRIGGER audit_registration AFTER INSERT ON devices.registered_devices
  REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_audit_registration();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER audit_registration;

CREATE FUNCTION devices.fn_audit_transition() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM audit.fn_append('gateway', d.lenser_id, d.id, 'trust_transition',
            jsonb_build_object('from', d.from_level, 'to', d.trust_level, 'actor', d.trust_actor, 'reason', d.trust_reason))
     FROM (
       SELECT n.lenser_id, n.id, o.trust_level AS from_level, n.trust_level, n.trust_actor, n.trust_reason
         FROM new_rows n
         JOIN old_rows o ON o.id = n.id AND o.trust_level <> n.trust_level
        ORDER BY n.lenser_id, n.id
     ) d;
  RETURN NULL;
END
$$;
CREATE TRIGGER audit_transition AFTER UPDATE ON devices.registered_devices
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_audit_transition();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER audit_transition;

-- The record of each signer that has one: a device by its id, a session by its key's. A device's key is the one in force, or
-- while pending the one that it brought; without either it is no signer. The key before it is there as long as a message that
-- it signed may still be judged.
CREATE FUNCTION devices.fn_signers(p_kids uuid[])
RETURNS TABLE (
  kid uuid, signer text, lenser_id uuid, public_key bytea, trust_level text, expires_at timestamptz, revoked_at timestamptz,
  key_number integer, former_public_key bytea
)
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT d.id, 'device', d.lenser_id, coalesce(d.public_key, d.submitted_public_key), d.trust_level,
         NULL::timestamptz, d.revoked_at, d.key_number,
         CASE WHEN d.former_key_until > now() - devices.fn_claim_keep_seconds() * interval '1 second'
              THEN d.former_public_key END
    FROM devices.registered_devices d
   WHERE d.id = ANY (p_kids) AND coalesce(d.public_key, d.submitted_public_key) IS NOT NULL
  UNION ALL
  SELECT s.kid, 'session', s.lenser_id, s.public_key, NULL, s.expires_at, s.revoked_at, NULL, NULL
    FROM lensers.sessions s
   WHERE s.kid = ANY (p_kids);
END
$$;
GRANT EXECUTE ON FUNCTION devices.fn_signers(uuid[])
  TO ltg_broker_auth, ltg_registrar, ltg_verifier, ltg_trust_evaluator, ltg_sync_applier;
