-- Runs, what was allowed of them, and the submission that each backs. A run's row is its permit (trust.md, rule 5):
-- written once, by execution.fn_run_start, from the signed body and what the server knew at that moment.
SET LOCAL ROLE ltg_owner;

CREATE TABLE execution.runs (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  requester_lenser_id uuid NOT NULL,
  device_id uuid NOT NULL,
  op_id uuid NOT NULL,
  runner_id uuid,
  -- The runner's binding to this device when the permit was given; null where there was none.
  binding_id uuid,
  contender_id uuid REFERENCES battles.contenders (id),
  contender_kind text CHECK (contender_kind IN ('human', 'ai_agent', 'ai_runner')),
  contender_owned boolean NOT NULL,
  -- The submission that it is to back, once it is allowed.
  submission_id uuid REFERENCES battles.submissions (id),
  version_id uuid,
  lens_hash bytea,
  workflow_id uuid,
  workflow_hash bytea,
  command_hash bytea NOT NULL CHECK (octet_length(command_hash) = 32),
  inputs jsonb NOT NULL,
  -- What the device calls it, for whoever is asked to approve it: nothing rests on it.
  label text CHECK (char_length(label) BETWEEN 1 AND 120),
  -- When the broker stored the request, and when the permit was given (the database's clock).
  started_at timestamptz NOT NULL,
  issued_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (device_id, op_id),
  UNIQUE (id, requester_lenser_id, device_id),
  CHECK (binding_id IS NULL OR runner_id IS NOT NULL),
  FOREIGN KEY (device_id, requester_lenser_id) REFERENCES devices.registered_devices (id, lenser_id),
  FOREIGN KEY (runner_id, requester_lenser_id) REFERENCES execution.runners (id, lenser_id),
  FOREIGN KEY (binding_id, runner_id, device_id)
    REFERENCES execution.runner_device_bindings (id, runner_id, device_id),
  FOREIGN KEY (version_id, requester_lenser_id) REFERENCES lenses.versions (id, lenser_id)
);
CREATE INDEX runs_requester_lenser_id_idx ON execution.runs (requester_lenser_id, id);

-- Every verdict there was on a run (PE-1); the first is the one given with its permit.
CREATE TABLE agents.policy_evaluations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id uuid NOT NULL REFERENCES execution.runs (id),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  phase text NOT NULL CHECK (phase IN ('start', 'approval', 'renewal', 'withdrawal')),
  verdict text NOT NULL CHECK (verdict IN ('allow', 'deny', 'pause', 'require_approval')),
  reason text NOT NULL CHECK (reason IN (
    'kill_switch', 'runner_paused', 'budget_used_up', 'parallel_limit', 'dark_launch', 'approval_default_allow',
    'approval_default_require_human', 'approval_default_deny', 'approved', 'approval_denied', 'approval_expired',
    'withdrawn')),
  -- When the broker stored what asked for it, and its digest; of a person's answer, when it was committed.
  asked_at timestamptz NOT NULL,
  digest bytea CHECK (octet_length(digest) = 32),
  -- Up to when it covers the run; only what allows, and is the device's to know, covers any time.
  covered_until timestamptz,
  evaluated_at timestamptz NOT NULL DEFAULT now(),
  -- Of a renewal, how many there were of the run, this one among them: so that nobody has to count rows.
  renewals integer NOT NULL DEFAULT 0,
  CHECK (covered_until IS NULL OR verdict = 'allow' AND phase <> 'approval')
);
CREATE INDEX policy_evaluations_run_id_idx ON agents.policy_evaluations (run_id, id);
-- What comes again is not judged again.
CREATE UNIQUE INDEX policy_evaluations_digest_key ON agents.policy_evaluations (run_id, digest) WHERE digest IS NOT NULL;
CREATE INDEX policy_evaluations_covered_idx ON agents.policy_evaluations (lenser_id, covered_until)
  WHERE covered_until IS NOT NULL;
CREATE INDEX policy_evaluations_start_idx ON agents.policy_evaluations (lenser_id, evaluated_at)
  WHERE verdict = 'allow' AND phase <> 'renewal';

-- Runs that await a person; decided once, by one of the account's sessions, by its device that waits no longer, or by time.
CREATE TABLE agents.approvals (
  run_id uuid PRIMARY KEY REFERENCES execution.runs (id),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  requested_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  decision text CHECK (decision IN ('approve', 'deny', 'withdraw')),
  decided_at timestamptz,
  -- The session that decided, or the device that took it back.
  decided_by uuid,
  reason text CHECK (char_length(reason) <= 200),
  CHECK ((decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (decided_by IS NULL)),
  CHECK (decided_at < expires_at)
);
CREATE INDEX approvals_pending_idx ON agents.approvals (lenser_id, expires_at) WHERE decision IS NULL;

-- A run's tool log (WT-3, R12).
CREATE TABLE agents.tool_invocations (
  run_id uuid NOT NULL REFERENCES execution.runs (id),
  seq integer NOT NULL CHECK (seq >= 1),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  tool text NOT NULL CHECK (char_length(tool) BETWEEN 1 AND 128),
  arguments_hash bytea NOT NULL CHECK (octet_length(arguments_hash) = 32),
  verdict text NOT NULL CHECK (verdict IN ('allow', 'deny')),
  -- The denied name or beginning of names that it was.
  denied_by text,
  op_id uuid NOT NULL,
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  -- When the broker stored it.
  stored_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, seq),
  CHECK ((verdict = 'deny') = (denied_by IS NOT NULL))
);

-- One run, one submission (trust.md, rule 13).
CREATE TABLE execution.links (
  run_id uuid PRIMARY KEY REFERENCES execution.runs (id),
  submission_id uuid NOT NULL UNIQUE REFERENCES battles.submissions (id),
  linked_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.runs
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE execution.runs ENABLE ALWAYS TRIGGER deny_mutation;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON agents.policy_evaluations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE agents.policy_evaluations ENABLE ALWAYS TRIGGER deny_mutation;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON agents.tool_invocations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE agents.tool_invocations ENABLE ALWAYS TRIGGER deny_mutation;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.links
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE execution.links ENABLE ALWAYS TRIGGER deny_mutation;

ALTER TABLE execution.runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY runs_own ON execution.runs FOR SELECT TO authenticated
  USING (requester_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON execution.runs TO authenticated;

ALTER TABLE agents.policy_evaluations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY policy_evaluations_own ON agents.policy_evaluations FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.policy_evaluations TO authenticated;

ALTER TABLE agents.approvals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY approvals_own ON agents.approvals FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.approvals TO authenticated;

ALTER TABLE agents.tool_invocations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tool_invocations_own ON agents.tool_invocations FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.tool_invocations TO authenticated;

-- Who may see the run sees its link: the run's own policy decides.
ALTER TABLE execution.links ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY links_own ON execution.links FOR SELECT TO authenticated
  USING (run_id IN (SELECT id FROM execution.runs));
GRANT SELECT ON execution.links TO authenticated;

-- Whole milliseconds since 1970: how edges are told the times of a permit.
CREATE FUNCTION execution.fn_unix_ms(p_time timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT floor(extract(epoch FROM p_time) * 1000)::bigint
$$;

-- Where a workflow stands in a dark launch, 0 to 99: the first four bytes of the SHA-256 of its id's text, as one number, mod 100.
-- The id alone decides, so what is let in at one percentage stays in at every higher one.
CREATE FUNCTION agents.fn_launch_place(p_workflow_id uuid) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (('x' || left(encode(sha256(convert_to(p_workflow_id::text, 'UTF8')), 'hex'), 8))::bit(32)::bigint % 100)::integer
$$;

-- The pre-run policy's order; the first rule that decides is the verdict's reason. Pure: of an account without settings all
-- members are null. A run without a workflow is inside every dark launch.
CREATE FUNCTION agents.fn_policy_verdict(
  p_settings agents.workspace_settings, p_workflow_id uuid, p_budget_is_used boolean, p_parallel_is_reached boolean,
  OUT verdict text, OUT reason text
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  reason := CASE
    WHEN p_settings.global_kill_switch THEN 'kill_switch'
    WHEN p_settings.runner_paused THEN 'runner_paused'
    WHEN p_budget_is_used THEN 'budget_used_up'
    WHEN p_parallel_is_reached THEN 'parallel_limit'
    WHEN agents.fn_launch_place(p_workflow_id) >= p_settings.dark_launch_percent THEN 'dark_launch'
    ELSE 'approval_default_' || coalesce(p_settings.approval_default, 'allow')
  END;
  verdict := CASE reason
    WHEN 'approval_default_allow' THEN 'allow'
    WHEN 'approval_default_require_human' THEN 'require_approval'
    WHEN 'runner_paused' THEN 'pause'
    ELSE 'deny'
  END;
END
$$;

-- How much of their bounds accounts have used. Today's runs (UTC) are those that were allowed at their start or by a person;
-- parallel ones those under way, as execution.open_runs has them. What awaits a person holds its place in both until it is
-- decided or its time is over: nobody judges it again when it is approved, so an approval would pass the bound otherwise.
CREATE FUNCTION agents.fn_used(p_lensers uuid[])
RETURNS TABLE (lenser_id uuid, runs_today bigint, parallel_runs bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT l.id,
         (SELECT count(*) FROM agents.policy_evaluations e
           WHERE e.lenser_id = l.id AND e.verdict = 'allow' AND e.phase <> 'renewal'
             AND e.evaluated_at >= date_trunc('day', now(), 'UTC'))
         + (SELECT count(*) FROM agents.approvals a
             WHERE a.lenser_id = l.id AND a.decision IS NULL AND a.expires_at > now()),
         (SELECT count(*) FROM execution.open_runs o WHERE o.lenser_id = l.id AND o.open_until > now())
    FROM unnest(p_lensers) AS l (id);
END
$$;

-- Has whoever else judges runs of these accounts wait until this transaction ends, where a bound is to be counted against:
-- two that counted at once would both pass it. Returns the accounts that have a bound.
CREATE FUNCTION agents.fn_lock_bounds(p_lensers uuid[]) RETURNS uuid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN ARRAY(
    SELECT q.lenser_id FROM agents.quotas q
     WHERE q.lenser_id = ANY (p_lensers) AND (q.daily_runs IS NOT NULL OR q.max_parallel_runs IS NOT NULL)
     ORDER BY q.lenser_id FOR NO KEY UPDATE);
END
$$;

-- The policy's verdict on runs before they start, recorded (PE-1), in the order in which they are named; p_digests are those
-- of the envelopes that asked for them, p_bounded the accounts of which agents.fn_lock_bounds holds the bounds. What is allowed
-- is covered for 60 s from when the broker stored the request (PE-2); what needs a person begins to await one.
CREATE FUNCTION agents.fn_evaluate_pre_run_policy(p_run_ids uuid[], p_digests bytea[], p_bounded uuid[])
RETURNS TABLE (
  run_id uuid, verdict text, reason text, covered_until timestamptz, denied_tools text[], approval_expires_at timestamptz
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  WITH asked AS MATERIALIZED (
    SELECT n.place, n.digest, r.id, r.requester_lenser_id AS lenser, r.device_id, r.workflow_id, r.started_at,
           s, q.daily_runs, q.max_parallel_runs, u.runs_today, u.parallel_runs,
           (agents.fn_policy_verdict(s, r.workflow_id, false, false)).verdict IN ('allow', 'require_approval') AS takes
      FROM unnest(p_run_ids, p_digests) WITH ORDINALITY AS n (run_id, digest, place)
      JOIN execution.runs r ON r.id = n.run_id
      LEFT JOIN agents.workspace_settings s ON s.lenser_id = r.requester_lenser_id
      LEFT JOIN agents.quotas q ON q.lenser_id = r.requester_lenser_id
      LEFT JOIN agents.fn_used(p_bounded) u ON u.lenser_id = r.requester_lenser_id
  ), counted AS (
    -- Those before it take a place each, of both bounds, as long as both have one left.
    SELECT a.*, greatest(0, least(
             count(*) FILTER (WHERE a.takes)
               OVER (PARTITION BY a.lenser ORDER BY a.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
             a.daily_runs - a.runs_today, a.max_parallel_runs - a.parallel_runs)) AS taken
      FROM asked a
  ), judged AS MATERIALIZED (
    SELECT c.*, v.verdict AS said, v.reason AS because,
           CASE v.verdict WHEN 'allow' THEN c.started_at + make_interval(secs => devices.fn_limit('permitSeconds'))
           END AS covered,
           CASE v.verdict WHEN 'require_approval' THEN now() + make_interval(
             secs => coalesce((c.s).approval_seconds, devices.fn_limit('approvalSeconds'))) END AS expires
      FROM counted c, agents.fn_policy_verdict(
             c.s, c.workflow_id, c.runs_today + c.taken >= c.daily_runs,
             c.parallel_runs + c.taken >= c.max_parallel_runs) v
  ), recorded AS (
    INSERT INTO agents.policy_evaluations AS e
      (run_id, lenser_id, phase, verdict, reason, asked_at, digest, covered_until)
    SELECT j.id, j.lenser, 'start', j.said, j.because, j.started_at, j.digest, j.covered FROM judged j ORDER BY j.place
  ), awaiting AS (
    INSERT INTO agents.approvals AS a (run_id, lenser_id, requested_at, expires_at)
    SELECT j.id, j.lenser, now(), j.expires FROM judged j WHERE j.expires IS NOT NULL ORDER BY j.place
  ), opened AS (
    INSERT INTO execution.open_runs AS o (run_id, lenser_id, device_id, open_until)
    SELECT j.id, j.lenser, j.device_id, coalesce(j.covered, j.expires)
      FROM judged j WHERE j.takes AND j.said IN ('allow', 'require_approval') ORDER BY j.place
  )
  SELECT j.id, j.said, j.because, j.covered, coalesce((j.s).denied_tools, '{}'), j.expires FROM judged j;
END
$$;
