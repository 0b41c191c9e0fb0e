-- Attestations, the level that was derived from them each time it changed, and the heartbeats that they rest on.
SET LOCAL ROLE ltg_owner;

-- One a run. Every claim is taken from the signed body, whose bytes stand beside it; every flag is the server's (EA-3).
CREATE TABLE execution.attestations (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  run_id uuid NOT NULL UNIQUE,
  lenser_id uuid NOT NULL,
  device_id uuid NOT NULL,
  -- Which of the device's keys signed it: devices.device_keys.
  key_number integer NOT NULL,
  op_id uuid NOT NULL,
  -- The envelope as received, and its SHA-256.
  wire bytea NOT NULL,
  digest bytea NOT NULL CHECK (digest = sha256(wire)),
  -- SHA-256 over what the body says, without op_id and the flags that are never read: tells a repetition from a change.
  content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
  command_hash bytea NOT NULL CHECK (octet_length(command_hash) = 32),
  stdin_hash bytea CHECK (octet_length(stdin_hash) = 32),
  stdout_hash bytea CHECK (octet_length(stdout_hash) = 32),
  inputs jsonb NOT NULL,
  outputs jsonb NOT NULL,
  lens_hash bytea CHECK (octet_length(lens_hash) = 32),
  workflow_hash bytea CHECK (octet_length(workflow_hash) = 32),
  -- The device's own clock: shown, never relied on.
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  exit_code smallint,
  signal text,
  -- Entries of the run's tool log, by the device's word.
  tool_invocations integer NOT NULL CHECK (tool_invocations >= 0),
  -- Whether all that it names is what its permit names: command, inputs, hashes, runner, contender, version (rule 5).
  as_permitted boolean NOT NULL,
  -- Derived by the server over [permit issued, stored_at], as it was known when the row was made: what came later is in the
  -- evaluations.
  signed boolean NOT NULL,
  gateway_verified boolean NOT NULL,
  device_trusted boolean NOT NULL,
  policy_passed boolean NOT NULL,
  version_unchanged boolean NOT NULL,
  binding_active boolean NOT NULL,
  heartbeat_fresh boolean NOT NULL,
  -- When the broker stored the envelope, and when this row was made (the database's clock).
  stored_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  -- The trust model's invariant: the device is the run's, and its owner the run's requester (EA-1).
  FOREIGN KEY (run_id, lenser_id, device_id) REFERENCES execution.runs (id, requester_lenser_id, device_id)
);
CREATE INDEX attestations_device_id_stored_at_idx ON execution.attestations (device_id, stored_at, run_id);
CREATE INDEX attestations_awaiting_heartbeat_idx ON execution.attestations (device_id, stored_at)
  WHERE NOT heartbeat_fresh;

-- The history of a run's level. The level is what its facts say: no writer can say otherwise.
CREATE TABLE execution.trust_evaluations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id uuid NOT NULL REFERENCES execution.runs (id),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  submission_id uuid REFERENCES battles.submissions (id),
  attestation_id uuid REFERENCES execution.attestations (id),
  trust_level text NOT NULL CHECK (trust_level = execution.fn_trust_level(facts)),
  facts jsonb NOT NULL,
  -- The first fact that keeps it from the next level; null at the top.
  reason text,
  evaluated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX trust_evaluations_run_id_idx ON execution.trust_evaluations (run_id, id DESC);
CREATE INDEX trust_evaluations_submission_id_idx ON execution.trust_evaluations (submission_id, id DESC)
  WHERE submission_id IS NOT NULL;

-- The last hour of heartbeats: an attestation is judged by those stored before it, whichever was applied first.
CREATE TABLE devices.heartbeats (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  stored_at timestamptz NOT NULL,
  digest bytea NOT NULL,
  -- The account's runners that it reports alive (RH-2).
  runners uuid[] NOT NULL DEFAULT '{}',
  -- The device's level when it was applied: the result, which is the same when it comes again.
  trust_level text NOT NULL,
  -- Of its key in force then.
  key_number integer,
  key_expires_at timestamptz,
  PRIMARY KEY (device_id, stored_at, digest)
);

-- Runs to judge again: at once when something that they rest on was inserted, once more after a minute where only a
-- heartbeat was missing.
CREATE TABLE execution.reevaluations (
  run_id uuid PRIMARY KEY REFERENCES execution.runs (id),
  due_at timestamptz NOT NULL
);
CREATE INDEX reevaluations_due_at_idx ON execution.reevaluations (due_at);

CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.attestations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE execution.attestations ENABLE ALWAYS TRIGGER deny_mutation;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON execution.trust_evaluations
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE execution.trust_evaluations ENABLE ALWAYS TRIGGER deny_mutation;

ALTER TABLE execution.attestations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY attestations_own ON execution.attestations FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON execution.attestations TO authenticated;

ALTER TABLE execution.trust_evaluations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY trust_evaluations_own ON execution.trust_evaluations FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON execution.trust_evaluations TO authenticated;

-- Working tables of the definer functions: nobody else reads them.
ALTER TABLE devices.heartbeats ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE execution.reevaluations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
