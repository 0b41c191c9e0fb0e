-- The execution ladder (trust.md) as a table of facts. Pure: nothing here reads a row.
SET LOCAL ROLE ltg_owner;

-- Each level needs its own facts and those of every level before; `unverified` needs none.
CREATE FUNCTION execution.fn_ladder() RETURNS TABLE (step integer, level text, facts text[])
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY VALUES
    (1, 'account_verified', ARRAY['requester_is_submitter']),
    (2, 'agent_verified', ARRAY['contender_is_agent', 'contender_owned']),
    (3, 'device_verified', ARRAY['attested', 'device_trusted', 'heartbeat_fresh', 'version_unchanged']),
    (4, 'runner_verified', ARRAY['runner_named', 'binding_active']),
    (5, 'execution_verified', ARRAY['signed', 'gateway_verified']),
    (6, 'fully_trusted', ARRAY['policy_passed', 'workflow_hash', 'lens_hash']);
END
$$;

-- The level that facts reach, the first fact that stops it there (none at the top), and step by step what is missing.
-- A fact holds only where it is the JSON value true.
CREATE FUNCTION execution.fn_judge(p_facts jsonb, OUT level text, OUT reason text, OUT ladder jsonb)
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_step record;
  v_fact text;
  v_failing text[];
BEGIN
  level := 'unverified';
  ladder := '[]';
  FOR v_step IN SELECT l.level AS name, l.facts FROM execution.fn_ladder() l ORDER BY l.step LOOP
    v_failing := '{}';
    -- Fact by fact in plain expressions: a query a step costs four times as much, and every evaluation is judged twice.
    FOREACH v_fact IN ARRAY v_step.facts LOOP
      IF p_facts -> v_fact IS DISTINCT FROM 'true'::jsonb THEN
        v_failing := v_failing || v_fact;
      END IF;
    END LOOP;
    reason := coalesce(reason, v_failing[1]);
    IF reason IS NULL THEN
      level := v_step.name;
    END IF;
    ladder := ladder || jsonb_build_object('level', v_step.name, 'reached', reason IS NULL, 'failing', v_failing);
  END LOOP;
END
$$;

CREATE FUNCTION execution.fn_trust_level(p_facts jsonb) RETURNS text
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT j.level FROM execution.fn_judge(p_facts) j);
END
$$;
