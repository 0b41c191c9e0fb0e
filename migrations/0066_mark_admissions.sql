-- What takes something from a signer marks its connections, in the transaction of the change. What gives something marks none:
-- the edge connects anew when it wants that.
SET LOCAL ROLE ltg_owner;

-- Tells whoever cuts connections that some are due. A notice that gets lost costs the time until the next look, no more.
CREATE FUNCTION devices.fn_notify_cut() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_notify('ltg_cut', '');
END
$$;

-- Whether a device of the second level may send less than one of the first.
CREATE FUNCTION devices.fn_level_takes(p_from text, p_to text) RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (
    SELECT k.kind FROM devices.kind_states k WHERE k.trust_level = p_from
    EXCEPT SELECT k.kind FROM devices.kind_states k WHERE k.trust_level = p_to
  );
END
$$;

-- Whether a session of the second scope may ask for less than one of the first.
CREATE FUNCTION devices.fn_scope_takes(p_from text, p_to text) RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (
    SELECT k.kind FROM devices.session_kinds k WHERE k.scope = p_from
    EXCEPT SELECT k.kind FROM devices.session_kinds k WHERE k.scope = p_to
  );
END
$$;

-- A lower level cuts at once. So does another key, unless the former one is still good for a while: then what was admitted under
-- it is cut when that is over. A key whose end was brought forward cuts then, where it takes something: past it a device may do
-- what an unhealthy one may.
CREATE FUNCTION devices.fn_mark_devices() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_due timestamptz[];
BEGIN
  -- Heartbeats come by here by the hundred.
  PERFORM FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE (o.trust_level, o.key_number) <> (n.trust_level, n.key_number)
      OR n.key_expires_at < o.key_expires_at
      OR coalesce(o.public_key, o.submitted_public_key) IS DISTINCT FROM coalesce(n.public_key, n.submitted_public_key);
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  WITH marked AS (
    UPDATE devices.admissions a
       SET due_at = c.due_at, cause = c.cause, kicks_left = 3
      FROM (
        SELECT a.id, CASE WHEN l.is_lower THEN 'level' ELSE 'key' END AS cause,
               CASE WHEN l.is_lower THEN v_now
                    WHEN NOT l.is_other_key THEN greatest(v_now, n.key_expires_at)
                    WHEN n.former_public_key = o.public_key AND n.former_key_until > v_now THEN n.former_key_until
                    ELSE v_now END AS due_at
          FROM new_rows n
          JOIN old_rows o ON o.id = n.id
          JOIN devices.admissions a ON a.kid = n.id
         CROSS JOIN LATERAL (
           SELECT devices.fn_level_takes(a.trust_level, n.trust_level) AS is_lower,
                  o.key_number <> n.key_number
                  OR coalesce(o.public_key, o.submitted_public_key)
                     IS DISTINCT FROM coalesce(n.public_key, n.submitted_public_key) AS is_other_key
         ) l
         WHERE l.is_lower OR l.is_other_key
            OR (n.key_expires_at < o.key_expires_at
                AND n.key_expires_at < a.admitted_at + devices.fn_admission_life()
                AND devices.fn_level_takes(a.trust_level, 'unhealthy'))
      ) c
     WHERE a.id = c.id AND (a.due_at IS NULL OR a.due_at > c.due_at)
    RETURNING a.due_at
  )
  SELECT array_agg(m.due_at) INTO v_due FROM marked m;
  IF v_now = ANY (v_due) THEN
    PERFORM devices.fn_notify_cut();
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER mark_admissions AFTER UPDATE ON devices.registered_devices
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_mark_devices();
ALTER TABLE devices.registered_devices ENABLE ALWAYS TRIGGER mark_admissions;

-- A session that was revoked, or that may ask for less, is cut at once; one whose end was brought forward, then.
CREATE FUNCTION devices.fn_mark_sessions() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_due timestamptz[];
BEGIN
  WITH marked AS (
    UPDATE devices.admissions a
       SET due_at = c.due_at, cause = 'session', kicks_left = 3
      FROM (
        SELECT a.id, CASE WHEN l.is_less THEN v_now ELSE greatest(v_now, n.expires_at) END AS due_at
          FROM new_rows n
          JOIN old_rows o ON o.kid = n.kid
          JOIN devices.admissions a ON a.kid = n.kid
         CROSS JOIN LATERAL (
           SELECT (o.revoked_at IS NULL AND n.revoked_at IS NOT NULL) OR devices.fn_scope_takes(a.scope, n.scope) AS is_less
         ) l
         WHERE l.is_less OR n.expires_at < o.expires_at
      ) c
     WHERE a.id = c.id AND (a.due_at IS NULL OR a.due_at > c.due_at)
    RETURNING a.due_at
  )
  SELECT array_agg(m.due_at) INTO v_due FROM marked m;
  IF v_now = ANY (v_due) THEN
    PERFORM devices.fn_notify_cut();
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER mark_admissions AFTER UPDATE ON lensers.sessions
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_mark_sessions();
ALTER TABLE lensers.sessions ENABLE ALWAYS TRIGGER mark_admissions;

-- A session that is no more has no connection.
CREATE FUNCTION devices.fn_mark_removed_sessions() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE devices.admissions a SET due_at = clock_timestamp(), cause = 'session', kicks_left = 3
    FROM old_rows o
   WHERE a.kid = o.kid AND (a.due_at IS NULL OR a.due_at > clock_timestamp());
  IF FOUND THEN
    PERFORM devices.fn_notify_cut();
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER mark_removed AFTER DELETE ON lensers.sessions
  REFERENCING OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_mark_removed_sessions();
ALTER TABLE lensers.sessions ENABLE ALWAYS TRIGGER mark_removed;
