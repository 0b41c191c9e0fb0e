-- Roles belong to the cluster, not to this database: several databases of one cluster (tests, for one) may migrate at once,
-- so each is made where missing and a lost race is no error. No role gets a password here; without one nobody logs in by SCRAM.
DO $$
DECLARE
  v_role record;
BEGIN
  FOR v_role IN
    SELECT *
      FROM (VALUES
        -- Owns every schema, table and function. BYPASSRLS, since forced row security without a policy refuses definers too.
        ('ltg_owner', 'NOLOGIN BYPASSRLS'),
        -- One a worker: EXECUTE on its own functions, and nothing else.
        ('ltg_broker_auth', 'LOGIN'),
        ('ltg_registrar', 'LOGIN'),
        ('ltg_verifier', 'LOGIN'),
        ('ltg_trust_evaluator', 'LOGIN'),
        ('ltg_sync_applier', 'LOGIN'),
        ('ltg_audit_chain', 'LOGIN'),
        -- Those of a Supabase project; on plain PostgreSQL they are made.
        ('anon', 'NOLOGIN'),
        ('authenticated', 'NOLOGIN'),
        ('service_role', 'NOLOGIN')
      ) AS wanted (name, attributes)
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name)
  LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOINHERIT %s', v_role.name, v_role.attributes);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
END
$$;
