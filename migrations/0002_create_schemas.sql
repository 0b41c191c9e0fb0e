DO $$
DECLARE
  v_schema text;
BEGIN
  FOREACH v_schema IN ARRAY ARRAY['lensers', 'devices', 'execution', 'agents', 'lenses', 'battles', 'reputation', 'xp', 'audit'] LOOP
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION ltg_owner', v_schema);
  END LOOP;
  -- Supabase has it already, and then it is Supabase's.
  IF to_regnamespace('auth') IS NULL THEN
    CREATE SCHEMA auth AUTHORIZATION ltg_owner;
  END IF;
END
$$;

-- PUBLIC may execute every new function unless told otherwise. Told for the owner as such: per schema it could not be revoked.
ALTER DEFAULT PRIVILEGES FOR ROLE ltg_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- To name a function one needs its schema; it opens nothing by itself.
GRANT USAGE ON SCHEMA devices TO ltg_broker_auth, ltg_registrar, ltg_verifier, ltg_trust_evaluator, ltg_sync_applier;
GRANT USAGE ON SCHEMA execution TO ltg_registrar, ltg_trust_evaluator;
GRANT USAGE ON SCHEMA agents TO ltg_registrar, ltg_trust_evaluator;
GRANT USAGE ON SCHEMA lensers TO ltg_registrar;
GRANT USAGE ON SCHEMA audit TO ltg_registrar, ltg_audit_chain;
GRANT USAGE ON SCHEMA lensers, devices, execution, agents, lenses, battles, audit TO authenticated;
