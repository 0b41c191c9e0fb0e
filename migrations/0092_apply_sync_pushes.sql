-- What an applier made of pushes, checked against what was stored and what was signed before any of it is kept (law 5). Merging is
-- the applier's; that what it made is the merge, is seen here. Of digests, links and refusals the applier's word stands.
SET LOCAL ROLE ltg_owner;

-- One object as it was and as it is to be, with the edits that were merged into it.
CREATE TYPE devices.sync_merge AS (
  lenser_id uuid,
  class text,
  object text,
  before jsonb,
  after jsonb,
  digest bytea
);

-- The entries with what the applier says of each. LT005 where it does not speak of these, or passes what is refused here.
CREATE FUNCTION devices.fn_sync_said(p_entries devices.sync_entry[], p_merged jsonb) RETURNS devices.sync_entry[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = on
AS $$
DECLARE
  v_entries devices.sync_entry[] := ARRAY(
    SELECT ROW(e.place, e.idx, e.entry, e.lenser_id, e.device_id, e.class, e.object, e.actor, e.n, e.clock, e.prev, e.paths,
               s.said ->> 'status', s.said ->> 'link', coalesce(e.code, s.said ->> 'code'),
               left(s.said ->> 'detail', 200))::devices.sync_entry
      FROM unnest(p_entries) e
      LEFT JOIN (
        SELECT (i.said ->> 'idx')::integer AS idx, (x.ordinality - 1)::integer AS entry, x.said
          FROM jsonb_array_elements(p_merged -> 'items') AS i (said)
          CROSS JOIN LATERAL jsonb_array_elements(i.said -> 'entries') WITH ORDINALITY AS x (said, ordinality)) s
        ON s.idx = e.idx AND s.entry = e.entry
     ORDER BY e.place);
BEGIN
  -- What is refused for the account's bound may have been counted since by another.
  IF EXISTS (SELECT FROM unnest(v_entries) e WHERE e.code = 'object_limit' AND e.status IS NOT NULL) THEN
    RAISE EXCEPTION 'an account has come to its bound meanwhile' USING ERRCODE = 'serialization_failure';
  END IF;
  IF cardinality(v_entries) <> cardinality(p_entries)
    OR EXISTS (SELECT FROM unnest(v_entries) e
                WHERE (e.status IS NULL) = (e.code IS NULL)
                   OR e.status NOT IN ('applied', 'duplicate')
                   OR (e.status = 'applied') <> (e.link IS NOT NULL)
                   -- 32 bytes as base64url.
                   OR length(e.link) <> 43 OR e.link !~ '^[A-Za-z0-9_-]*[AEIMQUYcgkosw048]$'
                   OR NOT EXISTS (SELECT FROM devices.reasons r WHERE r.code = coalesce(e.code, r.code))) THEN
    RAISE EXCEPTION 'entries and what is said of them differ' USING ERRCODE = 'LT005';
  END IF;
  RETURN v_entries;
END
$$;

-- Rule 7, again: each edit that was merged is its actor's next after the one that it names, and claims to have seen nothing that is
-- not there. LT005 where one is not.
CREATE FUNCTION devices.fn_sync_check_entries(p_entries devices.sync_entry[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
AS $$
BEGIN
  IF EXISTS (
    SELECT FROM (
      SELECT e.n, e.prev, o.state -> 'clock' AS clock, e.actor,
             row_number() OVER edits AS place, lag(e.link) OVER edits AS before,
             o.links ->> e.actor AS newest
        FROM unnest(p_entries) e
        JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
       WHERE e.status = 'applied'
      WINDOW edits AS (PARTITION BY e.lenser_id, e.class, e.object, e.actor ORDER BY e.place)) x
     WHERE x.n IS DISTINCT FROM coalesce((x.clock ->> x.actor)::bigint, 0) + x.place
        OR x.prev IS DISTINCT FROM CASE WHEN x.place = 1 THEN x.newest ELSE x.before END)
  OR EXISTS (
    SELECT FROM unnest(p_entries) e
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
      CROSS JOIN LATERAL jsonb_each_text(e.clock) c
     WHERE e.status = 'applied' AND e.clock - e.actor <> '{}' AND c.key <> e.actor
       AND c.value::bigint > coalesce((o.state -> 'clock' ->> c.key)::bigint, 0)
       AND NOT EXISTS (
         SELECT FROM unnest(p_entries) b
          WHERE (b.lenser_id, b.class, b.object, b.actor) = (e.lenser_id, e.class, e.object, c.key)
            AND b.status = 'applied' AND b.place < e.place AND b.n >= c.value::bigint))
  OR EXISTS (
    SELECT FROM unnest(p_entries) e
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
     WHERE e.status = 'duplicate' AND e.n > coalesce((o.state -> 'clock' ->> e.actor)::bigint, 0)
       AND NOT EXISTS (
         SELECT FROM unnest(p_entries) b
          WHERE (b.lenser_id, b.class, b.object, b.actor, b.n) = (e.lenser_id, e.class, e.object, e.actor, e.n)
            AND b.status = 'applied' AND b.place < e.place)) THEN
    RAISE EXCEPTION 'an edit was merged that could not be' USING ERRCODE = 'LT005';
  END IF;
END
$$;

-- Each object that something was merged into, as it was and as the applier says that it is now. Which objects these are follows
-- from the entries; the applier names each by one of those. LT005 where one is missing, twice or too much.
CREATE FUNCTION devices.fn_sync_merged(p_entries devices.sync_entry[], p_merged jsonb) RETURNS devices.sync_merge[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = on
SET enable_mergejoin = off
AS $$
DECLARE
  v_merges devices.sync_merge[] := ARRAY(
    SELECT ROW(o.lenser_id, o.class, o.object, o.state, m.said -> 'state',
               CASE WHEN length(d.text) = 43 AND d.text ~ '^[A-Za-z0-9_-]*[AEIMQUYcgkosw048]$'
                 THEN decode(translate(d.text, '-_', '+/') || '=', 'base64') END)::devices.sync_merge
      FROM jsonb_array_elements(p_merged -> 'objects') AS m (said)
     CROSS JOIN LATERAL (SELECT m.said ->> 'digest' AS text) d
      JOIN unnest(p_entries) e ON e.idx = (m.said ->> 'idx')::integer AND e.entry = (m.said ->> 'entry')::integer
      JOIN devices.sync_objects o ON (o.lenser_id, o.class, o.object) = (e.lenser_id, e.class, e.object)
     WHERE e.status = 'applied'
     ORDER BY o.lenser_id, o.class, o.object);
  v_named integer := (
    SELECT count(*) FROM (SELECT DISTINCT m.lenser_id, m.class, m.object FROM unnest(v_merges) m) x);
BEGIN
  IF v_named <> cardinality(v_merges)
    OR v_named <> jsonb_array_length(p_merged -> 'objects')
    OR v_named <> (SELECT count(*) FROM (
         SELECT DISTINCT e.lenser_id, e.class, e.object FROM unnest(p_entries) e WHERE e.status = 'applied') x)
    OR EXISTS (SELECT FROM unnest(v_merges) m
                WHERE m.after IS NULL OR m.digest IS NULL) THEN
    RAISE EXCEPTION 'the objects are not those of the entries' USING ERRCODE = 'LT005';
  END IF;
  RETURN v_merges;
END
$$;

-- Whether a clock has seen all that another has.
CREATE FUNCTION devices.fn_clock_covers(p_clock jsonb, p_other jsonb) RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NOT EXISTS (
    SELECT FROM jsonb_each_text(p_other) c WHERE coalesce((p_clock ->> c.key)::bigint, 0) < c.value::bigint);
END
$$;

-- Whether these writes of a path are those that no other of them has seen and overwritten, each once, in the order in which they
-- are read (rules 2 and 3). An edit has seen what its own actor wrote, so each actor has one of them at most, and that order is
-- total. Each is compared with what is kept alone, of which there is little: nobody makes this long.
CREATE FUNCTION devices.fn_sync_is_join(p_stored jsonb, p_edits jsonb, p_kept jsonb) RETURNS boolean
LANGUAGE plpgsql
STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_written CONSTANT jsonb[] :=
    ARRAY(SELECT DISTINCT w.value FROM jsonb_array_elements(coalesce(p_stored, '[]') || p_edits) w);
  v_kept jsonb[];
BEGIN
  IF jsonb_typeof(p_kept) IS DISTINCT FROM 'array'
    OR jsonb_array_length(p_kept) NOT BETWEEN 1 AND devices.fn_limit('writesPerPath') THEN
    RETURN false;
  END IF;
  v_kept := ARRAY(SELECT k.w FROM jsonb_array_elements(p_kept) WITH ORDINALITY AS k (w, place) ORDER BY k.place);
  IF NOT v_kept <@ v_written
    OR cardinality(v_kept) <> (SELECT count(DISTINCT k -> 'actor') FROM unnest(v_kept) k) THEN
    RETURN false;
  END IF;
  RETURN p_kept = (
      SELECT jsonb_agg(k ORDER BY (SELECT sum(c.value::bigint) FROM jsonb_each_text(k -> 'clock') c) DESC,
                                  split_part(k ->> 'actor', '~', 1) COLLATE "C",
                                  split_part(k ->> 'actor', '~', 2)::bigint DESC)
        FROM unnest(v_kept) k)
    AND NOT EXISTS (
      SELECT FROM unnest(v_kept) k CROSS JOIN unnest(v_kept) o
       WHERE o -> 'clock' <> k -> 'clock' AND devices.fn_clock_covers(o -> 'clock', k -> 'clock'))
    AND NOT EXISTS (
      SELECT FROM unnest(v_written) w
       WHERE w <> ALL (v_kept)
         AND NOT EXISTS (
           SELECT FROM unnest(v_kept) o
            WHERE o -> 'clock' <> w -> 'clock' AND devices.fn_clock_covers(o -> 'clock', w -> 'clock')));
END
$$;

-- What is merged is the join of what was stored and these edits, path by path, and its clock the join of theirs. LT005 where not.
CREATE FUNCTION devices.fn_sync_check_states(p_entries devices.sync_entry[], p_merges devices.sync_merge[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = on
AS $$
DECLARE
  -- Nearly always an object has one edit, which has seen all that was there, and what it writes stands alone.
  v_rest CONSTANT devices.sync_merge[] := ARRAY(
    SELECT p_merges[x.place]
      FROM (
        SELECT m.place, e.clock = (m.before -> 'clock') || jsonb_build_object(e.actor, e.n)
               AND m.after = jsonb_build_object('clock', e.clock, 'paths', (m.before -> 'paths') || w.paths) AS is_plain
          FROM unnest(p_merges) WITH ORDINALITY AS m (lenser_id, class, object, before, after, digest, place)
          JOIN unnest(p_entries) e ON (e.lenser_id, e.class, e.object) = (m.lenser_id, m.class, m.object)
         CROSS JOIN LATERAL (
           SELECT jsonb_object_agg(p.key, jsonb_build_array(
                    jsonb_build_object('actor', e.actor, 'clock', e.clock, 'value', p.value))) AS paths
             FROM jsonb_each(e.paths) p) w
         WHERE e.status = 'applied'
        -- No state is carried along.
        OFFSET 0) x
     GROUP BY x.place
    HAVING count(*) > 1 OR bool_and(x.is_plain) IS NOT TRUE
     ORDER BY x.place);
BEGIN
  IF cardinality(v_rest) = 0 THEN
    RETURN;
  END IF;
  IF EXISTS (
    WITH edits AS MATERIALIZED (
      SELECT m.place, e.actor, e.n, e.clock, e.paths
        FROM unnest(v_rest) WITH ORDINALITY AS m (lenser_id, class, object, before, after, digest, place)
        JOIN unnest(p_entries) e ON (e.lenser_id, e.class, e.object) = (m.lenser_id, m.class, m.object)
       WHERE e.status = 'applied'
    ), clocks AS (
      SELECT d.place, jsonb_object_agg(d.actor, d.n ORDER BY d.n) AS own FROM edits d GROUP BY 1
    ), written AS (
      SELECT d.place, p.key AS path, count(*) AS writes,
             jsonb_agg(jsonb_build_object('actor', d.actor, 'clock', d.clock, 'value', p.value)) AS edits
        FROM edits d CROSS JOIN LATERAL jsonb_each(d.paths) p GROUP BY 1, 2
    ), touched AS (
      SELECT w.place, array_agg(w.path) AS paths FROM written w GROUP BY 1
    ), pairs AS (
      SELECT m.place, m.before, m.after
        FROM unnest(v_rest) WITH ORDINALITY AS m (lenser_id, class, object, before, after, digest, place)
    )
    SELECT FROM pairs m
      JOIN clocks c ON c.place = m.place
      JOIN touched t ON t.place = m.place
     WHERE m.after - '{clock,paths}'::text[] <> '{}'
        OR m.after -> 'clock' IS DISTINCT FROM (m.before -> 'clock') || c.own
        OR (m.after -> 'paths') - t.paths IS DISTINCT FROM (m.before -> 'paths') - t.paths
    UNION ALL
    SELECT FROM pairs m
      JOIN written w ON w.place = m.place
      CROSS JOIN LATERAL (SELECT m.before -> 'paths' -> w.path AS stored, m.after -> 'paths' -> w.path AS kept) x
     WHERE NOT CASE
       -- Nearly always: one edit that has seen all that was written.
       WHEN w.writes = 1 AND jsonb_array_length(coalesce(x.stored, '[]')) <= 1 AND x.kept = w.edits
         THEN NOT EXISTS (
           SELECT FROM jsonb_each_text(x.stored -> 0 -> 'clock') k
            WHERE coalesce((w.edits -> 0 -> 'clock' ->> k.key)::bigint, 0) < k.value::bigint)
       ELSE devices.fn_sync_is_join(x.stored, w.edits, x.kept)
     END) THEN
    RAISE EXCEPTION 'what was merged is not the merge' USING ERRCODE = 'LT005';
  END IF;
END
$$;
