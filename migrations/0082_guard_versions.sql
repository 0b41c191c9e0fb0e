-- A lens version is what runs are pinned to (WT-2): all that can change of one is its hashes, and each change is on record.
SET LOCAL ROLE ltg_owner;

CREATE FUNCTION lenses.fn_guard_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (NEW.id, NEW.lenser_id, NEW.lens_id, NEW.number, NEW.workflow_id, NEW.created_at)
     IS DISTINCT FROM (OLD.id, OLD.lenser_id, OLD.lens_id, OLD.number, OLD.workflow_id, OLD.created_at) THEN
    RAISE EXCEPTION 'of a version only its hashes change' USING ERRCODE = 'LT003';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER guard_version BEFORE UPDATE ON lenses.versions
  FOR EACH ROW EXECUTE FUNCTION lenses.fn_guard_version();
ALTER TABLE lenses.versions ENABLE ALWAYS TRIGGER guard_version;

-- Writes down what the hashes were until now. The row is locked, and whoever attests a run that is pinned to it holds it too:
-- an attestation stored after this time was not judged before it.
CREATE FUNCTION lenses.fn_record_version_change() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO lenses.version_changes (version_id, lens_hash, workflow_hash)
  SELECT o.id, o.lens_hash, o.workflow_hash
    FROM old_rows o
    JOIN new_rows n ON n.id = o.id
   WHERE (n.lens_hash, n.workflow_hash) IS DISTINCT FROM (o.lens_hash, o.workflow_hash)
   ORDER BY o.id;
  RETURN NULL;
END
$$;
CREATE TRIGGER record_change AFTER UPDATE ON lenses.versions
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION lenses.fn_record_version_change();
ALTER TABLE lenses.versions ENABLE ALWAYS TRIGGER record_change;
