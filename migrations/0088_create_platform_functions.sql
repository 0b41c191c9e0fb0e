-- What people and the platform do around the gateway, as far as the ladder rests on it: publish lens versions, make agents,
-- join battles and submit. Called through PostgREST: whose something is follows from auth.uid() alone (law 4).
SET LOCAL ROLE ltg_owner;

-- The caller's account, locked, so that what it has is counted without a race. 42501 where nobody with an account calls.
CREATE FUNCTION lensers.fn_lock_caller() RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid;
BEGIN
  SELECT p.id INTO v_lenser FROM lensers.profiles p WHERE p.user_id = auth.uid() FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'sign in first' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN v_lenser;
END
$$;

-- Refuses one more of what there are p_count of already, of at most what the limit says: 54000.
CREATE FUNCTION lensers.fn_check_bound(p_limit text, p_count bigint) RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_count >= devices.fn_limit(p_limit) THEN
    RAISE EXCEPTION 'at most %: %', devices.fn_limit(p_limit), p_limit USING ERRCODE = 'program_limit_exceeded';
  END IF;
END
$$;

-- The caller's lens of that name, made where it is missing.
CREATE FUNCTION lenses.fn_lens_named(p_lenser uuid, p_name text) RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := (SELECT l.id FROM lenses.lenses l WHERE l.lenser_id = p_lenser AND l.name = p_name);
BEGIN
  IF v_id IS NULL THEN
    PERFORM lensers.fn_check_bound('lensesPerLenser', (SELECT count(*) FROM lenses.lenses l WHERE l.lenser_id = p_lenser));
    INSERT INTO lenses.lenses (lenser_id, name) VALUES (p_lenser, p_name) RETURNING id INTO v_id;
  END IF;
  RETURN v_id;
END
$$;

-- The caller's workflow of that name, made where it is missing; null without a name.
CREATE FUNCTION lenses.fn_workflow_named(p_lenser uuid, p_name text) RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := (SELECT w.id FROM lenses.workflows w WHERE w.lenser_id = p_lenser AND w.name = p_name);
BEGIN
  IF v_id IS NULL AND p_name IS NOT NULL THEN
    PERFORM lensers.fn_check_bound('lensesPerLenser', (SELECT count(*) FROM lenses.workflows w WHERE w.lenser_id = p_lenser));
    INSERT INTO lenses.workflows (lenser_id, name) VALUES (p_lenser, p_name) RETURNING id INTO v_id;
  END IF;
  RETURN v_id;
END
$$;

-- Publishes the next version of the caller's lens and returns its id: SHA-256 of the lens and of the workflow that it runs.
-- Without a workflow both its name and its hash are null. What was published before stays as it is.
CREATE FUNCTION lenses.fn_version_publish(p_lens text, p_workflow text, p_lens_hash bytea, p_workflow_hash bytea)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid := lensers.fn_lock_caller();
  v_lens uuid := lenses.fn_lens_named(v_lenser, p_lens);
  v_workflow uuid := lenses.fn_workflow_named(v_lenser, p_workflow);
  v_last bigint := (SELECT coalesce(max(v.number), 0) FROM lenses.versions v WHERE v.lens_id = v_lens);
  v_version uuid;
BEGIN
  PERFORM lensers.fn_check_bound('versionsPerLens', v_last);
  INSERT INTO lenses.versions (lenser_id, lens_id, number, lens_hash, workflow_id, workflow_hash)
  VALUES (v_lenser, v_lens, v_last + 1, p_lens_hash, v_workflow, p_workflow_hash)
  RETURNING id INTO v_version;
  RETURN v_version;
END
$$;

-- Makes an AI agent of the caller's and returns its id.
CREATE FUNCTION agents.fn_ai_lenser_create(p_name text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid := lensers.fn_lock_caller();
  v_agent uuid;
BEGIN
  PERFORM lensers.fn_check_bound(
    'agentsPerLenser', (SELECT count(*) FROM agents.ai_lensers a WHERE a.owner_lenser_id = v_lenser));
  INSERT INTO agents.ai_lensers (owner_lenser_id, name) VALUES (v_lenser, p_name) RETURNING id INTO v_agent;
  RETURN v_agent;
END
$$;

-- Holds a battle open until the transaction ends: P0002 where there is none of that id, 55000 where it is closed.
CREATE FUNCTION battles.fn_hold_open(p_battle uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_status text;
BEGIN
  SELECT b.status INTO v_status FROM battles.battles b WHERE b.id = p_battle FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such battle' USING ERRCODE = 'no_data_found';
  ELSIF v_status <> 'open' THEN
    RAISE EXCEPTION 'the battle is closed' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$$;

-- Joins an open battle as a contender and returns its id; whoever joined as the same before is that contender. A human is
-- the caller; an `ai_agent` is one of the caller's agents, an `ai_runner` one of the caller's runners: 22023 where it is not.
CREATE FUNCTION battles.fn_contender_join(p_battle uuid, p_kind text, p_agent uuid, p_runner uuid) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid := lensers.fn_lock_caller();
  v_contender uuid;
BEGIN
  PERFORM battles.fn_hold_open(p_battle);
  IF NOT (CASE p_kind
       WHEN 'human' THEN p_agent IS NULL AND p_runner IS NULL
       WHEN 'ai_agent' THEN p_runner IS NULL AND EXISTS (
         SELECT FROM agents.ai_lensers a WHERE a.id = p_agent AND a.owner_lenser_id = v_lenser)
       WHEN 'ai_runner' THEN p_agent IS NULL AND EXISTS (
         SELECT FROM execution.runners r WHERE r.id = p_runner AND r.lenser_id = v_lenser)
       ELSE false END) THEN
    RAISE EXCEPTION 'no contender of yours' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT c.id INTO v_contender FROM battles.contenders c
   WHERE c.battle_id = p_battle AND c.owner_lenser_id = v_lenser AND c.kind = p_kind
     AND (c.agent_id, c.runner_id) IS NOT DISTINCT FROM (p_agent, p_runner)
   ORDER BY c.id LIMIT 1;
  IF NOT FOUND THEN
    PERFORM lensers.fn_check_bound('contendersPerBattle', (
      SELECT count(*) FROM battles.contenders c WHERE c.battle_id = p_battle AND c.owner_lenser_id = v_lenser));
    INSERT INTO battles.contenders (battle_id, kind, owner_lenser_id, agent_id, runner_id)
    VALUES (p_battle, p_kind, v_lenser, p_agent, p_runner)
    RETURNING id INTO v_contender;
  END IF;
  RETURN v_contender;
END
$$;

-- Submits for a contender of the caller's in a battle that is open, and returns the submission's id: what a run can back.
CREATE FUNCTION battles.fn_submit(p_contender uuid) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid := lensers.fn_lock_caller();
  v_battle uuid;
  v_submission uuid;
BEGIN
  SELECT c.battle_id INTO v_battle FROM battles.contenders c WHERE c.id = p_contender AND c.owner_lenser_id = v_lenser;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no contender of yours' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM battles.fn_hold_open(v_battle);
  PERFORM lensers.fn_check_bound('submissionsPerContender', (
    SELECT count(*) FROM battles.submissions s WHERE s.contender_id = p_contender));
  INSERT INTO battles.submissions (battle_id, contender_id, submitter_lenser_id)
  VALUES (v_battle, p_contender, v_lenser)
  RETURNING id INTO v_submission;
  RETURN v_submission;
END
$$;
CREATE INDEX contenders_battle_id_idx ON battles.contenders (battle_id, owner_lenser_id);
CREATE INDEX submissions_contender_id_idx ON battles.submissions (contender_id) WHERE contender_id IS NOT NULL;
CREATE INDEX ai_lensers_owner_lenser_id_idx ON agents.ai_lensers (owner_lenser_id);

GRANT EXECUTE ON FUNCTION
  lenses.fn_version_publish(text, text, bytea, bytea),
  agents.fn_ai_lenser_create(text),
  battles.fn_contender_join(uuid, text, uuid, uuid),
  battles.fn_submit(uuid)
TO authenticated;

-- The platform opens battles.
CREATE FUNCTION battles.fn_battle_open(p_title text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_battle uuid;
BEGIN
  INSERT INTO battles.battles (title) VALUES (p_title) RETURNING id INTO v_battle;
  RETURN v_battle;
END
$$;

-- Closes a battle for good, once the submissions under way are in; whether it was open. P0002 where there is none.
CREATE FUNCTION battles.fn_battle_close(p_battle uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_status text;
BEGIN
  SELECT b.status INTO v_status FROM battles.battles b WHERE b.id = p_battle FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no such battle' USING ERRCODE = 'no_data_found';
  END IF;
  UPDATE battles.battles SET status = 'closed' WHERE id = p_battle AND status = 'open';
  RETURN v_status = 'open';
END
$$;
GRANT USAGE ON SCHEMA battles TO service_role;
GRANT EXECUTE ON FUNCTION battles.fn_battle_open(text), battles.fn_battle_close(uuid) TO service_role;

-- Runs rest on contenders: kind, owner, agent and runner stay what they were.
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON battles.contenders
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE battles.contenders ENABLE ALWAYS TRIGGER deny_mutation;

-- A submission stays, and is nobody else's once a run backs it. Whoever links a run holds the submission's row.
CREATE FUNCTION battles.fn_guard_submission() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.id = OLD.id
     AND ((NEW.battle_id, NEW.contender_id, NEW.submitter_lenser_id)
            IS NOT DISTINCT FROM (OLD.battle_id, OLD.contender_id, OLD.submitter_lenser_id)
          OR NOT EXISTS (SELECT FROM execution.links l WHERE l.submission_id = OLD.id)) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a submission that a run backs stays as it is' USING ERRCODE = 'LT003';
END
$$;
CREATE TRIGGER guard_submission BEFORE UPDATE ON battles.submissions
  FOR EACH ROW EXECUTE FUNCTION battles.fn_guard_submission();
ALTER TABLE battles.submissions ENABLE ALWAYS TRIGGER guard_submission;
CREATE TRIGGER deny_mutation BEFORE DELETE OR TRUNCATE ON battles.submissions
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE battles.submissions ENABLE ALWAYS TRIGGER deny_mutation;
