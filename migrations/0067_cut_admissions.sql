-- What broker-auth asks and tells about connections that are to be cut. Several replicas may do so about one.
SET LOCAL ROLE ltg_owner;

-- Connections that are to be kicked now, so many at most, those that wait longest first.
CREATE FUNCTION devices.fn_admissions_to_cut(p_limit integer)
RETURNS TABLE (id bigint, server_id text, client_id bigint, kid uuid, cause text, kicks_left integer)
LANGUAGE plpgsql
STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
  RETURN QUERY
  SELECT a.id, a.server_id, a.client_id, a.kid, a.cause, a.kicks_left
    FROM devices.admissions a
   WHERE a.due_at <= clock_timestamp()
   ORDER BY a.due_at, a.id
   LIMIT p_limit;
END
$$;

-- Notes kicks, each with the kicks_left that its reader saw, so that what two replicas did at once counts once. Kicked is three
-- times, the later two a second and five seconds after the first: the server may just have been admitting the connection, and
-- broker-auth's own answer comes within four. A server that is not there is asked again until the connection has ended by
-- itself, since it may only be out of reach.
CREATE FUNCTION devices.fn_admissions_kicked(p_ids bigint[], p_kicks_left integer[], p_answered boolean[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  WITH kicked AS (
    SELECT a.id, a.kicks_left, k.answered
      FROM unnest(p_ids, p_kicks_left, p_answered) AS k (id, kicks_left, answered)
      JOIN devices.admissions a ON a.id = k.id AND a.kicks_left = k.kicks_left AND a.due_at <= clock_timestamp()
       FOR UPDATE OF a SKIP LOCKED
  ), cut AS (
    DELETE FROM devices.admissions a USING kicked k WHERE a.id = k.id AND k.kicks_left = 1 AND k.answered
  )
  UPDATE devices.admissions a
     SET kicks_left = CASE WHEN k.answered THEN k.kicks_left - 1 ELSE k.kicks_left END,
         due_at = clock_timestamp() + CASE
           WHEN NOT k.answered THEN interval '30 s'
           WHEN k.kicks_left = 3 THEN interval '1 s'
           ELSE interval '4 s'
         END
    FROM kicked k
   WHERE a.id = k.id AND (k.kicks_left > 1 OR NOT k.answered);
END
$$;

GRANT EXECUTE ON FUNCTION devices.fn_admissions_to_cut(integer) TO ltg_broker_auth;
GRANT EXECUTE ON FUNCTION devices.fn_admissions_kicked(bigint[], integer[], boolean[]) TO ltg_broker_auth;
