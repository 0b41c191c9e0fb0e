-- What an account may change within a while: every change takes its device's row, which that device's claims wait for, and leaves
-- a result and an audit record for good. Counted in what was committed, so it holds over replicas and is never reset; requests in
-- flight at once are not counted yet, and a registrar works on a bounded number.
--
-- What restricts is never refused for it: `revoke`, `suspend` and `session_revoke`. Each is bounded otherwise. Where it changes
-- something, that cannot be had again without a change that is counted (another device, a reinstatement, a sign-in); where it
-- changes nothing, it takes no lock, and beyond the bound it is answered and not written down.
SET LOCAL ROLE ltg_owner;

-- The requests that leave something behind. A test holds the list to the contract's.
CREATE INDEX operations_requests_idx ON devices.operations (lenser_id, committed_at)
  WHERE kind IN ('login', 'register', 'approve', 'revoke', 'suspend', 'reinstate', 'rotation_require', 'reprove', 'runner_bind',
                 'runner_unbind', 'policy_set', 'approval_decide', 'session_revoke', 'api_key_create',
                 'sync_resolve', 'sync_undo');
-- Runners that are bound to a device, or no more, change nothing of it.
CREATE INDEX operations_device_idx ON devices.operations (device_id, committed_at)
  WHERE device_id IS NOT NULL AND kind NOT IN ('runner_bind', 'runner_unbind');

-- Whole seconds from now until a time, as an answer says when to ask again: 1 to 3,600.
CREATE FUNCTION devices.fn_seconds_until(p_time timestamptz) RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT least(3600, greatest(1, ceil(extract(epoch FROM p_time - now()))))::integer
$$;

-- What refuses a change that is one too many; p_most of them within p_window are allowed, the first of which is p_first.
CREATE FUNCTION devices.fn_change_limit(p_what text, p_first timestamptz, p_window interval) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_seconds integer := devices.fn_seconds_until(p_first + p_window);
BEGIN
  RETURN devices.fn_refusal('change_limit', format('%s; again in %s s', p_what, v_seconds), v_seconds);
END
$$;

-- Why a session changes nothing more of an account now, or null. API keys leave a part to those who signed in: with a stolen one
-- nobody keeps its owner from what ends the theft.
CREATE FUNCTION devices.fn_account_limit(p_lenser uuid, p_session uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  c_hour CONSTANT interval := '1 hour';
  v_most CONSTANT bigint := devices.fn_limit(CASE
    WHEN EXISTS (SELECT FROM lensers.sessions s WHERE s.kid = p_session AND s.scope <> 'owner') THEN 'apiKeyChangesPerHour'
    ELSE 'accountChangesPerHour' END);
  v_first timestamptz;
BEGIN
  SELECT o.committed_at INTO v_first
    FROM devices.operations o
   WHERE o.lenser_id = p_lenser AND o.committed_at > now() - c_hour
     AND o.kind IN ('login', 'register', 'approve', 'revoke', 'suspend', 'reinstate', 'rotation_require', 'reprove', 'runner_bind',
                    'runner_unbind', 'policy_set', 'approval_decide', 'session_revoke', 'api_key_create',
                 'sync_resolve', 'sync_undo')
   ORDER BY o.committed_at DESC OFFSET v_most - 1 LIMIT 1;
  RETURN CASE WHEN FOUND
    THEN devices.fn_change_limit(format('this account made %s changes within the hour', v_most), v_first, c_hour) END;
END
$$;

-- Why its owner changes a device no more now, or null. Its row need not be locked.
CREATE FUNCTION devices.fn_device_limit(p_device uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  c_hour CONSTANT interval := '1 hour';
  v_most CONSTANT bigint := devices.fn_limit('deviceChangesPerHour');
  v_first timestamptz;
BEGIN
  SELECT o.committed_at INTO v_first
    FROM devices.operations o
   WHERE o.device_id = p_device AND o.kind NOT IN ('runner_bind', 'runner_unbind') AND o.committed_at > now() - c_hour
   ORDER BY o.committed_at DESC OFFSET v_most - 1 LIMIT 1;
  RETURN CASE WHEN FOUND
    THEN devices.fn_change_limit(format('this device was changed %s times within the hour', v_most), v_first, c_hour) END;
END
$$;

-- For how long a replaced key's envelopes may still be under way, and its replacement is one of those that are counted.
CREATE FUNCTION devices.fn_key_window() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (devices.fn_claim_keep_seconds() + devices.fn_limit('keyOverlapSeconds')) * interval '1 second'
$$;

-- Why a device's key is not replaced in that way (`rotated`, `reproved`) once more now, or null: no more keys than appliers try
-- (devices.fn_retired_keys) are replaced while what they signed may still be under way. Each way has its own count, so that whoever
-- stole a key cannot rotate it so often that its owner's word must wait.
CREATE FUNCTION devices.fn_key_limit(p_device uuid, p_how text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_window CONSTANT interval := devices.fn_key_window();
  v_most CONSTANT bigint := devices.fn_limit('keyChangesPerWindow');
  v_first timestamptz;
BEGIN
  SELECT k.since INTO v_first
    FROM devices.device_keys k WHERE k.device_id = p_device AND k.how = p_how AND k.since > now() - v_window
   ORDER BY k.number DESC OFFSET v_most - 1 LIMIT 1;
  RETURN CASE WHEN FOUND
    THEN devices.fn_change_limit(format('its key was %s %s times of late', p_how, v_most), v_first, v_window) END;
END
$$;

-- Why a device cannot be changed so in its state, or null; the same function judges once more under the row's lock.
CREATE FUNCTION devices.fn_state_limit(p_kind text, p_device devices.registered_devices) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE
    WHEN p_kind = 'approve' THEN devices.fn_approval_refusal(p_device)
    WHEN p_kind = 'revoke' THEN devices.fn_revocation_refusal(p_device, NULL)
    WHEN p_kind = 'suspend' THEN devices.fn_suspension_refusal(p_device)
    WHEN p_kind = 'reinstate' THEN devices.fn_reinstatement_refusal(p_device)
    WHEN p_kind IN ('reprove', 'rotation_require') THEN devices.fn_key_change_refusal(p_device)
    WHEN p_kind = 'runner_bind' THEN execution.fn_binding_refusal(p_device)
  END;
END
$$;

-- Why a request may not change that device now, or null: its state, and how often it was changed of late.
CREATE FUNCTION devices.fn_change_refusal(p_kind text, p_device devices.registered_devices) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_refusal jsonb := devices.fn_state_limit(p_kind, p_device);
BEGIN
  IF v_refusal IS NOT NULL OR p_kind IN ('revoke', 'suspend', 'runner_bind') THEN
    RETURN v_refusal;
  ELSIF p_kind = 'reprove' THEN
    -- The owner's way out of a stolen key: bounded by its own count alone.
    RETURN devices.fn_key_limit(p_device.id, 'reproved');
  END IF;
  RETURN devices.fn_device_limit(p_device.id);
END
$$;

-- Whether what a request asks for is so already and can only stay so: nothing is to be locked or waited for.
CREATE FUNCTION devices.fn_is_settled(p_request devices.request, p_device devices.registered_devices) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_kind text := (p_request.parts).kind;
  v_since timestamptz;
BEGIN
  IF v_kind = 'suspend' THEN
    RETURN p_device.trust_level = 'unhealthy';
  ELSIF v_kind <> 'revoke' OR p_device.trust_level <> 'revoked' THEN
    RETURN false;
  END IF;
  v_since := devices.fn_compromised_since(p_request.parts);
  -- What was stored since then counts for nothing already.
  RETURN v_since IS NULL OR EXISTS (
    SELECT FROM devices.compromises k
     WHERE k.device_id = p_device.id AND k.kind = 'revoked' AND k.key_number IS NULL AND k.since <= v_since);
END
$$;

-- Why the date since when others knew a revoked device's key is not put back once more now, or null.
CREATE FUNCTION devices.fn_dating_limit(p_device uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_hour CONSTANT interval := '1 hour';
  v_most CONSTANT bigint := devices.fn_limit('deviceChangesPerHour');
  v_first timestamptz;
BEGIN
  SELECT k.declared_at INTO v_first
    FROM devices.compromises k WHERE k.device_id = p_device AND k.kind = 'revoked' AND k.declared_at > now() - c_hour
   ORDER BY k.declared_at DESC OFFSET v_most - 1 LIMIT 1;
  RETURN CASE WHEN FOUND
    THEN devices.fn_change_limit(format('its compromise was dated back %s times within the hour', v_most), v_first, c_hour) END;
END
$$;

-- Commits what a request that restricts, or a login that is refused, came to. Beyond its account's bound, one that changed
-- nothing is answered alone: asked again, it comes to the same.
CREATE FUNCTION devices.fn_commit_restriction(p_request devices.request, p_device uuid, p_outcome jsonb, p_is_change boolean)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT p_is_change AND devices.fn_account_limit(p_request.lenser_id, (p_request.parts).kid) IS NOT NULL THEN
    RETURN p_outcome;
  END IF;
  RETURN devices.fn_operation_commit(p_request.parts, p_request.lenser_id, p_device, p_outcome);
END
$$;
