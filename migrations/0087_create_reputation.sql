-- Reputation: what an account's submissions count for, by the server's own levels and nothing else (AC-5; trust model,
-- "Anti-cheat path for battles").
SET LOCAL ROLE ltg_owner;

-- What each submission counts as at present, and for whom; null until it was counted. Counts change by what this says they
-- hold, so counting again changes nothing.
CREATE TABLE reputation.submission_levels (
  submission_id uuid PRIMARY KEY REFERENCES battles.submissions (id),
  lenser_id uuid REFERENCES lensers.profiles (id),
  trust_level text,
  CHECK ((lenser_id IS NULL) = (trust_level IS NULL))
);
ALTER TABLE reputation.submission_levels ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- An account's submissions by their present level.
CREATE TABLE reputation.lenser_scores (
  lenser_id uuid PRIMARY KEY REFERENCES lensers.profiles (id),
  unverified integer NOT NULL DEFAULT 0 CHECK (unverified >= 0),
  account_verified integer NOT NULL DEFAULT 0 CHECK (account_verified >= 0),
  agent_verified integer NOT NULL DEFAULT 0 CHECK (agent_verified >= 0),
  device_verified integer NOT NULL DEFAULT 0 CHECK (device_verified >= 0),
  runner_verified integer NOT NULL DEFAULT 0 CHECK (runner_verified >= 0),
  execution_verified integer NOT NULL DEFAULT 0 CHECK (execution_verified >= 0),
  -- Breaks ties on the leaderboard.
  fully_trusted integer NOT NULL DEFAULT 0 CHECK (fully_trusted >= 0),
  -- Lower levels add nothing: device_verified and runner_verified are a badge.
  score integer NOT NULL GENERATED ALWAYS AS (execution_verified + fully_trusted) STORED,
  computed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX lenser_scores_leaders_idx ON reputation.lenser_scores (score DESC, fully_trusted DESC, lenser_id);
ALTER TABLE reputation.lenser_scores ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY lenser_scores_own ON reputation.lenser_scores FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT USAGE ON SCHEMA reputation TO authenticated, service_role;
GRANT SELECT ON reputation.lenser_scores TO authenticated;

-- Adds to what an account has of one level.
CREATE FUNCTION reputation.fn_add(p_lenser uuid, p_level text, p_count integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO reputation.lenser_scores (lenser_id) VALUES (p_lenser) ON CONFLICT DO NOTHING;
  UPDATE reputation.lenser_scores s
     SET unverified = s.unverified + CASE p_level WHEN 'unverified' THEN p_count ELSE 0 END,
         account_verified = s.account_verified + CASE p_level WHEN 'account_verified' THEN p_count ELSE 0 END,
         agent_verified = s.agent_verified + CASE p_level WHEN 'agent_verified' THEN p_count ELSE 0 END,
         device_verified = s.device_verified + CASE p_level WHEN 'device_verified' THEN p_count ELSE 0 END,
         runner_verified = s.runner_verified + CASE p_level WHEN 'runner_verified' THEN p_count ELSE 0 END,
         execution_verified = s.execution_verified + CASE p_level WHEN 'execution_verified' THEN p_count ELSE 0 END,
         fully_trusted = s.fully_trusted + CASE p_level WHEN 'fully_trusted' THEN p_count ELSE 0 END,
         computed_at = now()
   WHERE s.lenser_id = p_lenser;
END
$$;

-- Counts a submission at its present level, the last that was evaluated, and no more at the one before. Who counts it holds
-- its row, so the last to count it has seen the last evaluation.
CREATE FUNCTION reputation.fn_count_submission(p_submission uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
  v_before reputation.submission_levels;
  v_now record;
BEGIN
  INSERT INTO reputation.submission_levels (submission_id)
  SELECT s.id FROM battles.submissions s WHERE s.id = p_submission
  ON CONFLICT DO NOTHING;
  SELECT * INTO v_before FROM reputation.submission_levels c WHERE c.submission_id = p_submission FOR UPDATE;
  SELECT s.submitter_lenser_id AS lenser_id, e.trust_level INTO v_now
    FROM battles.submissions s JOIN execution.trust_evaluations e ON e.submission_id = s.id
   WHERE s.id = p_submission ORDER BY e.id + 0 DESC LIMIT 1;
  IF NOT FOUND OR (v_now.lenser_id, v_now.trust_level) = (v_before.lenser_id, v_before.trust_level) THEN
    RETURN;
  END IF;
  UPDATE reputation.submission_levels c
     SET lenser_id = v_now.lenser_id, trust_level = v_now.trust_level
   WHERE c.submission_id = p_submission;
  IF v_before.trust_level IS NOT NULL THEN
    PERFORM reputation.fn_add(v_before.lenser_id, v_before.trust_level, -1);
  END IF;
  PERFORM reputation.fn_add(v_now.lenser_id, v_now.trust_level, 1);
END
$$;

-- The first p_limit accounts, at most 1,000: by score, ties by submissions that are fully trusted. Equals share a rank.
CREATE FUNCTION reputation.fn_leaderboard(p_limit integer)
RETURNS TABLE (rank bigint, lenser_id uuid, score integer, fully_trusted integer)
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT rank() OVER (ORDER BY s.score DESC, s.fully_trusted DESC), s.lenser_id, s.score, s.fully_trusted
    FROM reputation.lenser_scores s
   ORDER BY s.score DESC, s.fully_trusted DESC, s.lenser_id
   LIMIT least(p_limit, 1000);
END
$$;
GRANT EXECUTE ON FUNCTION reputation.fn_leaderboard(integer) TO service_role;
