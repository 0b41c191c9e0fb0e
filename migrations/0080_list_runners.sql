-- What an owner sees and ends of runners; binding is in 0035.
SET LOCAL ROLE ltg_owner;

-- How a runner is shown to its owner. Times are Unix seconds.
CREATE FUNCTION execution.fn_show_runner(p_runner execution.runners, p_open_runs bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
             'runner_id', p_runner.id,
             'name', p_runner.name,
             'created_at', devices.fn_unix(p_runner.created_at),
             'last_heartbeat_at', devices.fn_unix(p_runner.last_heartbeat_at),
             'binding_id', b.id,
             'bound_at', devices.fn_unix(b.bound_at),
             'device_id', d.id,
             'device_name', d.name,
             'device_trust_level', d.trust_level,
             'open_runs', p_open_runs)
      FROM (SELECT) AS one
      LEFT JOIN execution.runner_device_bindings b ON b.runner_id = p_runner.id AND b.status = 'active'
      LEFT JOIN devices.registered_devices d ON d.id = b.device_id);
END
$$;

-- The account's runners, bound ones first, newest first: as many as fit into an answer of 192 KiB. `more` says that there are
-- others.
CREATE FUNCTION execution.fn_runner_list_with_devices(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_most_bytes CONSTANT bigint := 192 * 1024;
  c_most_rows CONSTANT int := 500;
  v_request devices.request := devices.fn_request_open(p_envelope, 'runners', false);
  v_open jsonb;
  v_runners jsonb;
  v_more boolean;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  -- What they may go on with now.
  SELECT coalesce(jsonb_object_agg(c.runner_id, c.runs), '{}') INTO v_open
    FROM (SELECT r.runner_id, count(*) AS runs
            FROM execution.open_runs o
            JOIN execution.runs r ON r.id = o.run_id AND r.runner_id IS NOT NULL
           WHERE o.lenser_id = v_request.lenser_id AND o.open_until > now()
           GROUP BY r.runner_id) c;
  WITH own AS MATERIALIZED (
    SELECT r AS runner, row_number() OVER (ORDER BY b.id IS NULL, r.created_at DESC, r.id) AS place
      FROM execution.runners r
      LEFT JOIN execution.runner_device_bindings b ON b.runner_id = r.id AND b.status = 'active'
     WHERE r.lenser_id = v_request.lenser_id
     ORDER BY place
     LIMIT c_most_rows
  ), shown AS (
    SELECT execution.fn_show_runner(o.runner, coalesce((v_open ->> ((o.runner).id)::text)::bigint, 0)) AS shown, o.place
      FROM own o
  ), measured AS (
    SELECT s.shown, s.place, sum(octet_length(s.shown::text)) OVER (ORDER BY s.place) <= c_most_bytes AS fits FROM shown s
  )
  SELECT coalesce(jsonb_agg(m.shown ORDER BY m.place) FILTER (WHERE m.fits), '[]'),
         coalesce(NOT bool_and(m.fits), false) OR count(*) = c_most_rows
    INTO v_runners, v_more
    FROM measured m;
  RETURN devices.fn_ok(jsonb_build_object('runners', v_runners, 'more', v_more));
END
$$;

-- Ends a runner's binding; where it has none, that is so already. Its runs in flight keep what they had until now (rule 10). A
-- change like binding, and counted like it: what it ends can be had again.
CREATE FUNCTION execution.fn_runner_unbind(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'runner_unbind', true);
  v_runner execution.runners;
  v_ended execution.runner_device_bindings;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT r.* INTO v_runner FROM execution.runners r
   WHERE r.id = ((v_request.parts).body ->> 'runner_id')::uuid AND r.lenser_id = v_request.lenser_id;
  IF NOT FOUND THEN
    RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, NULL, devices.fn_refusal('unknown_runner'));
  END IF;
  UPDATE execution.runner_device_bindings b SET status = 'ended', ended_at = clock_timestamp()
   WHERE b.runner_id = v_runner.id AND b.status = 'active'
  RETURNING b.* INTO v_ended;
  RETURN devices.fn_operation_commit(v_request.parts, v_request.lenser_id, v_ended.device_id,
    devices.fn_ok(jsonb_build_object(
      'runner_id', v_runner.id,
      'name', v_runner.name,
      'binding_id', v_ended.id,
      'device_id', v_ended.device_id,
      'ended_at', devices.fn_unix(v_ended.ended_at))));
END
$$;

GRANT EXECUTE ON FUNCTION execution.fn_runner_list_with_devices(text), execution.fn_runner_unbind(text) TO ltg_registrar;
