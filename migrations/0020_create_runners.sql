-- What executes, and on which device (RH-1).
SET LOCAL ROLE ltg_owner;

-- So that rows below can name a device and its owner in one foreign key: nobody's run lands on somebody else's device,
-- whatever a function forgets.
ALTER TABLE devices.registered_devices ADD CONSTRAINT registered_devices_id_lenser_id_key UNIQUE (id, lenser_id);

CREATE TABLE execution.runners (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  lenser_id uuid NOT NULL REFERENCES lensers.profiles (id),
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
  -- When the newest heartbeat was stored that reported it (RH-2).
  last_heartbeat_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (lenser_id, name),
  UNIQUE (id, lenser_id)
);

CREATE TABLE execution.runner_device_bindings (
  id uuid PRIMARY KEY DEFAULT uuidv7(),
  runner_id uuid NOT NULL,
  device_id uuid NOT NULL,
  -- Filled by the trigger below; it ties runner and device to one owner.
  lenser_id uuid NOT NULL,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'ended')),
  bound_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
  UNIQUE (id, runner_id, device_id),
  FOREIGN KEY (runner_id, lenser_id) REFERENCES execution.runners (id, lenser_id),
  FOREIGN KEY (device_id, lenser_id) REFERENCES devices.registered_devices (id, lenser_id)
);
CREATE UNIQUE INDEX runner_device_bindings_active_key
  ON execution.runner_device_bindings (runner_id) WHERE status = 'active';
CREATE INDEX runner_device_bindings_device_id_idx ON execution.runner_device_bindings (device_id);

CREATE FUNCTION execution.fn_binding_owner()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT lenser_id INTO NEW.lenser_id FROM execution.runners WHERE id = NEW.runner_id;
  RETURN NEW;
END
$$;

CREATE TRIGGER runner_device_bindings_owner
  BEFORE INSERT ON execution.runner_device_bindings
  FOR EACH ROW EXECUTE FUNCTION execution.fn_binding_owner();

-- A run's trust rests on its binding's row and times, so the only change that a binding knows is its end.
CREATE FUNCTION execution.fn_binding_only_ends()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.status = 'active' AND NEW.status = 'ended'
     AND (NEW.id, NEW.runner_id, NEW.device_id, NEW.lenser_id, NEW.bound_at)
       = (OLD.id, OLD.runner_id, OLD.device_id, OLD.lenser_id, OLD.bound_at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a binding can only end' USING ERRCODE = 'LT003';
END
$$;

CREATE TRIGGER runner_device_bindings_only_ends
  BEFORE UPDATE OR DELETE ON execution.runner_device_bindings
  FOR EACH ROW EXECUTE FUNCTION execution.fn_binding_only_ends();

ALTER TABLE execution.runners ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY runners_own ON execution.runners FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON execution.runners TO authenticated;

ALTER TABLE execution.runner_device_bindings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY runner_device_bindings_own ON execution.runner_device_bindings FOR SELECT TO authenticated
  USING (lenser_id IN (SELECT p.id FROM lensers.profiles p WHERE p.user_id = (SELECT auth.uid())));
GRANT SELECT ON execution.runner_device_bindings TO authenticated;
