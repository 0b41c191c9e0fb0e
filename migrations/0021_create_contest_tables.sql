-- Agents, lenses and their workflows, battles and submissions, as far as the execution ladder needs them. Their own parts of
-- the product fill them.
SET LOCAL ROLE ltg_owner;

CREATE TABLE agents.ai_lensers (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  owner_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, owner_lenser_id)
);

-- The account's pre-run policy. An account without a row has the defaults.
CREATE TABLE agents.workspace_settings (
  lenser_id uuid PRIMARY KEY REFERENCES lensers.profiles (id),
  global_kill_switch boolean NOT NULL DEFAULT false,
  -- NR-1: the canonical name.
  runner_paused boolean NOT NULL DEFAULT false,
  -- NR-3, deprecated: the name that older callers read; nobody can write it.
  agent_paused boolean GENERATED ALWAYS AS (runner_paused) STORED,
  approval_default text NOT NULL DEFAULT 'allow' CHECK (approval_default IN ('allow', 'require_human', 'deny')),
  approval_seconds integer NOT NULL DEFAULT 600 CHECK (approval_seconds BETWEEN 10 AND 86400),
  dark_launch_percent smallint NOT NULL DEFAULT 100 CHECK (dark_launch_percent BETWEEN 0 AND 100),
  -- Names, or beginnings of names that end with *.
  denied_tools text[] NOT NULL DEFAULT '{}' CHECK (cardinality(denied_tools) <= 256),
  changed_at timestamptz NOT NULL DEFAULT now()
);

-- How much an account may run; null: as much as it likes. What is used up is counted from permits.
CREATE TABLE agents.quotas (
  lenser_id uuid PRIMARY KEY REFERENCES lensers.profiles (id),
  -- Permits of one day, UTC.
  daily_runs integer CHECK (daily_runs >= 0),
  max_parallel_runs integer CHECK (max_parallel_runs >= 0),
  changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE lenses.lenses (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (lenser_id, name),
  UNIQUE (id, lenser_id)
);

CREATE TABLE lenses.workflows (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (lenser_id, name),
  UNIQUE (id, lenser_id)
);

-- What a run is pinned to (WT-2): a lens as it is in this version, with the workflow that it runs.
CREATE TABLE lenses.versions (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  lens_id uuid NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  lens_hash bytea NOT NULL CHECK (octet_length(lens_hash) = 32),
  workflow_id uuid,
  workflow_hash bytea CHECK (octet_length(workflow_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (lens_id, number),
  UNIQUE (id, lenser_id),
  CHECK ((workflow_id IS NULL) = (workflow_hash IS NULL)),
  FOREIGN KEY (lens_id, lenser_id) REFERENCES lenses.lenses (id, lenser_id),
  FOREIGN KEY (workflow_id, lenser_id) REFERENCES lenses.workflows (id, lenser_id)
);

-- When a version's hashes were changed, which costs the attestations of runs under way (R12).
CREATE TABLE lenses.version_changes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version_id uuid NOT NULL REFERENCES lenses.versions (id),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  lens_hash bytea NOT NULL,
  workflow_hash bytea
);
CREATE INDEX version_changes_version_id_idx ON lenses.version_changes (version_id, changed_at);
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON lenses.version_changes
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE lenses.version_changes ENABLE ALWAYS TRIGGER deny_mutation;

CREATE TABLE battles.battles (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  title text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 128),
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE battles.contenders (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  battle_id uuid NOT NULL REFERENCES battles.battles (id),
  kind text NOT NULL CHECK (kind IN ('human', 'ai_agent', 'ai_runner')),
  owner_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  agent_id uuid CHECK (agent_id IS NULL OR kind = 'ai_agent'),
  runner_id uuid CHECK (runner_id IS NULL OR kind = 'ai_runner'),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, battle_id),
  FOREIGN KEY (agent_id, owner_lenser_id) REFERENCES agents.ai_lensers (id, owner_lenser_id),
  FOREIGN KEY (runner_id, owner_lenser_id) REFERENCES execution.runners (id, lenser_id)
);

CREATE TABLE battles.submissions (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  battle_id uuid NOT NULL REFERENCES battles.battles (id),
  contender_id uuid,
  submitter_lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  created_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (contender_id, battle_id) REFERENCES battles.contenders (id, battle_id)
);
CREATE INDEX submissions_submitter_lenser_id_idx ON battles.submissions (submitter_lenser_id, id);

ALTER TABLE agents.ai_lensers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY ai_lensers_own ON agents.ai_lensers FOR SELECT TO authenticated
  USING (owner_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.ai_lensers TO authenticated;

ALTER TABLE agents.workspace_settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY workspace_settings_own ON agents.workspace_settings FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.workspace_settings TO authenticated;

ALTER TABLE agents.quotas ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY quotas_own ON agents.quotas FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON agents.quotas TO authenticated;

ALTER TABLE lenses.lenses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY lenses_own ON lenses.lenses FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON lenses.lenses TO authenticated;

ALTER TABLE lenses.workflows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY workflows_own ON lenses.workflows FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON lenses.workflows TO authenticated;

ALTER TABLE lenses.versions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY versions_own ON lenses.versions FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON lenses.versions TO authenticated;

-- Who may see the version sees its changes: the version's own policy decides.
ALTER TABLE lenses.version_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY version_changes_own ON lenses.version_changes FOR SELECT TO authenticated
  USING (version_id IN (SELECT v.id FROM lenses.versions v));
GRANT SELECT ON lenses.version_changes TO authenticated;

-- Who takes part in a battle sees it: the contenders' and submissions' own policies decide.
ALTER TABLE battles.battles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY battles_own ON battles.battles FOR SELECT TO authenticated
  USING (id IN (SELECT c.battle_id FROM battles.contenders c) OR id IN (SELECT s.battle_id FROM battles.submissions s));
GRANT SELECT ON battles.battles TO authenticated;

ALTER TABLE battles.contenders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY contenders_own ON battles.contenders FOR SELECT TO authenticated
  USING (owner_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON battles.contenders TO authenticated;

ALTER TABLE battles.submissions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY submissions_own ON battles.submissions FOR SELECT TO authenticated
  USING (submitter_lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON battles.submissions TO authenticated;
