-- What a person decides of a conflict, and takes back again (rule 12). The object is written by the gateway's own hand,
-- over everything that it has seen, so that the decision goes over every side and what is edited later goes over the
-- decision. The sequencer tells the feed.
SET LOCAL ROLE ltg_owner;

-- A state with a path written by the gateway's own writers, one a value, each over everything that the object has seen
-- and none over another: `resolved` and `reopened` of @lenserfight/sync. Of equal sums the later incarnation is read,
-- so the first value has the last one.
CREATE FUNCTION devices.fn_sync_decided(p_state jsonb, p_path text, p_values jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_gateway CONSTANT text := '00000000-0000-0000-0000-000000000000~';
  v_seen jsonb := p_state -> 'clock';
  v_clock jsonb;
  v_writes jsonb;
BEGIN
  SELECT jsonb_agg(jsonb_build_object(
           'actor', w.actor, 'clock', v_seen || jsonb_build_object(w.actor, w.n), 'value', w.value) ORDER BY w.place),
         v_seen || jsonb_object_agg(w.actor, w.n)
    INTO v_writes, v_clock
    FROM (
      SELECT a.actor, coalesce((v_seen ->> a.actor)::bigint, 0) + 1 AS n, v.value, v.place
        FROM jsonb_array_elements(p_values) WITH ORDINALITY AS v (value, place)
       CROSS JOIN LATERAL (SELECT concat(c_gateway, jsonb_array_length(p_values) - v.place + 1) AS actor) a) w;
  RETURN jsonb_build_object('clock', v_clock, 'paths', (p_state -> 'paths') || jsonb_build_object(p_path, v_writes));
END
$$;

-- How many bytes a value's canonical JSON has: jsonb's text without the space after each comma and colon between
-- values. Numbers that canonical JSON writes with an exponent jsonb writes out, which is longer: canonical ones have 25
-- bytes at most.
CREATE FUNCTION devices.fn_canonical_bytes(p_value jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN octet_length(p_value::text) - (
    SELECT coalesce(sum(CASE jsonb_typeof(n.node)
             WHEN 'object' THEN greatest(0, 2 * (SELECT count(*) FROM jsonb_object_keys(n.node)) - 1)
             WHEN 'array' THEN greatest(0, jsonb_array_length(n.node) - 1)
             ELSE greatest(0, octet_length(n.node::text) - 25) END), 0)
      FROM jsonb_path_query(p_value, 'strict $.**') AS n (node)
     WHERE jsonb_typeof(n.node) IN ('object', 'array', 'number'));
END
$$;

-- What a state reads (`read` of @lenserfight/sync): of each path the first write, deleted ones left out, and edges
-- whose end is gone.
CREATE FUNCTION devices.fn_sync_view(p_state jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_all jsonb := (
    SELECT coalesce(jsonb_object_agg(p.path, p.writes -> 0 -> 'value'), '{}')
      FROM jsonb_each(p_state -> 'paths') AS p (path, writes)
     WHERE p.path <> '$life' AND jsonb_typeof(p.writes -> 0 -> 'value') <> 'null');
BEGIN
  RETURN (
    SELECT coalesce(jsonb_object_agg(p.path, p.value), '{}')
      FROM jsonb_each(v_all) AS p (path, value)
     WHERE p.path !~ '^edge/[^/]+/[^/]+$'
        OR v_all ?& ARRAY['node/' || split_part(p.path, '/', 2), 'node/' || split_part(p.path, '/', 3)]);
END
$$;

-- Why an object may not become this, or null: `isTooLarge` of @lenserfight/sync. What makes it no larger than it was always may.
CREATE FUNCTION devices.fn_sync_size_refusal(p_was jsonb, p_state jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE
    WHEN EXISTS (SELECT FROM jsonb_each(p_state -> 'paths') p
                  WHERE jsonb_array_length(p.value) > devices.fn_limit('writesPerPath'))
      THEN devices.fn_refusal('object_too_large', 'too many sides would stand beside each other')
    -- What it reads is part of what is stored, and jsonb writes more.
    WHEN octet_length(p_state::text) <= devices.fn_limit('objectBytes') THEN NULL
    WHEN devices.fn_canonical_bytes(p_state)
         > greatest(devices.fn_limit('objectStateBytes'), devices.fn_canonical_bytes(p_was))
      THEN devices.fn_refusal('object_too_large', 'all that would be kept of it is too large')
    WHEN devices.fn_canonical_bytes(devices.fn_sync_view(p_state))
         > greatest(devices.fn_limit('objectBytes'), devices.fn_canonical_bytes(devices.fn_sync_view(p_was)))
      THEN devices.fn_refusal('object_too_large')
  END;
END
$$;

-- Holds the object of an account's conflict and reads the conflict as it is then: who pushes to the object writes both
-- under its lock. Null where the account has no such conflict.
CREATE FUNCTION devices.fn_sync_hold_conflict(p_lenser uuid, p_conflict uuid) RETURNS devices.sync_conflicts
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_conflict devices.sync_conflicts;
BEGIN
  PERFORM FROM devices.sync_objects o
    JOIN devices.sync_conflicts c ON (c.lenser_id, c.class, c.object) = (o.lenser_id, o.class, o.object)
   WHERE c.id = p_conflict AND c.lenser_id = p_lenser
     FOR UPDATE OF o;
  SELECT * INTO v_conflict FROM devices.sync_conflicts c WHERE c.id = p_conflict AND c.lenser_id = p_lenser;
  RETURN v_conflict;
END
$$;

-- The value that a person's choice means, or why it means none.
CREATE FUNCTION devices.fn_sync_chosen(
  p_conflict devices.sync_conflicts, p_winner jsonb, OUT value jsonb, OUT refusal jsonb
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_sides CONSTANT integer := jsonb_array_length(p_conflict.sides);
BEGIN
  value := CASE
    WHEN p_winner ? 'side' THEN p_conflict.sides -> (p_winner ->> 'side')::integer -> 'value'
    WHEN p_winner ? 'base' THEN p_conflict.base -> 'value'
    ELSE p_winner -> 'value' END;
  refusal := CASE
    WHEN value IS NOT NULL AND devices.fn_canonical_bytes(value) > devices.fn_limit('objectBytes')
      THEN devices.fn_refusal('object_too_large')
    WHEN value IS NOT NULL THEN NULL
    WHEN p_winner ? 'base' THEN devices.fn_refusal('malformed_body', 'no common base of it is kept')
    ELSE devices.fn_refusal('malformed_body', format('it has %s sides, counted from 0', v_sides)) END;
END
$$;

-- Writes an object whose row is held, by the gateway's own hand: nobody has its digest yet, and the sequencer tells the
-- feed.
CREATE FUNCTION devices.fn_sync_overwrite(p_conflict devices.sync_conflicts, p_state jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE devices.sync_objects o SET state = p_state, digest = NULL, changed_at = now()
   WHERE (o.lenser_id, o.class, o.object) = (p_conflict.lenser_id, p_conflict.class, p_conflict.object);
  INSERT INTO devices.sync_pending (lenser_id, class, object)
  VALUES (p_conflict.lenser_id, p_conflict.class, p_conflict.object);
END
$$;

CREATE FUNCTION devices.fn_sync_state(p_conflict devices.sync_conflicts) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT o.state FROM devices.sync_objects o
           WHERE (o.lenser_id, o.class, o.object) = (p_conflict.lenser_id, p_conflict.class, p_conflict.object));
END
$$;

-- Of the gateway's own first writer, how often it has written an object: what tells one decision from the next.
CREATE FUNCTION devices.fn_sync_own_count(p_clock jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce((p_clock ->> '00000000-0000-0000-0000-000000000000~1')::bigint, 0);
END
$$;

-- What a decision, or its undoing, is told as: never with the value, which is the object's.
CREATE FUNCTION devices.fn_show_resolution(p_resolution uuid, p_conflict devices.sync_conflicts) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN devices.fn_ok(jsonb_build_object(
    'resolution_id', p_resolution, 'conflict_id', p_conflict.id,
    'class', p_conflict.class, 'object', p_conflict.object, 'path', p_conflict.path));
END
$$;

-- Takes a person's decision of an open conflict whose sides are those that the person saw.
CREATE FUNCTION devices.fn_sync_decide(p_request devices.request) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_body CONSTANT jsonb := (p_request.parts).body;
  v_conflict CONSTANT devices.sync_conflicts :=
    devices.fn_sync_hold_conflict(p_request.lenser_id, (v_body ->> 'conflict_id')::uuid);
  v_state jsonb := devices.fn_sync_state(v_conflict);
  v_was jsonb;
  v_value jsonb;
  v_refusal jsonb;
  v_resolution uuid;
BEGIN
  IF v_conflict.id IS NULL THEN
    RETURN devices.fn_refusal('unknown_conflict');
  ELSIF v_conflict.closed_at IS NOT NULL OR v_state IS NULL THEN
    RETURN devices.fn_refusal('conflict_closed');
  ELSIF v_conflict.sides_digest IS DISTINCT FROM devices.fn_b64url_decode(v_body ->> 'sides_digest') THEN
    RETURN devices.fn_refusal('conflict_changed');
  END IF;
  SELECT c.value, c.refusal INTO v_value, v_refusal FROM devices.fn_sync_chosen(v_conflict, v_body -> 'winner') c;
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  v_was := v_state;
  v_state := devices.fn_sync_decided(v_was, v_conflict.path, jsonb_build_array(v_value));
  v_refusal := devices.fn_sync_size_refusal(v_was, v_state);
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  PERFORM devices.fn_sync_overwrite(v_conflict, v_state);
  UPDATE devices.sync_conflicts c SET closed_at = greatest(now(), c.opened_at), changed_at = now() WHERE c.id = v_conflict.id;
  INSERT INTO devices.sync_resolutions (conflict_id, lenser_id, kind, sides, winner, n, resolved_by, op_id)
  VALUES (v_conflict.id, v_conflict.lenser_id, 'resolve', v_conflict.sides, v_body -> 'winner',
          devices.fn_sync_own_count(v_state -> 'clock'), (p_request.parts).kid, (p_request.parts).op_id)
  RETURNING id INTO v_resolution;
  RETURN devices.fn_show_resolution(v_resolution, v_conflict);
END
$$;

-- SC-4: the one way in which a conflict is decided. Its audit record tells who decided which, between which sides and
-- for which, and of a value of their own its digest alone.
CREATE FUNCTION devices.fn_sync_resolve_conflict(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'sync_resolve', true);
  v_body jsonb := (v_request.parts).body;
  v_winner jsonb := v_body -> 'winner';
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  IF v_winner ? 'value' THEN
    v_winner := jsonb_build_object(
      'value_digest', devices.fn_b64url(sha256(convert_to((v_winner -> 'value')::text, 'UTF8'))));
  END IF;
  RETURN devices.fn_operation_commit(
    v_request.parts, v_request.lenser_id, NULL, devices.fn_sync_decide(v_request), jsonb_build_object(
      'conflict_id', v_body -> 'conflict_id', 'sides_digest', v_body -> 'sides_digest', 'winner', v_winner));
END
$$;

-- Where the conflict is that a decision is about: what form a value has there, the registrar judges by the contract's
-- classes.
CREATE FUNCTION devices.fn_sync_conflict_place(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'sync_resolve', false);
  v_conflict devices.sync_conflicts;
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  SELECT * INTO v_conflict FROM devices.sync_conflicts c
   WHERE c.id = ((v_request.parts).body ->> 'conflict_id')::uuid AND c.lenser_id = v_request.lenser_id;
  IF NOT FOUND THEN
    RETURN devices.fn_refusal('unknown_conflict');
  END IF;
  RETURN devices.fn_ok(jsonb_build_object('class', v_conflict.class, 'path', v_conflict.path));
END
$$;

-- The values that stand beside each other once a decision is taken back: what was written since the decision, which
-- stays shown, then the sides that it was made between. Each once.
CREATE FUNCTION devices.fn_sync_values_again(p_resolution devices.sync_resolutions, p_writes jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_agg(v.value ORDER BY v.place)
      FROM (
        SELECT t.value, min(t.place) AS place
          FROM (
            SELECT w.write -> 'value' AS value, w.place
              FROM jsonb_array_elements(p_writes) WITH ORDINALITY AS w (write, place)
             WHERE w.write ->> 'actor' <> '00000000-0000-0000-0000-000000000000~1'
                OR devices.fn_sync_own_count(w.write -> 'clock') <> p_resolution.n
             UNION ALL
            SELECT s.side -> 'value', jsonb_array_length(p_writes) + s.place
              FROM jsonb_array_elements(p_resolution.sides) WITH ORDINALITY AS s (side, place)) t
         GROUP BY t.value) v);
END
$$;

-- Has a path's writes stand as an open conflict, in the one row that there may be.
CREATE FUNCTION devices.fn_sync_open_conflict(p_conflict devices.sync_conflicts, p_sides jsonb)
RETURNS devices.sync_conflicts
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_digest CONSTANT bytea := sha256(convert_to(p_sides::text, 'UTF8'));
  v_conflict devices.sync_conflicts;
BEGIN
  UPDATE devices.sync_conflicts c
     SET sides = p_sides, sides_digest = v_digest, base = p_conflict.base, changed_at = now()
   WHERE (c.lenser_id, c.class, c.object, c.path)
       = (p_conflict.lenser_id, p_conflict.class, p_conflict.object, p_conflict.path) AND c.closed_at IS NULL
  RETURNING * INTO v_conflict;
  IF NOT FOUND THEN
    INSERT INTO devices.sync_conflicts (lenser_id, class, object, path, sides, sides_digest, base)
    VALUES (p_conflict.lenser_id, p_conflict.class, p_conflict.object, p_conflict.path, p_sides, v_digest,
            p_conflict.base)
    RETURNING * INTO v_conflict;
  END IF;
  RETURN v_conflict;
END
$$;

-- Takes a decision back, once. Nothing that was written since is lost: it is a side too.
CREATE FUNCTION devices.fn_sync_reopen(p_request devices.request) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_done devices.sync_resolutions;
  v_conflict devices.sync_conflicts;
  v_was jsonb;
  v_state jsonb;
  v_refusal jsonb;
  v_undo uuid;
BEGIN
  SELECT * INTO v_done FROM devices.sync_resolutions r
   WHERE r.id = ((p_request.parts).body ->> 'resolution_id')::uuid AND r.lenser_id = p_request.lenser_id
     AND r.kind = 'resolve';
  IF NOT FOUND THEN
    RETURN devices.fn_refusal('unknown_resolution');
  END IF;
  v_conflict := devices.fn_sync_hold_conflict(v_done.lenser_id, v_done.conflict_id);
  v_was := devices.fn_sync_state(v_conflict);
  v_refusal := CASE
    WHEN EXISTS (SELECT FROM devices.sync_resolutions r WHERE r.undoes = v_done.id)
      THEN devices.fn_refusal('unknown_resolution', 'it was taken back already')
    -- One of its name that was made since has seen none of its sides: nothing of the former comes back in it.
    WHEN v_was IS NULL OR EXISTS (
        SELECT FROM jsonb_array_elements(v_done.sides) s
         WHERE NOT devices.fn_clock_covers(v_was -> 'clock', s -> 'clock'))
      THEN devices.fn_refusal('unknown_resolution', 'its object was deleted and is forgotten') END;
  IF v_refusal IS NULL THEN
    v_state := devices.fn_sync_decided(
      v_was, v_conflict.path, devices.fn_sync_values_again(v_done, v_was -> 'paths' -> v_conflict.path));
    v_refusal := devices.fn_sync_size_refusal(v_was, v_state);
  END IF;
  IF v_refusal IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  PERFORM devices.fn_sync_overwrite(v_conflict, v_state);
  INSERT INTO devices.sync_resolutions (conflict_id, lenser_id, kind, undoes, sides, n, resolved_by, op_id)
  VALUES (v_conflict.id, v_conflict.lenser_id, 'undo', v_done.id, v_was -> 'paths' -> v_conflict.path,
          devices.fn_sync_own_count(v_state -> 'clock'), (p_request.parts).kid, (p_request.parts).op_id)
  RETURNING id INTO v_undo;
  RETURN devices.fn_show_resolution(
    v_undo, devices.fn_sync_open_conflict(v_conflict, v_state -> 'paths' -> v_conflict.path));
END
$$;

-- Opens again what a person decided.
CREATE FUNCTION devices.fn_sync_undo_resolution(p_envelope text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_request devices.request := devices.fn_request_open(p_envelope, 'sync_undo', true);
BEGIN
  IF v_request.outcome IS NOT NULL THEN
    RETURN v_request.outcome;
  END IF;
  RETURN devices.fn_operation_commit(
    v_request.parts, v_request.lenser_id, NULL, devices.fn_sync_reopen(v_request),
    jsonb_build_object('undoes', (v_request.parts).body -> 'resolution_id'));
END
$$;

GRANT EXECUTE ON FUNCTION
  devices.fn_sync_resolve_conflict(text), devices.fn_sync_conflict_place(text), devices.fn_sync_undo_resolution(text)
TO ltg_registrar;
