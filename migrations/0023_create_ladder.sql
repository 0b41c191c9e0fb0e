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

-- Every fact of every level, as facts are written when all of them hold.
CREATE FUNCTION execution.fn_ladder_facts() RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT jsonb_object_agg(fact, true) FROM execution.fn_ladder() l CROSS JOIN unnest(l.facts) fact);
END
$$;

-- What execution.fn_judge says of them.
CREATE FUNCTION execution.fn_ladder_reached() RETURNS jsonb
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_agg(jsonb_build_object('level', l.level, 'reached', true, 'failing', '{}'::text[]) ORDER BY l.step)
      FROM execution.fn_ladder() l);
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
  -- Nearly every attested run, judged twice each: two constants, worked out once a session.
  IF p_facts @> execution.fn_ladder_facts() THEN
    ladder := execution.fn_ladder_reached();
    level := ladder #>> '{-1,level}';
    RETURN;
  END IF;
  level := 'unverified';
  ladder := '[]';
  FOR v_step IN SELECT l.level AS name, l.facts FROM execution.fn_ladder() l ORDER BY l.step LOOP
    v_failing := '{}';
    -- Fact by fact in plain expressions: a query a step costs four times as much.
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
  RETURN (execution.fn_judge(p_facts)).level;
END
$$;
