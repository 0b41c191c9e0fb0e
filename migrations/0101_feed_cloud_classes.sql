-- What the cloud alone decides, as objects that edges pull (rule 13). Writers leave keys, a batch with one statement, and the
-- sequencer reads what is so when it comes to them.
SET LOCAL ROLE ltg_owner;

-- What each of these objects says at present; null where there is none, or none of this account any more.
CREATE FUNCTION devices.fn_cloud_values(p_keys devices.sync_key[])
RETURNS TABLE (lenser_id uuid, class text, object text, value jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
  SELECT k.lenser_id, k.class, k.object, jsonb_build_object('total', coalesce(x.total, 0))
    FROM unnest(p_keys) k
   CROSS JOIN LATERAL (SELECT sum(l.amount) AS total FROM xp.ledger l WHERE l.lenser_id = k.lenser_id) x
   WHERE k.class = 'xp_total'
  UNION ALL
  SELECT k.lenser_id, k.class, k.object, jsonb_build_object(
           'level', e.trust_level, 'reason', e.reason, 'submission', e.submission_id,
           'evaluated_at', execution.fn_unix_ms(e.evaluated_at))
    FROM unnest(p_keys) k
    JOIN LATERAL (
      SELECT * FROM execution.trust_evaluations t
       WHERE t.run_id = CASE k.class WHEN 'trust_evaluation' THEN k.object::uuid END
       ORDER BY t.id + 0 DESC LIMIT 1) e ON e.lenser_id = k.lenser_id
   WHERE k.class = 'trust_evaluation'
  UNION ALL
  SELECT k.lenser_id, k.class, k.object,
         CASE WHEN c.lenser_id = k.lenser_id THEN jsonb_build_object(
           'battle', s.battle_id, 'contender', s.contender_id, 'level', c.trust_level) END
    FROM unnest(p_keys) k
    JOIN reputation.submission_levels c ON c.submission_id = CASE k.class WHEN 'battle_result' THEN k.object::uuid END
    JOIN battles.submissions s ON s.id = c.submission_id
   WHERE k.class = 'battle_result'
  UNION ALL
  SELECT k.lenser_id, k.class, k.object, CASE k.class
           WHEN 'policy' THEN jsonb_build_object(
             'approval_default', w.approval_default, 'approval_seconds', w.approval_seconds,
             'denied_tools', w.denied_tools, 'runner_paused', w.runner_paused)
           WHEN 'kill_switch' THEN jsonb_build_object('global_kill_switch', w.global_kill_switch)
           ELSE jsonb_build_object('percent', w.dark_launch_percent) END
    FROM unnest(p_keys) k
    JOIN agents.workspace_settings w ON w.lenser_id = k.lenser_id
   WHERE k.class IN ('policy', 'kill_switch', 'dark_launch')
  UNION ALL
  SELECT k.lenser_id, k.class, k.object,
         jsonb_build_object('daily_runs', q.daily_runs, 'max_parallel_runs', q.max_parallel_runs)
    FROM unnest(p_keys) k
    JOIN agents.quotas q ON q.lenser_id = k.lenser_id
   WHERE k.class = 'budget'
  UNION ALL
  SELECT k.lenser_id, k.class, k.object, CASE WHEN m.retired_at IS NULL THEN jsonb_build_object(
           'name', m.name, 'vendor', m.vendor, 'route', m.route) END
    FROM unnest(p_keys) k
    JOIN agents.ai_catalog m ON m.id = k.object
   WHERE k.class = 'ai_catalog';
END
$$;

CREATE FUNCTION devices.fn_pend_xp() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object)
  SELECT DISTINCT c.lenser_id, 'xp_total', 'total' FROM changed c;
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT ON xp.ledger
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_pend_xp();

CREATE FUNCTION devices.fn_pend_evaluation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object)
  SELECT DISTINCT c.lenser_id, 'trust_evaluation', c.run_id::text FROM changed c;
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT ON execution.trust_evaluations
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION devices.fn_pend_evaluation();

-- Of whose it was before, too: it is no longer theirs.
CREATE FUNCTION devices.fn_pend_result() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object)
  SELECT DISTINCT l.id, 'battle_result', NEW.submission_id::text
    FROM unnest(ARRAY[OLD.lenser_id, NEW.lenser_id]) l (id) WHERE l.id IS NOT NULL;
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT OR UPDATE ON reputation.submission_levels
  FOR EACH ROW EXECUTE FUNCTION devices.fn_pend_result();

CREATE FUNCTION devices.fn_pend_settings() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object) VALUES
    (NEW.lenser_id, 'policy', 'policy'),
    (NEW.lenser_id, 'kill_switch', 'workspace'),
    (NEW.lenser_id, 'dark_launch', 'dark_launch');
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT OR UPDATE ON agents.workspace_settings
  FOR EACH ROW EXECUTE FUNCTION devices.fn_pend_settings();

CREATE FUNCTION devices.fn_pend_budget() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object) VALUES (NEW.lenser_id, 'budget', 'budget');
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT OR UPDATE ON agents.quotas
  FOR EACH ROW EXECUTE FUNCTION devices.fn_pend_budget();

CREATE FUNCTION devices.fn_pend_model() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO devices.sync_pending (lenser_id, class, object)
  VALUES ('00000000-0000-0000-0000-000000000000', 'ai_catalog', NEW.id);
  RETURN NULL;
END
$$;
CREATE TRIGGER pend_change AFTER INSERT OR UPDATE ON agents.ai_catalog
  FOR EACH ROW EXECUTE FUNCTION devices.fn_pend_model();

-- Puts a model into the catalog, or changes what it says there; whether anything changed. 23514 where a value is out of bounds.
CREATE FUNCTION agents.fn_catalog_set(p_id text, p_name text, p_vendor text, p_route text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO agents.ai_catalog AS m (id, name, vendor, route) VALUES (p_id, p_name, p_vendor, p_route)
  ON CONFLICT (id) DO UPDATE
    SET name = p_name, vendor = p_vendor, route = p_route, version = m.version + 1, retired_at = NULL, changed_at = now()
    WHERE (m.name, m.vendor, m.route, m.retired_at IS NULL) <> (p_name, p_vendor, p_route, true);
  RETURN FOUND;
END
$$;

-- Takes a model out of the catalog; whether it was in it.
CREATE FUNCTION agents.fn_catalog_retire(p_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE agents.ai_catalog m SET retired_at = now(), version = m.version + 1, changed_at = now()
   WHERE m.id = p_id AND m.retired_at IS NULL;
  RETURN FOUND;
END
$$;
GRANT USAGE ON SCHEMA agents TO service_role;
GRANT EXECUTE ON FUNCTION agents.fn_catalog_set(text, text, text, text), agents.fn_catalog_retire(text) TO service_role;
