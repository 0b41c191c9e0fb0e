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
  phase text NOT NULL CHECK (phase IN ('start', 'approval', 'renewal')),
  verdict text NOT NULL CHECK (verdict IN ('allow', 'deny', 'pause', 'require_approval')),
  reason text NOT NULL CHECK (reason IN (
    'kill_switch', 'runner_paused', 'budget_used_up', 'parallel_limit', 'dark_launch', 'approval_default_allow',
    'approval_default_require_human', 'approval_default_deny', 'approved', 'approval_denied', 'approval_expired')),
  -- When the broker stored what asked for it, and its digest; of a person's answer, when it was committed.
  asked_at timestamptz NOT NULL,
  digest bytea CHECK (octet_length(digest) = 32),
  -- Up to when it covers the run; only what allows, and is the device's to know, covers any time.
  covered_until timestamptz,
  evaluated_at timestamptz NOT NULL DEFAULT now(),
  CHECK (covered_until IS NULL OR verdict = 'allow' AND phase <> 'approval')
);
CREATE INDEX policy_evaluations_run_id_idx ON agents.policy_evaluations (run_id, id);
-- What comes again is not judged again.
CREATE UNIQUE INDEX policy_evaluations_digest_key ON agents.policy_evaluations (run_id, digest) WHERE digest IS NOT NULL;
CREATE INDEX policy_evaluations_covered_idx ON agents.policy_evaluations (lenser_id, covered_until)
  WHERE covered_until IS NOT NULL;
CREATE INDEX policy_evaluations_start_idx ON agents.policy_evaluations (lenser_id, evaluated_at)
  WHERE verdict = 'allow' AND phase <> 'renewal';

-- Runs that await a person; decided once, by one of the account's sessions or by time.
CREATE TABLE agents.approvals (
  run_id uuid PRIMARY KEY REFERENCES execution.runs (id),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  requested_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  decision text CHECK (decision IN ('approve', 'deny')),
  decided_at timestamptz,
  -- The session that decided.
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

-- The policy's verdict on a run before it starts, recorded (PE-1). The account's approval default is the last rule, for
-- what none before it decided; it is the only one yet.
CREATE FUNCTION agents.fn_evaluate_pre_run_policy(p_run_id uuid) RETURNS agents.policy_evaluations
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lenser uuid;
  v_default text;
  v_evaluation agents.policy_evaluations;
BEGIN
  SELECT r.requester_lenser_id, coalesce(s.approval_default, 'allow')
    INTO STRICT v_lenser, v_default
    FROM execution.runs r
    LEFT JOIN agents.workspace_settings s ON s.lenser_id = r.requester_lenser_id
   WHERE r.id = p_run_id;
  INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, asked_at, verdict, reason)
  VALUES (
    p_run_id, v_lenser, 'start', now(),
    CASE v_default WHEN 'allow' THEN 'allow' WHEN 'require_human' THEN 'require_approval' ELSE 'deny' END,
    'approval_default_' || v_default)
  RETURNING * INTO v_evaluation;
  RETURN v_evaluation;
END
$$;

-- The verdict that was given with a run's permit; null where there is none, which allows nothing.
CREATE FUNCTION agents.fn_start_verdict(p_run_id uuid) RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT e.verdict FROM agents.policy_evaluations e WHERE e.run_id = p_run_id ORDER BY e.id LIMIT 1);
END
$$;
