SET LOCAL ROLE ltg_owner;

-- A Lenser: a person's account, known by the issuer of their sign-in and the subject that it names.
CREATE TABLE lensers.profiles (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  -- auth.uid() of its owner.
  user_id uuid NOT NULL UNIQUE,
  issuer text NOT NULL,
  subject text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (issuer, subject)
);
ALTER TABLE lensers.profiles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_profile ON lensers.profiles FOR SELECT TO authenticated
  USING (user_id = (SELECT auth.uid()));
GRANT SELECT ON lensers.profiles TO authenticated;

-- A session key: one that a verified owner token registered, or an API key's that an owner vouched for. Its kid is derived
-- from the key, so it names one key alone.
CREATE TABLE lensers.sessions (
  kid uuid PRIMARY KEY,
  public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  -- What it may ask for: devices.session_kinds.
  scope text NOT NULL DEFAULT 'owner' CHECK (scope IN ('owner', 'api', 'api_approver')),
  -- Of an API key; a sign-in has none.
  name text CHECK (char_length(name) BETWEEN 1 AND 64),
  -- What a sign-in calls the machine that it was made on, for its owner's eyes alone: nobody checks it.
  machine text CHECK (char_length(machine) BETWEEN 1 AND 64),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  CHECK (kid = devices.fn_kid_of_key(public_key)),
  CHECK ((name IS NULL) = (scope = 'owner'))
);
CREATE INDEX ON lensers.sessions (lenser_id);
-- What ended, in the order in which it is forgotten.
CREATE INDEX ON lensers.sessions ((least(revoked_at, expires_at)));
ALTER TABLE lensers.sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Tokens of issuers that bind none to a session key: the first key that presents one has it.
CREATE TABLE lensers.token_uses (
  issuer text NOT NULL,
  -- SHA-256 of what the issuer signed. Not of the whole token: a signature may be spelled in more than one way.
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  kid uuid NOT NULL,
  -- When the token counts no more.
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (issuer, digest)
);
CREATE INDEX ON lensers.token_uses (expires_at);
ALTER TABLE lensers.token_uses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
