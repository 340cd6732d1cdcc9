/**
 * The row log: a trigger on the library's tables records every change of a job in the transaction that makes it. At the
 * end it moves to the event log, where each change of a job becomes one row of `step`.
 */
import type { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import { burialDelay, callerPatience, longestDelay, pulseMillis, timing } from "./settings.ts"
import { Truth } from "./truth.ts"

const transition = `
  seq bigint, ts timestamptz, stmt timestamptz, began timestamptz, tx bigint, app text, place text, id bigint, key text, queue text,
  worker text, priority integer, max_attempts integer, run_at timestamptz,
  old_state text, new_state text, old_attempt integer, new_attempt integer, old_epoch integer, new_epoch integer,
  old_node integer, new_node integer, slot text, batch bigint, callback_of bigint, scheduled_for timestamptz,
  part text`

const statements = [
  "CREATE SCHEMA chaos",
  `CREATE TABLE chaos.transition (${transition})`,
  "CREATE SEQUENCE chaos.transition_seq",
  "CREATE TABLE chaos.node (id integer, name text, ts timestamptz)",
  `CREATE FUNCTION chaos.log_job() RETURNS trigger LANGUAGE plpgsql AS $log$
DECLARE
  met record := coalesce(NEW, OLD);
BEGIN
  IF TG_OP = 'UPDATE' AND (OLD.state, OLD.attempt, OLD.epoch, OLD.run_at) IS NOT DISTINCT FROM
    (NEW.state, NEW.attempt, NEW.epoch, NEW.run_at) THEN
    RETURN NULL;
  END IF;
  INSERT INTO chaos.transition VALUES (
    nextval('chaos.transition_seq'), clock_timestamp(), statement_timestamp(), now(), pg_current_xact_id()::text::bigint,
    current_setting('application_name'), TG_ARGV[0], met.id, met.args ->> 'key', met.queue, met.worker, met.priority,
    met.max_attempts, met.run_at, OLD.state, NEW.state, OLD.attempt, NEW.attempt, OLD.epoch, NEW.epoch,
    OLD.claimed_by, NEW.claimed_by, nullif(met.args ->> 'slot', ''), met.batch_id,
    (met.meta -> 'batch' ->> 'id')::bigint, met.scheduled_for,
    met.partition_key
  );
  RETURN NULL;
END
$log$`,
  `CREATE TRIGGER chaos_log AFTER INSERT OR UPDATE OR DELETE ON shigoto.jobs
  FOR EACH ROW EXECUTE FUNCTION chaos.log_job('jobs')`,
  `CREATE TRIGGER chaos_log AFTER INSERT OR UPDATE OR DELETE ON shigoto.jobs_archive
  FOR EACH ROW EXECUTE FUNCTION chaos.log_job('archive')`,
  "CREATE TABLE chaos.edge (child bigint, parent bigint, on_failure text)",
  `CREATE FUNCTION chaos.log_edge() RETURNS trigger LANGUAGE plpgsql AS $log$
BEGIN
  INSERT INTO chaos.edge VALUES (NEW.child_id, NEW.parent_id, NEW.on_failure);
  RETURN NULL;
END
$log$`,
  `CREATE TRIGGER chaos_log AFTER INSERT ON shigoto.dependencies FOR EACH ROW EXECUTE FUNCTION chaos.log_edge()`,
  `CREATE FUNCTION chaos.log_node() RETURNS trigger LANGUAGE plpgsql AS $log$
BEGIN
  INSERT INTO chaos.node VALUES (NEW.id, NEW.name, clock_timestamp());
  RETURN NULL;
END
$log$`,
  `CREATE TRIGGER chaos_log AFTER INSERT ON shigoto.nodes FOR EACH ROW EXECUTE FUNCTION chaos.log_node()`
]

export const install = (sql: PgClient.PgClient) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })

/** Creates the tables of the event log that the row log and the final rows are copied to. */
export const createTables = Effect.gen(function* () {
  const { sql } = yield* Truth
  yield* sql.unsafe(`CREATE TABLE transition (${transition}, committed timestamptz)`)
  yield* sql`CREATE TABLE node (id integer, name text, ts timestamptz)`
  yield* sql`CREATE TABLE final (id bigint, state text, attempt integer, max_attempts integer, epoch integer,
    finished_at timestamptz)`
  yield* sql`CREATE TABLE edge (child bigint, parent bigint, on_failure text)`
  yield* sql`CREATE TABLE batch (id bigint, total integer, pending integer, completed integer, discarded integer,
    cancelled integer, finished_at timestamptz)`
})

/** Copies the row log and the final rows into the event log, and makes one `step` of each change of a job. */
export const collect = Effect.fn(function* (sql: PgClient.PgClient) {
  const truth = (yield* Truth).sql
  yield* createTables
  yield* copy(
    sql,
    truth,
    "(SELECT *, CASE WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(xmin) END AS committed FROM chaos.transition)",
    "transition"
  )
  yield* copy(sql, truth, "chaos.edge", "edge")
  yield* copy(sql, truth, "shigoto.batches", "batch")
  yield* copy(sql, truth, "chaos.node", "node")
  yield* copy(sql, truth, "shigoto.all_jobs", "final")
  yield* derive
  yield* truth`ANALYZE`
})

/** Makes of the raw rows what the invariants ask. */
export const derive = Effect.gen(function* () {
  const { sql } = yield* Truth
  for (const statement of derived) yield* sql.unsafe(statement)
})

// internal

const chunk = 4000

const copy = Effect.fnUntraced(function* (
  from: PgClient.PgClient,
  to: PgClient.PgClient,
  source: string,
  target: string
) {
  for (let offset = 0; ; offset += chunk) {
    const [row] = yield* from.unsafe<{ readonly rows: string | null }>(
      `SELECT jsonb_agg(to_jsonb(s))::text AS rows
       FROM (SELECT * FROM ${source} AS source ORDER BY 1 OFFSET ${offset} LIMIT ${chunk}) AS s`
    )
    if (row?.rows == null) return
    yield* to.unsafe(`INSERT INTO ${target} SELECT * FROM jsonb_populate_recordset(null::${target}, $1::text::jsonb)`, [
      row.rows
    ])
  }
})

/** A span of time among those of a queue's jobs of a worker, as a box: an index finds those that contain another. */
const box = (row: string, since: string, until: string): string => {
  const among = `hashtext(${row}.queue || ' ' || ${row}.worker)`
  const seconds = (at: string) => `least(extract(epoch FROM ${at})::float8, 1e11)`
  return `box(point(${among}, ${seconds(since)}), point(${among}, ${seconds(until)}))`
}

const derived = [
  // A settle deletes from the one table and inserts into the other; together they are one step.
  `CREATE TABLE step AS
SELECT *,
  CASE
    WHEN from_state IS NULL AND to_state IN ('available', 'scheduled', 'blocked', 'cancelled')
      AND to_attempt = 0 AND to_epoch = 0 THEN 'insert'
    WHEN from_state = 'blocked' AND to_state IN ('available', 'scheduled') AND up = 0 AND rise = 0 THEN 'unblock'
    WHEN to_state IS NULL THEN NULL
    WHEN from_state IN ('scheduled', 'retryable') AND to_state = 'available' AND up = 0 AND rise = 0 THEN 'promote'
    WHEN from_state = 'available' AND to_state = 'executing' AND up = 1 AND rise = 1 AND to_node IS NOT NULL THEN 'claim'
    WHEN from_state = 'executing' AND to_state IN ('completed', 'retryable', 'discarded', 'cancelled')
      AND up = 0 AND rise = 0 THEN 'settle'
    WHEN from_state = 'executing' AND to_state = 'scheduled' AND up = -1 AND rise = 0 THEN 'snooze'
    WHEN from_state = 'executing' AND to_state = 'blocked' AND up = -1 AND rise = 0 THEN 'fork'
    WHEN from_state = 'executing' AND to_state = 'available' AND up = -1 AND rise = 0 THEN 'release'
    WHEN from_state = 'executing' AND to_state IN ('retryable', 'discarded', 'cancelled') AND up = 0 AND rise = 1
      THEN 'rescue'
    -- One that was to be cancelled ends as it is given back.
    WHEN from_state = 'executing' AND to_state IN ('available', 'cancelled') AND up = -1 AND rise = 1 THEN 'reconcile'
    WHEN from_state IN ('available', 'scheduled', 'retryable', 'blocked') AND to_state = 'cancelled' AND up = 0 AND rise = 0
      THEN 'cancel'
    WHEN from_state IN ('completed', 'discarded', 'cancelled', 'scheduled', 'retryable')
      AND to_state IN ('available', 'blocked') AND up = 0 AND rise = 1 THEN 'retry'
  END AS move
FROM (
  SELECT *, to_attempt - from_attempt AS up, to_epoch - from_epoch AS rise
  FROM (
    SELECT min(seq) AS seq, min(ts) AS ts, max(committed) AS committed, min(stmt) AS stmt, min(began) AS began, tx, id, min(app) AS app, min(key) AS key,
      min(queue) AS queue, min(worker) AS worker, min(priority) AS priority, max(max_attempts) AS max_attempts,
      (array_agg(run_at) FILTER (WHERE new_state IS NOT NULL))[1] AS run_at,
      max(slot) AS slot, max(batch) AS batch, max(callback_of) AS callback_of, max(scheduled_for) AS scheduled_for,
      max(part) AS part,
      -- A transaction may take a job through several states; one that it made came from none.
      CASE WHEN count(*) FILTER (WHERE old_state IS NULL) <= count(*) FILTER (WHERE new_state IS NULL)
        THEN (array_agg(old_state ORDER BY seq) FILTER (WHERE old_state IS NOT NULL))[1] END AS from_state,
      (array_agg(new_state ORDER BY seq DESC) FILTER (WHERE new_state IS NOT NULL))[1] AS to_state,
      (array_agg(old_attempt ORDER BY seq) FILTER (WHERE old_state IS NOT NULL))[1] AS from_attempt,
      (array_agg(new_attempt ORDER BY seq DESC) FILTER (WHERE new_state IS NOT NULL))[1] AS to_attempt,
      (array_agg(old_epoch ORDER BY seq) FILTER (WHERE old_state IS NOT NULL))[1] AS from_epoch,
      (array_agg(new_epoch ORDER BY seq DESC) FILTER (WHERE new_state IS NOT NULL))[1] AS to_epoch,
      min(old_node) AS from_node, min(new_node) AS to_node
    FROM transition
    GROUP BY tx, id
    -- A row that only leaves a partition of the archive moves to another one; were it lost, I23 would miss it.
    HAVING bool_or(place = 'jobs' OR new_state IS NOT NULL)
  ) AS moved
) AS counted`,
  "CREATE INDEX step_id ON step (id, seq)",
  "CREATE INDEX step_queue ON step (queue, ts)",
  "CREATE INDEX client_job ON client (job)",
  "CREATE INDEX client_key ON client (key)",
  "CREATE INDEX final_id ON final (id)",
  "CREATE INDEX edge_child ON edge (child)",
  "CREATE INDEX step_batch ON step (batch) WHERE batch IS NOT NULL",
  // When each row was in which state, until it left it.
  `CREATE TABLE stay AS
SELECT id, queue, worker, slot, part, priority, run_at, to_state AS state, to_epoch AS epoch, to_attempt AS attempt, to_node AS node,
  ts AS since, committed, lead(ts) OVER turn AS until, lead(move) OVER turn AS left_by, seq, lead(seq) OVER turn AS left
FROM step
WINDOW turn AS (PARTITION BY id ORDER BY seq)`,
  "CREATE INDEX stay_id ON stay (id)",
  "CREATE INDEX stay_worker ON stay (worker, seq) WHERE state = 'executing'",
  "CREATE INDEX stay_node ON stay (node) WHERE state = 'executing'",
  "CREATE INDEX stay_available ON stay (queue, worker) WHERE state = 'available'",
  // Faults from their beginning to their end, and a little more, until their effects are gone.
  `CREATE TABLE trouble AS
SELECT b.id, b.kind, b.target, b.ts AS since, coalesce(e.ts, 'infinity') + interval '2 seconds' AS until
FROM fault AS b
LEFT JOIN fault AS e ON e.id = b.id AND e.phase = 'end'
WHERE b.phase = 'begin'`,
  // When a process could not speak to the database, or hear from it, whatever the library does: its event loop or that
  // of the runner did not turn, from the pulse that was due to the next or to its death, or the network of its place was
  // bad. A place is a process, "worker-1" for all that fill it one after the other, or empty for all.
  `CREATE TABLE hindered AS
SELECT CASE WHEN process = 'chaos' THEN '' ELSE process END AS place, 'blocked' AS why, due AS since, until
FROM (
  SELECT process, at + interval '${pulseMillis} milliseconds' AS due, coalesce(
    lead(at) OVER (PARTITION BY process ORDER BY at),
    (SELECT min(f.ts) FROM fleet AS f WHERE f.process = p.process AND f.event = 'exit')
  ) AS until
  FROM pulse AS p
) AS pulses
WHERE until > due
UNION ALL
SELECT place, kind, since, until + CASE kind
  -- What was frozen is half open until it is buried; the server hears of that a moment later.
  WHEN 'freeze' THEN interval '${burialDelay + 500} milliseconds'
  WHEN 'blackhole' THEN interval '${burialDelay + 500} milliseconds'
  -- What was sent last, and the reply to it.
  WHEN 'latency' THEN interval '${longestDelay * 2} milliseconds'
  -- Inside of a transaction the connection stays, and its client waits for the reply; then the driver waits for the
  -- end of what it cancelled for five seconds.
  WHEN 'lost-reply' THEN
    CASE WHEN place LIKE 'worker%' THEN interval '${timing.queryTimeout} milliseconds'
      ELSE interval '${callerPatience} milliseconds' END + interval '5 seconds'
END
FROM (
  SELECT b.kind, regexp_replace(b.target, '-[0-9]+$', '') AS place, b.ts AS since, coalesce(e.ts, 'infinity') AS until
  FROM fault AS b
  LEFT JOIN fault AS e ON e.id = b.id AND e.phase = 'end'
  WHERE b.phase = 'begin' AND b.kind IN ('freeze', 'blackhole', 'latency', 'lost-reply')
) AS bad`,
  "CREATE INDEX hindered_place ON hindered (place, until)",
  // Rows that a claim passes over if it comes while they have been there for a second and stay for one more.
  `CREATE TABLE waiting AS
SELECT id, queue, worker, priority, run_at, since, until, ${box("s", "s.after", "s.before")} AS span
FROM (
  SELECT *, committed + interval '1 second' AS after, coalesce(until, 'infinity') - interval '1 second' AS before
  FROM stay WHERE state = 'available'
) AS s
WHERE after < before`,
  "CREATE INDEX waiting_span ON waiting USING gist (span)",
  "ANALYZE step, stay, waiting",
  `CREATE TABLE overtaken AS
SELECT c.id, c.ts, c.began, c.app, u.id AS better, u.since, u.until
FROM step AS c JOIN waiting AS u
  ON u.span @> ${box("c", "c.began", "c.ts")} AND u.queue = c.queue AND u.worker = c.worker AND u.id <> c.id
  AND (-u.priority, u.run_at, u.id) < (-c.priority, c.run_at, c.id)
-- Where tenants take turns, turns come first.
WHERE c.move = 'claim' AND c.worker <> 'tenant'`
]
