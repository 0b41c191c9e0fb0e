-- XP: what accounts were given, for what, and what is still to be judged (spec: XP, only after server-side verification).
SET LOCAL ROLE ltg_owner;

-- What each rule gives. A rule that is switched off gives nothing for what happens meanwhile, then or later.
CREATE TABLE xp.rules (
  code text PRIMARY KEY CHECK (code ~ '^[A-Z_]+$'),
  amount integer NOT NULL CHECK (amount BETWEEN 1 AND 100000),
  enabled boolean NOT NULL DEFAULT true,
  description text NOT NULL
);
INSERT INTO xp.rules (code, amount, description) VALUES
  ('DEVICE_REGISTERED', 5, 'A device was registered with its key.'),
  ('DEVICE_VERIFIED', 20, 'A device rose to approved for the first time.'),
  ('RUNNER_CONNECTED', 10, 'A runner was bound to a device for the first time.'),
  ('BATTLE_SUBMISSION_COMPLETED', 5, 'A submission was evaluated for the first time, whatever its level.'),
  ('VERIFIED_LOCAL_EXECUTION_COMPLETED', 50, 'A run reached fully_trusted for the first time.');
ALTER TABLE xp.rules ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Given once a rule and source; what is taken back again is a row of its own, once. An account's XP is the sum.
CREATE TABLE xp.ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  rule text NOT NULL REFERENCES xp.rules (code),
  -- The device, runner, submission or run that it was given for.
  source_id uuid NOT NULL,
  amount integer NOT NULL,
  -- The evaluation that it rests on, where the rule goes by one.
  evaluation_id bigint REFERENCES execution.trust_evaluations (id),
  -- The row that this one takes back, and what it gave.
  reverses bigint UNIQUE,
  reversed_amount integer GENERATED ALWAYS AS (CASE WHEN reverses IS NOT NULL THEN -amount END) STORED,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((reverses IS NULL AND amount > 0) OR (reverses IS NOT NULL AND amount < 0)),
  UNIQUE (id, lenser_id, rule, source_id, amount),
  FOREIGN KEY (reverses, lenser_id, rule, source_id, reversed_amount)
    REFERENCES xp.ledger (id, lenser_id, rule, source_id, amount)
);
CREATE UNIQUE INDEX ledger_minted_key ON xp.ledger (rule, source_id) WHERE reverses IS NULL;
CREATE INDEX ledger_lenser_id_idx ON xp.ledger (lenser_id, id);
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON xp.ledger
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE xp.ledger ENABLE ALWAYS TRIGGER deny_mutation;
ALTER TABLE xp.ledger ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY ledger_own ON xp.ledger FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT USAGE ON SCHEMA xp TO authenticated, service_role, ltg_trust_evaluator;
GRANT SELECT ON xp.ledger TO authenticated;

-- Sources to judge: left by triggers in the transaction of what happened, worked off later. A job says what to look at and
-- nothing of what is found, so one too many gives nothing. No foreign keys: nothing that XP needs may refuse a trust write.
CREATE TABLE xp.jobs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- A rule's code; REPUTATION: what a submission counts for.
  task text NOT NULL CHECK (task IN (
    'DEVICE_REGISTERED', 'DEVICE_VERIFIED', 'RUNNER_CONNECTED', 'BATTLE_SUBMISSION_COMPLETED',
    'VERIFIED_LOCAL_EXECUTION_COMPLETED', 'REPUTATION')),
  source_id uuid NOT NULL,
  -- Whose it seems to be, to work in one order; who gets the XP follows from the source's own row.
  lenser_id uuid NOT NULL,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'dead')),
  attempts integer NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT now(),
  -- When the last attempt failed, and its SQLSTATE: never a message, which may hold values.
  tried_at timestamptz,
  last_error text CHECK (last_error ~ '^[0-9A-Z]{5}$'),
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  CHECK ((state = 'pending') = (ended_at IS NULL))
);
CREATE INDEX jobs_due_idx ON xp.jobs (due_at, id) WHERE state = 'pending';
CREATE INDEX jobs_done_idx ON xp.jobs (ended_at) WHERE state = 'done';
CREATE INDEX jobs_dead_idx ON xp.jobs (id) WHERE state = 'dead';
ALTER TABLE xp.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE FUNCTION xp.fn_queue_by_registration() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO xp.jobs (task, source_id, lenser_id) VALUES ('DEVICE_REGISTERED', NEW.id, NEW.lenser_id);
  RETURN NULL;
END
$$;

CREATE FUNCTION xp.fn_queue_by_approval() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO xp.jobs (task, source_id, lenser_id) VALUES ('DEVICE_VERIFIED', NEW.id, NEW.lenser_id);
  RETURN NULL;
END
$$;

CREATE FUNCTION xp.fn_queue_by_binding() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO xp.jobs (task, source_id, lenser_id) VALUES ('RUNNER_CONNECTED', NEW.runner_id, NEW.lenser_id);
  RETURN NULL;
END
$$;

-- A submission's first evaluation and each change of its level; a run's rise to fully_trusted and its fall from there, which
-- nothing reaches or leaves without an attestation. `id + 0`, here and wherever one of a run's few rows is looked for: a plan
-- that follows the order of all ids to find them reads everybody's.
CREATE FUNCTION xp.fn_queue_by_evaluation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  INSERT INTO xp.jobs (task, source_id, lenser_id)
  WITH submitted AS (
    SELECT c.submission_id, c.lenser_id, c.trust_level, last.trust_level AS before
      FROM changed c
      LEFT JOIN LATERAL (
        SELECT e.trust_level FROM execution.trust_evaluations e
         WHERE e.submission_id = c.submission_id AND e.id < c.id ORDER BY e.id + 0 DESC LIMIT 1) last ON true
     WHERE c.submission_id IS NOT NULL
  )
  SELECT 'BATTLE_SUBMISSION_COMPLETED', s.submission_id, s.lenser_id FROM submitted s WHERE s.before IS NULL
  UNION ALL
  SELECT 'REPUTATION', s.submission_id, s.lenser_id FROM submitted s WHERE s.before IS DISTINCT FROM s.trust_level
  UNION ALL
  SELECT 'VERIFIED_LOCAL_EXECUTION_COMPLETED', c.run_id, c.lenser_id
    FROM changed c
   WHERE c.attestation_id IS NOT NULL
     AND (c.trust_level = 'fully_trusted') <> coalesce((
       SELECT e.trust_level = 'fully_trusted' FROM execution.trust_evaluations e
        WHERE e.run_id = c.run_id AND e.id < c.id ORDER BY e.id + 0 DESC LIMIT 1), false);
  RETURN NULL;
END
$$;

CREATE TRIGGER queue_xp AFTER INSERT ON devices.registered_devices
  FOR EACH ROW EXECUTE FUNCTION xp.fn_queue_by_registration();
-- Once in its life: whoever is trusted was approved before.
CREATE TRIGGER queue_xp_verified AFTER UPDATE ON devices.registered_devices
  FOR EACH ROW WHEN (OLD.approved_at IS NULL AND NEW.approved_at IS NOT NULL) EXECUTE FUNCTION xp.fn_queue_by_approval();
CREATE TRIGGER queue_xp AFTER INSERT ON execution.runner_device_bindings
  FOR EACH ROW WHEN (NEW.status = 'active') EXECUTE FUNCTION xp.fn_queue_by_binding();
CREATE TRIGGER queue_xp AFTER INSERT ON execution.trust_evaluations
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION xp.fn_queue_by_evaluation();
