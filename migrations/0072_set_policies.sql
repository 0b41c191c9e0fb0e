-- An account's pre-run policy: shown, tried, changed.
SET LOCAL ROLE ltg_owner;

-- The policy and how much of it is used up, as its owner is shown it. Times are Unix seconds; changed_at null: it never was.
CREATE FUNCTION agents.fn_show_policy(p_lenser uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_settings agents.workspace_settings;
  v_quota agents.quotas;
BEGIN
  SELECT * INTO v_settings FROM agents.workspace_settings s WHERE s.lenser_id = p_lenser;
  SELECT * INTO v_quota FROM agents.quotas q WHERE q.lenser_id = p_lenser;
  RETURN jsonb_build_object(
    'settings', jsonb_build_object(
      'approval_default', coalesce(v_settings.approval_default, 'allow'),
      'runner_paused', coalesce(v_settings.runner_paused, false),
      'daily_runs', v_quota.daily_runs,
      'max_parallel_runs', v_quota.max_parallel_runs,
      'dark_launch_percent', coalesce(v_settings.dark_launch_percent, 100),
      'approval_seconds', coalesce(v_settings.approval_seconds, devices.fn_limit('approvalSeconds')),
      'denied_tools', coalesce(v_settings.denied_tools, '{}'),
      'kill_switch', coalesce(v_settings.global_kill_switch, false)),
    'used', (SELECT jsonb_build_object('runs_today', u.runs_today, 'parallel_runs', u.parallel_runs)
               FROM agents.fn_used(ARRAY[p_lenser]) u),
    'changed_at', devices.fn_unix(greatest(v_settings.changed_at, v_quota.changed_at)));
END
$$;

CREATE FUNCTION agents.fn_policy_show(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'policy_show', false);
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  RETURN devices.fn_ok(agents.fn_show_policy(v_request.lenser_id));
END
$$;

-- What a run would be told just now; nothing is recorded, and nothing is permitted by it.
CREATE FUNCTION agents.fn_policy_test(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'policy_test', false);
  v_version lenses.versions;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  IF (v_request.parts).body ? 'version_id' THEN
    SELECT * INTO v_version FROM lenses.versions v
     WHERE v.id = ((v_request.parts).body ->> 'version_id')::uuid AND v.lenser_id = v_request.lenser_id;
    IF NOT FOUND THEN
      RETURN devices.fn_refusal('unknown_version');
    END IF;
  END IF;
  RETURN (
    SELECT devices.fn_ok(jsonb_build_object('verdict', v.verdict, 'reason', v.reason))
      FROM agents.fn_used(ARRAY[v_request.lenser_id]) u
      LEFT JOIN agents.workspace_settings s ON s.lenser_id = u.lenser_id
      LEFT JOIN agents.quotas q ON q.lenser_id = u.lenser_id
      CROSS JOIN LATERAL agents.fn_policy_verdict(
        s, v_version.workflow_id, u.runs_today >= q.daily_runs, u.parallel_runs >= q.max_parallel_runs) v);
END
$$;

-- The denied tools after a change: the list that is to stand in their place, or they themselves with some taken away and some
-- added. Pure.
CREATE FUNCTION agents.fn_denied_after(p_denied text[], p_body jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT p_body ?| ARRAY['denied_tools', 'denied_tools_add', 'denied_tools_remove'] THEN
    RETURN p_denied;
  END IF;
  RETURN ARRAY(
    SELECT d.name
      FROM ((SELECT unnest(p_denied) AS name WHERE NOT p_body ? 'denied_tools')
            EXCEPT (SELECT jsonb_array_elements_text(p_body -> 'denied_tools_remove'))
            UNION (SELECT jsonb_array_elements_text(p_body -> 'denied_tools_add'))
            UNION (SELECT jsonb_array_elements_text(p_body -> 'denied_tools'))) d
     ORDER BY d.name);
END
$$;

-- Why the denied tools are not changed so, or null. The bounds hold for what comes of it, whatever it was made of.
CREATE FUNCTION agents.fn_denials_refusal(p_denied text[], p_body jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most CONSTANT bigint := devices.fn_limit('deniedTools');
  c_most_bytes CONSTANT bigint := devices.fn_limit('deniedToolsBytes');
  v_after CONSTANT text[] := agents.fn_denied_after(p_denied, p_body);
  v_detail text;
BEGIN
  v_detail := CASE
    WHEN NOT p_body ?| ARRAY['denied_tools', 'denied_tools_add', 'denied_tools_remove'] THEN NULL
    WHEN p_body ? 'denied_tools' AND p_body ?| ARRAY['denied_tools_add', 'denied_tools_remove']
      THEN 'denied_tools is the whole list: nothing is added to it or taken from it'
    WHEN EXISTS (SELECT jsonb_array_elements_text(p_body -> 'denied_tools_add')
                 INTERSECT SELECT jsonb_array_elements_text(p_body -> 'denied_tools_remove'))
      THEN 'a tool is to be denied and allowed at once'
    WHEN cardinality(v_after) > c_most THEN format('over %s tools would be denied', c_most)
    WHEN octet_length(to_jsonb(v_after)::text) > c_most_bytes
      OR octet_length((p_body -> 'denied_tools')::text) > c_most_bytes
      THEN format('denied_tools is over %s bytes', c_most_bytes)
  END;
  RETURN CASE WHEN v_detail IS NOT NULL THEN devices.fn_refusal('malformed_body', v_detail) END;
END
$$;

-- Writes the members that a request names; those that are absent stay, `null` takes a bound away.
CREATE FUNCTION agents.fn_write_policy(p_lenser uuid, p_body jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_body ?| ARRAY['approval_default', 'runner_paused', 'dark_launch_percent', 'approval_seconds', 'denied_tools',
                     'denied_tools_add', 'denied_tools_remove'] THEN
    INSERT INTO agents.workspace_settings (lenser_id) VALUES (p_lenser) ON CONFLICT DO NOTHING;
    UPDATE agents.workspace_settings s
       SET approval_default = coalesce(p_body ->> 'approval_default', s.approval_default),
           runner_paused = coalesce((p_body ->> 'runner_paused')::boolean, s.runner_paused),
           dark_launch_percent = coalesce((p_body ->> 'dark_launch_percent')::smallint, s.dark_launch_percent),
           approval_seconds = coalesce((p_body ->> 'approval_seconds')::integer, s.approval_seconds),
           denied_tools = agents.fn_denied_after(s.denied_tools, p_body),
           changed_at = now()
     WHERE s.lenser_id = p_lenser;
  END IF;
  IF p_body ?| ARRAY['daily_runs', 'max_parallel_runs'] THEN
    INSERT INTO agents.quotas (lenser_id) VALUES (p_lenser) ON CONFLICT DO NOTHING;
    UPDATE agents.quotas q
       SET daily_runs = CASE WHEN p_body ? 'daily_runs' THEN (p_body ->> 'daily_runs')::integer ELSE q.daily_runs END,
           max_parallel_runs = CASE WHEN p_body ? 'max_parallel_runs'
             THEN (p_body ->> 'max_parallel_runs')::integer ELSE q.max_parallel_runs END,
           changed_at = now()
     WHERE q.lenser_id = p_lenser;
  END IF;
END
$$;

-- Changes the account's policy. Its audit record tells which members became what (AU-2).
CREATE FUNCTION agents.fn_policy_set(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'policy_set', true);
  v_body jsonb := (v_request.parts).body;
  v_was jsonb;
  v_is jsonb;
  v_refusal jsonb;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- Two changes at once: each begins with what the other left, and what it changed is told by its own record.
  PERFORM FROM lensers.profiles p WHERE p.id = v_request.lenser_id FOR NO KEY UPDATE;
  v_refusal := agents.fn_denials_refusal(
    (SELECT s.denied_tools FROM agents.workspace_settings s WHERE s.lenser_id = v_request.lenser_id), v_body);
  IF v_refusal IS NOT NULL THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, v_refusal);
  END IF;
  v_was := agents.fn_show_policy(v_request.lenser_id) -> 'settings';
  PERFORM agents.fn_write_policy(v_request.lenser_id, v_body);
  v_is := agents.fn_show_policy(v_request.lenser_id);
  RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, devices.fn_ok(v_is), jsonb_build_object(
    'changed', (SELECT coalesce(jsonb_object_agg(m.key, m.value), '{}')
                  FROM jsonb_each(v_is -> 'settings') m WHERE v_was -> m.key <> m.value)));
END
$$;

GRANT EXECUTE ON FUNCTION agents.fn_policy_show(text), agents.fn_policy_test(text), agents.fn_policy_set(text)
  TO ltg_registrar;
