-- Agents, lens versions, contenders and submissions, as far as the execution ladder needs them. Their own parts of the
-- product fill them; nothing here has a way in for clients.
SET LOCAL ROLE ltg_owner;

CREATE TABLE agents.ai_lensers (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  owner_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, owner_lenser_id)
);

CREATE TABLE agents.workspace_settings (
  lenser_id uuid PRIMARY KEY REFERENCES lensers.profiles (id),
  approval_default text NOT NULL DEFAULT 'allow' CHECK (approval_default IN ('allow', 'require_human', 'deny')),
  -- NR-1. The owner keeps daemons from working (RFC-0003 §8).
  runner_paused boolean NOT NULL DEFAULT false
);

CREATE TABLE lenses.versions (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  lens_hash bytea NOT NULL CHECK (octet_length(lens_hash) = 32),
  workflow_hash bytea CHECK (octet_length(workflow_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, lenser_id)
);

CREATE TABLE battles.contenders (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  kind text NOT NULL CHECK (kind IN ('human', 'ai_agent', 'ai_runner')),
  owner_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  agent_id uuid CHECK (agent_id IS NULL OR kind = 'ai_agent'),
  runner_id uuid CHECK (runner_id IS NULL OR kind = 'ai_runner'),
  created_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (agent_id, owner_lenser_id) REFERENCES agents.ai_lensers (id, owner_lenser_id),
  FOREIGN KEY (runner_id, owner_lenser_id) REFERENCES execution.runners (id, lenser_id)
);

CREATE TABLE battles.submissions (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  contender_id uuid REFERENCES battles.contenders (id),
  submitter_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  created_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE agents.ai_lensers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY ai_lensers_own ON agents.ai_lensers FOR SELECT TO authenticated
  USING (owner_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.ai_lensers TO authenticated;

ALTER TABLE agents.workspace_settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY workspace_settings_own ON agents.workspace_settings FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.workspace_settings TO authenticated;

ALTER TABLE lenses.versions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY versions_own ON lenses.versions FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON lenses.versions TO authenticated;

ALTER TABLE battles.contenders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY contenders_own ON battles.contenders FOR SELECT TO authenticated
  USING (owner_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON battles.contenders TO authenticated;

ALTER TABLE battles.submissions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY submissions_own ON battles.submissions FOR SELECT TO authenticated
  USING (submitter_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON battles.submissions TO authenticated;
