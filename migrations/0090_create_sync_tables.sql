-- Objects that edges and the cloud share, their changefeed, and what each device has seen of it (sync.md).
SET LOCAL ROLE ltg_owner;

-- The contract's classes (@lenserfight/schemas, objects.ts): a test holds this to it. What is not here is unknown_class.
CREATE TABLE devices.object_classes (
  class text PRIMARY KEY CHECK (class ~ '^[a-z_]+$'),
  authority text NOT NULL CHECK (authority IN ('cloud', 'local', 'both')),
  -- Of global classes the objects belong to nobody: their Lenser is nil.
  feed text NOT NULL CHECK (feed IN ('account', 'global')),
  coordinated boolean NOT NULL,
  CHECK (authority = 'both' OR NOT coordinated)
);
INSERT INTO devices.object_classes (class, authority, feed, coordinated) VALUES
  ('xp_total', 'cloud', 'account', false),
  ('trust_evaluation', 'cloud', 'account', false),
  ('battle_result', 'cloud', 'account', false),
  ('policy', 'cloud', 'account', false),
  ('budget', 'cloud', 'account', false),
  ('kill_switch', 'cloud', 'account', false),
  ('dark_launch', 'cloud', 'account', false),
  ('ai_catalog', 'cloud', 'global', false),
  ('byok_key', 'local', 'account', false),
  ('local_battle', 'local', 'account', false),
  ('scratchpad_draft', 'local', 'account', false),
  ('keychain_entry', 'local', 'account', false),
  ('private_key', 'local', 'account', false),
  ('agent_config', 'both', 'account', false),
  ('agent_team_graph', 'both', 'account', false),
  ('workflow_definition', 'both', 'account', false),
  ('lens_draft', 'both', 'account', false),
  ('runner_metadata', 'both', 'account', false),
  ('non_secret_pref', 'both', 'account', false),
  ('automation_registry_entry', 'both', 'account', true);
ALTER TABLE devices.object_classes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The paths of a class that keep what stands beside each other for a person to decide (objects.ts: read 'keep'), by their form.
CREATE TABLE devices.keep_paths (
  class text NOT NULL REFERENCES devices.object_classes (class),
  pattern text NOT NULL,
  PRIMARY KEY (class, pattern)
);
INSERT INTO devices.keep_paths (class, pattern) VALUES
  ('workflow_definition', '^\$life$'),
  ('workflow_definition', '^step/[A-Za-z0-9][A-Za-z0-9._-]{0,63}/body$'),
  ('workflow_definition', '^version/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$');
ALTER TABLE devices.keep_paths ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Raised by its operators when the database was restored from a backup: devices then read everything anew (rule 14).
CREATE TABLE devices.epochs (
  epoch integer PRIMARY KEY CHECK (epoch >= 1),
  raised_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO devices.epochs (epoch) VALUES (1);
ALTER TABLE devices.epochs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.epochs
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.epochs ENABLE ALWAYS TRIGGER deny_mutation;

-- Each object as it is now. Its row lock orders what is merged into it. The nil Lenser owns what is global.
CREATE TABLE devices.sync_objects (
  lenser_id uuid NOT NULL,
  class text NOT NULL REFERENCES devices.object_classes (class),
  -- A regular expression that counts costs ten times as much, at each change of the row.
  object text NOT NULL CHECK (object ~ '^[A-Za-z0-9][A-Za-z0-9._:-]*$' AND length(object) <= 128),
  -- {clock, paths: {path: [{actor, clock, value}]}} (rule 1).
  state jsonb NOT NULL,
  -- Of each actor, the link of its newest edit (rule 6).
  links jsonb NOT NULL DEFAULT '{}',
  -- SHA-256 of the state's canonical JSON; null until who can make that has seen what the cloud wrote.
  digest bytea CHECK (octet_length(digest) = 32),
  -- The newest change row of it and that row's digest, which the class's checksum counts; null before the first.
  seq bigint,
  fed_digest bytea CHECK (octet_length(fed_digest) = 32),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (lenser_id, class, object),
  CHECK ((seq IS NULL) = (fed_digest IS NULL))
) WITH (fillfactor = 80);
ALTER TABLE devices.sync_objects ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- How one is named.
CREATE TYPE devices.sync_key AS (lenser_id uuid, class text, object text);

-- One row a feed, locked last in every transaction, in order: so commit order is sequence order and no reader skips a row.
CREATE TABLE devices.sync_heads (
  lenser_id uuid PRIMARY KEY,
  seq bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
  -- Rows at or below it may have been compacted away: who stands below reads everything anew.
  floor bigint NOT NULL DEFAULT 0 CHECK (floor BETWEEN 0 AND seq),
  -- When it was last looked at whether something can be forgotten.
  compacted_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX sync_heads_compacted_at_idx ON devices.sync_heads (compacted_at);
ALTER TABLE devices.sync_heads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Of each feed and class what a replica that has seen everything holds: objects, and the XOR of the first 128 bits of SHA-256 over
-- ["object","digest"]. Kept under the head's lock.
CREATE TABLE devices.sync_checksums (
  lenser_id uuid NOT NULL,
  class text NOT NULL REFERENCES devices.object_classes (class),
  objects bigint NOT NULL DEFAULT 0 CHECK (objects >= 0),
  xor_high bigint NOT NULL DEFAULT 0,
  xor_low bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (lenser_id, class)
) WITH (fillfactor = 50);
ALTER TABLE devices.sync_checksums ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The changefeed. A purge says that a dead object is forgotten.
CREATE TABLE devices.sync_changes (
  lenser_id uuid NOT NULL,
  class text NOT NULL,
  seq bigint NOT NULL CHECK (seq > 0),
  object text NOT NULL,
  op text NOT NULL CHECK (op IN ('upsert', 'delete', 'purge')),
  state jsonb,
  digest bytea CHECK (octet_length(digest) = 32),
  changed_at timestamptz NOT NULL DEFAULT now(),
  -- By class first: a pull reads one class after its cursor, however much of the others lies between.
  PRIMARY KEY (lenser_id, class, seq),
  CHECK ((op = 'purge') = (state IS NULL) AND (state IS NULL) = (digest IS NULL))
);
CREATE INDEX sync_changes_object_idx ON devices.sync_changes (lenser_id, class, object, seq DESC);
CREATE INDEX sync_changes_deaths_idx ON devices.sync_changes (lenser_id, seq) WHERE op = 'delete';
ALTER TABLE devices.sync_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR TRUNCATE ON devices.sync_changes
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.sync_changes ENABLE ALWAYS TRIGGER deny_mutation;

-- How far a device has come in a class: it was given (prev, watermark] last, and asking from watermark acknowledges that.
CREATE TABLE devices.sync_watermarks (
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  class text NOT NULL REFERENCES devices.object_classes (class),
  -- Whose feed: the device's owner's, or nil.
  lenser_id uuid NOT NULL,
  epoch integer NOT NULL,
  prev bigint NOT NULL CHECK (prev >= 0),
  watermark bigint NOT NULL CHECK (watermark >= prev),
  pulled_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (device_id, class)
) WITH (fillfactor = 50);
CREATE INDEX sync_watermarks_feed_idx ON devices.sync_watermarks (lenser_id, class, prev);
ALTER TABLE devices.sync_watermarks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- What a device last said of its own sync: shown to its owner, and nothing rests on it.
CREATE TABLE devices.sync_reports (
  device_id uuid PRIMARY KEY REFERENCES devices.registered_devices (id),
  pending integer NOT NULL,
  set_aside integer NOT NULL,
  last_code text CHECK (last_code ~ '^[a-z_]{1,64}$'),
  diverged text[] NOT NULL DEFAULT '{}',
  reported_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
ALTER TABLE devices.sync_reports ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Objects that the cloud wrote and that no feed tells of yet: keys alone, since the sequencer reads what is so then. Writers
-- never touch a head. No foreign keys: nothing that feeds need may refuse a trust write, or make it wait.
CREATE TABLE devices.sync_pending (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lenser_id uuid NOT NULL,
  class text NOT NULL,
  object text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The transaction that is telling, or failed to tell, its feed: that one alone takes the key away.
  taken_by xid8
);
CREATE INDEX sync_pending_taken_by_idx ON devices.sync_pending (taken_by) WHERE taken_by IS NOT NULL;
ALTER TABLE devices.sync_pending ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Every edit that was admitted, as it was pushed; after 30 days it moves to audit.events. The number and link of each tell a
-- repetition from another edit under its number (rule 7). No foreign keys, which would be asked edit by edit: the device is the one
-- on record that the verified envelope names, locked, and none is ever deleted; the class is its object's.
CREATE TABLE devices.sync_outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lenser_id uuid NOT NULL,
  device_id uuid NOT NULL,
  object_class text NOT NULL,
  object_id text NOT NULL,
  op text NOT NULL CHECK (op IN ('upsert', 'delete')),
  payload jsonb NOT NULL,
  vclock jsonb NOT NULL,
  actor text NOT NULL,
  n bigint NOT NULL CHECK (n >= 1),
  link bytea NOT NULL CHECK (octet_length(link) = 32),
  -- The envelope that brought it.
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (lenser_id, object_class, object_id, actor, n)
);
CREATE INDEX sync_outbox_created_at_idx ON devices.sync_outbox (created_at, id);
ALTER TABLE devices.sync_outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR TRUNCATE ON devices.sync_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.sync_outbox ENABLE ALWAYS TRIGGER deny_mutation;

-- Where the server's log of edits rests after 30 days.
CREATE TABLE audit.events (
  id bigint PRIMARY KEY,
  lenser_id uuid NOT NULL,
  device_id uuid,
  event_kind text NOT NULL CHECK (event_kind ~ '^[a-z_.]+$'),
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  archived_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE audit.events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.events
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER deny_mutation;
CREATE POLICY events_own ON audit.events FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON audit.events TO authenticated;

-- What a person has to decide (rule 11): derived from the object's state in the transaction that merged it.
CREATE TABLE devices.sync_conflicts (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL,
  class text NOT NULL REFERENCES devices.object_classes (class),
  object text NOT NULL,
  path text NOT NULL,
  -- The writes that stand beside each other, in the order in which they are read.
  sides jsonb NOT NULL CHECK (jsonb_typeof(sides) = 'array' AND jsonb_array_length(sides) >= 2),
  -- SHA-256 of their text, which a resolution names.
  sides_digest bytea NOT NULL CHECK (sides_digest = sha256(convert_to(sides::text, 'UTF8'))),
  -- {value} of the newest state that every side has seen; null where that is kept no more.
  base jsonb,
  opened_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz,
  CHECK (closed_at IS NULL OR closed_at >= opened_at)
);
CREATE UNIQUE INDEX sync_conflicts_open_key ON devices.sync_conflicts (lenser_id, class, object, path) WHERE closed_at IS NULL;
CREATE INDEX sync_conflicts_place_idx ON devices.sync_conflicts (lenser_id, class, object, path);
CREATE INDEX sync_conflicts_listed_idx ON devices.sync_conflicts (lenser_id, id) WHERE closed_at IS NULL;
ALTER TABLE devices.sync_conflicts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE DELETE OR TRUNCATE ON devices.sync_conflicts
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.sync_conflicts ENABLE ALWAYS TRIGGER deny_mutation;
CREATE POLICY sync_conflicts_own ON devices.sync_conflicts FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON devices.sync_conflicts TO authenticated;

-- What was decided of them, by whom, and what stood there before, so that it can be undone (rule 12).
CREATE TABLE devices.sync_resolutions (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  conflict_id uuid NOT NULL REFERENCES devices.sync_conflicts (id),
  lenser_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('resolve', 'undo')),
  -- Of an undo, what it takes back: each once.
  undoes uuid UNIQUE REFERENCES devices.sync_resolutions (id),
  sides jsonb NOT NULL,
  winner jsonb,
  -- The number of the gateway's own first writer under which it was written: what was written since has another.
  n bigint NOT NULL CHECK (n >= 1),
  resolved_by uuid NOT NULL,
  op_id uuid NOT NULL,
  resolved_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((kind = 'undo') = (undoes IS NOT NULL) AND (kind = 'resolve') = (winner IS NOT NULL))
);
CREATE INDEX sync_resolutions_conflict_id_idx ON devices.sync_resolutions (conflict_id);
ALTER TABLE devices.sync_resolutions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER deny_mutation BEFORE UPDATE OR DELETE OR TRUNCATE ON devices.sync_resolutions
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_deny_mutation();
ALTER TABLE devices.sync_resolutions ENABLE ALWAYS TRIGGER deny_mutation;

-- Who leads among an account's machines. The fence counts every change of hands: what came under an older one is refused.
CREATE TABLE devices.peer_leases (
  lease_kind text NOT NULL CHECK (lease_kind IN ('sync_flush')),
  lenser_id uuid NOT NULL,
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  fence bigint NOT NULL CHECK (fence >= 1),
  acquired_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (lease_kind, lenser_id)
) WITH (fillfactor = 50);
ALTER TABLE devices.peer_leases ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Who else would lead: asked within the last seconds. The lease goes by precedence among these once it is free.
CREATE TABLE devices.peer_candidates (
  lease_kind text NOT NULL CHECK (lease_kind IN ('sync_flush')),
  lenser_id uuid NOT NULL,
  device_id uuid NOT NULL REFERENCES devices.registered_devices (id),
  -- Since when it has asked without a break: who waited for long enough comes first.
  waits_since timestamptz NOT NULL,
  wanted_until timestamptz NOT NULL,
  PRIMARY KEY (lease_kind, lenser_id, device_id)
) WITH (fillfactor = 50);
ALTER TABLE devices.peer_candidates ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- The models that there are, the same for everybody; the platform fills it.
CREATE TABLE agents.ai_catalog (
  id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 120),
  vendor text NOT NULL CHECK (char_length(vendor) BETWEEN 1 AND 64),
  route text NOT NULL CHECK (route IN ('local', 'native-adapter', 'byok', 'catalog-only', 'blocked')),
  -- Counts its own changes, and so orders them.
  version bigint NOT NULL DEFAULT 1,
  retired_at timestamptz,
  changed_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE agents.ai_catalog ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
