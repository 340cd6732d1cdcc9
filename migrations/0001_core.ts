/**
 * The core tables: live jobs, their partitioned history, queues, and the leases of nodes.
 *
 * `jobs` holds live jobs only and stays small; a job that ends moves to `jobs_archive` in the transaction that ends it.
 */
import { identifier, literal, nameIn } from "../src/internal/sql/quote.ts"

/** The statements, in order, for the given schema; its name is checked. */
export const statements = (schema: string): ReadonlyArray<string> => {
  const s = identifier(schema)
  return [
    `CREATE TABLE ${s}.jobs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_at timestamptz(3) NOT NULL,
  scheduled_for timestamptz(3),
  inserted_at timestamptz(3) NOT NULL,
  claimed_at timestamptz(3),
  cancel_requested_at timestamptz(3),
  epoch integer NOT NULL DEFAULT 0,
  claimed_by integer,
  priority smallint NOT NULL DEFAULT 0,
  -- The claim order ascends in every column: ~priority falls as priority rises and never overflows.
  rank smallint NOT NULL GENERATED ALWAYS AS (~priority) STORED,
  attempt smallint NOT NULL DEFAULT 0,
  max_attempts smallint NOT NULL DEFAULT 20,
  progress smallint,
  snoozes integer,
  state text NOT NULL,
  queue text NOT NULL,
  worker text NOT NULL,
  args jsonb NOT NULL,
  errors jsonb,
  fingerprint text,
  meta jsonb,
  tags text[],
  partition_key text,
  cancel_reason text,
  links smallint NOT NULL DEFAULT 0,
  batch_id bigint,
  step text,
  trace text,
  start_before timestamptz(3),
  on_expire jsonb,
  CONSTRAINT jobs_state CHECK (state IN ('scheduled', 'blocked', 'available', 'executing', 'retryable')),
  CONSTRAINT jobs_claimed CHECK ((state = 'executing') = (claimed_by IS NOT NULL)),
  CONSTRAINT jobs_attempts CHECK (attempt >= 0 AND max_attempts >= 1),
  CONSTRAINT jobs_names CHECK (octet_length(queue) BETWEEN 1 AND 128 AND octet_length(worker) BETWEEN 1 AND 128)
) WITH (
  fillfactor = 85,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000,
  autovacuum_vacuum_cost_delay = 1
)`,
    `CREATE INDEX jobs_claim ON ${s}.jobs (queue, rank, run_at, id) WHERE state = 'available'`,
    `CREATE INDEX jobs_due ON ${s}.jobs (run_at, id) WHERE state IN ('scheduled', 'retryable')`,
    `CREATE INDEX jobs_expiring ON ${s}.jobs ((CASE WHEN run_at >= start_before THEN inserted_at ELSE start_before END))
  WHERE start_before IS NOT NULL AND state <> 'executing'`,
    `COMMENT ON COLUMN ${s}.jobs.on_expire IS 'What becomes of a job that has not started by then: null discards, "cancel" cancels, an object is a job to run instead.'`,
    `CREATE INDEX jobs_executing ON ${s}.jobs (claimed_by, id) WHERE state = 'executing'`,
    `CREATE TABLE ${s}.jobs_archive (
  id bigint NOT NULL,
  run_at timestamptz(3) NOT NULL,
  scheduled_for timestamptz(3),
  inserted_at timestamptz(3) NOT NULL,
  claimed_at timestamptz(3),
  cancel_requested_at timestamptz(3),
  finished_at timestamptz(3) NOT NULL,
  epoch integer NOT NULL,
  claimed_by integer,
  priority smallint NOT NULL,
  attempt smallint NOT NULL,
  max_attempts smallint NOT NULL,
  progress smallint,
  snoozes integer,
  state text NOT NULL,
  queue text NOT NULL,
  worker text NOT NULL,
  args jsonb NOT NULL,
  result jsonb,
  errors jsonb,
  fingerprint text,
  meta jsonb,
  tags text[],
  partition_key text,
  cancel_reason text,
  links smallint NOT NULL DEFAULT 0,
  batch_id bigint,
  step text,
  trace text,
  start_before timestamptz(3)
) PARTITION BY LIST (state)`,
    `CREATE INDEX jobs_archive_id ON ${s}.jobs_archive (id)`,
    ...["completed", "discarded", "cancelled"].flatMap((state) => [
      `CREATE TABLE ${s}.jobs_archive_${state} PARTITION OF ${s}.jobs_archive
  FOR VALUES IN ('${state}')
  PARTITION BY RANGE (finished_at)`,
      `CREATE TABLE ${s}.jobs_archive_${state}_default PARTITION OF ${s}.jobs_archive_${state} DEFAULT`
    ]),
    `CREATE TABLE ${s}.queues (
  name text NOT NULL,
  node text NOT NULL DEFAULT '',
  concurrency integer,
  paused_at timestamptz(3),
  removed_at timestamptz(3),
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (name, node),
  CONSTRAINT queues_names CHECK (octet_length(name) BETWEEN 1 AND 128 AND octet_length(node) <= 128),
  CONSTRAINT queues_concurrency CHECK (concurrency BETWEEN 1 AND 100000)
)`,
    `COMMENT ON TABLE ${s}.queues IS 'What operators asked of queues; node is empty where it holds for all nodes.'`,
    `CREATE TABLE ${s}.nodes (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  started_at timestamptz(3) NOT NULL,
  beat_at timestamptz(3) NOT NULL,
  expires_at timestamptz(3) NOT NULL,
  ttl_millis integer NOT NULL,
  lag_millis integer NOT NULL DEFAULT 0,
  listening boolean NOT NULL DEFAULT false,
  workers text[] NOT NULL DEFAULT '{}',
  queues text[] NOT NULL DEFAULT '{}',
  slots integer[] NOT NULL DEFAULT '{}',
  limits jsonb NOT NULL DEFAULT '[]',
  broken text[] NOT NULL DEFAULT '{}',
  capacity integer,
  shed_below smallint,
  places jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50)`,
    `COMMENT ON COLUMN ${s}.nodes.slots IS 'How many jobs of each of its queues it runs at once, in the order of the queues.'`,
    `COMMENT ON COLUMN ${s}.nodes.limits IS 'What limits its workers over all nodes, for those that explain why a job waits.'`,
    `COMMENT ON COLUMN ${s}.nodes.capacity IS 'How many attempts may run on the node, where that is less than its slots.'`,
    `COMMENT ON COLUMN ${s}.nodes.places IS 'How many attempts of a worker may run on the node, where that is limited.'`,
    `COMMENT ON COLUMN ${s}.nodes.shed_below IS 'Below which priority the node claims nothing, since jobs wait too long.'`,
    `COMMENT ON COLUMN ${s}.nodes.broken IS 'The workers whose circuit is open on the node.'`,
    `COMMENT ON TABLE ${s}.nodes IS 'One lease per incarnation of a process; ids are never used again.'`,
    `CREATE VIEW ${s}.all_jobs AS
SELECT id, worker, queue, state, priority, attempt, max_attempts, epoch, claimed_by, run_at, inserted_at, claimed_at,
  cancel_requested_at, NULL::timestamptz(3) AS finished_at, progress, snoozes, args, NULL::jsonb AS result, errors,
  meta, tags, partition_key, cancel_reason, scheduled_for, links, batch_id, step, fingerprint, trace, start_before
FROM ${s}.jobs
UNION ALL
SELECT id, worker, queue, state, priority, attempt, max_attempts, epoch, claimed_by, run_at, inserted_at, claimed_at,
  cancel_requested_at, finished_at, progress, snoozes, args, result, errors,
  meta, tags, partition_key, cancel_reason, scheduled_for, links, batch_id, step, fingerprint, trace, start_before
FROM ${s}.jobs_archive`,
    enqueueFunction(schema),
    enqueueJobsFunction(schema),
    maintainFunction(schema),
    // The range of today and the next, by the default retention, while there is nobody to read or write them.
    ...(["completed", "cancelled"] as const).map(
      (state) =>
        `SELECT ${s}.maintain_archive('${state}', statement_timestamp() - interval '1 day', interval '14 days')`
    ),
    `SELECT ${s}.maintain_archive('discarded', statement_timestamp() - interval '7 days', interval '90 days')`,
    `REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ${s} FROM PUBLIC`
  ]
}

// internal

/**
 * Runs with the owner's rights, so that a producer needs none on tables. An id is one that the caller has drawn before.
 *
 * `SELECT shigoto.enqueue('send-email', '{"to": "ada@example.com"}', queue => 'emails')` from any language.
 */
const enqueueFunction = (schema: string): string =>
  `CREATE FUNCTION ${identifier(schema)}.enqueue(
  worker text,
  args jsonb DEFAULT '{}',
  queue text DEFAULT 'default',
  priority integer DEFAULT 0,
  run_at timestamptz DEFAULT NULL,
  max_attempts integer DEFAULT 20,
  tags text[] DEFAULT NULL,
  meta jsonb DEFAULT NULL,
  partition_key text DEFAULT NULL,
  trace text DEFAULT NULL,
  id bigint DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $enqueue$
#variable_conflict use_column
DECLARE
  moment CONSTANT timestamptz := statement_timestamp();
  due timestamptz := greatest(coalesce(enqueue.run_at, moment), moment);
  new_id bigint;
  item text;
BEGIN
  IF enqueue.args IS NULL THEN
    RAISE EXCEPTION 'shigoto.enqueue: args is null; pass a JSON value such as ''{}''' USING ERRCODE = '22023';
  END IF;
  IF octet_length(enqueue.args::text) > 1048576 THEN
    RAISE EXCEPTION 'shigoto.enqueue: args has % bytes, the limit is 1048576', octet_length(enqueue.args::text)
      USING ERRCODE = '22023';
  END IF;
  FOREACH item IN ARRAY ARRAY[enqueue.worker, enqueue.queue, coalesce(enqueue.partition_key, 'none')]
    || coalesce(enqueue.tags, '{}')
  LOOP
    IF item IS NULL OR octet_length(item) NOT BETWEEN 1 AND 128
      OR item ~ '[\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]'
      OR item ~ '^[ \\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000\\ufeff]'
      OR item ~ '[ \\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000\\ufeff]$'
    THEN
      RAISE EXCEPTION 'shigoto.enqueue: % is no name: 1 to 128 bytes, no control characters, no white space at the ends',
        coalesce(quote_literal(left(item, 80)), 'null') USING ERRCODE = '22023';
    END IF;
  END LOOP;
  IF coalesce(array_length(enqueue.tags, 1), 0) > 100 THEN
    RAISE EXCEPTION 'shigoto.enqueue: % tags, the limit is 100', array_length(enqueue.tags, 1) USING ERRCODE = '22023';
  END IF;
  IF enqueue.priority IS NULL OR enqueue.priority NOT BETWEEN -32768 AND 32767 THEN
    RAISE EXCEPTION 'shigoto.enqueue: priority % is not from -32768 to 32767', enqueue.priority USING ERRCODE = '22023';
  END IF;
  IF enqueue.max_attempts IS NULL OR enqueue.max_attempts NOT BETWEEN 1 AND 32767 THEN
    RAISE EXCEPTION 'shigoto.enqueue: max_attempts % is not from 1 to 32767', enqueue.max_attempts
      USING ERRCODE = '22023';
  END IF;
  IF due > '9999-12-31' THEN
    RAISE EXCEPTION 'shigoto.enqueue: run_at % lies after the year 9999', due USING ERRCODE = '22023';
  END IF;
  IF (SELECT count(DISTINCT tag) <> count(*) FROM unnest(enqueue.tags) AS tag) THEN
    RAISE EXCEPTION 'shigoto.enqueue: a tag is there twice' USING ERRCODE = '22023';
  END IF;
  IF jsonb_typeof(enqueue.meta) <> 'object' THEN
    RAISE EXCEPTION 'shigoto.enqueue: meta is no JSON object' USING ERRCODE = '22023';
  END IF;
  IF octet_length(enqueue.meta::text) > 65536 THEN
    RAISE EXCEPTION 'shigoto.enqueue: meta has % bytes, the limit is 65536', octet_length(enqueue.meta::text)
      USING ERRCODE = '22023';
  END IF;
  IF enqueue.trace !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' THEN
    RAISE EXCEPTION 'shigoto.enqueue: % is no traceparent', quote_literal(left(enqueue.trace, 80))
      USING ERRCODE = '22023';
  END IF;
  IF enqueue.id IS NOT NULL AND (
    enqueue.id NOT BETWEEN 1 AND (SELECT last_value FROM ${identifier(schema)}.jobs_id_seq)
    OR EXISTS (SELECT FROM ${identifier(schema)}.jobs_archive AS a WHERE a.id = enqueue.id)
  ) THEN
    RAISE EXCEPTION 'shigoto.enqueue: the id % was not drawn from jobs_id_seq, or is taken', enqueue.id
      USING ERRCODE = '22023';
  END IF;
  INSERT INTO ${identifier(schema)}.jobs
    (id, state, worker, queue, args, priority, max_attempts, run_at, inserted_at, tags, meta, partition_key,
     scheduled_for, trace)
  OVERRIDING SYSTEM VALUE
  VALUES (
    coalesce(enqueue.id, nextval(${literal(nameIn(schema, "jobs_id_seq"))})),
    CASE WHEN due > moment THEN 'scheduled' ELSE 'available' END,
    enqueue.worker, enqueue.queue, enqueue.args, enqueue.priority, enqueue.max_attempts, due, moment,
    enqueue.tags, enqueue.meta, enqueue.partition_key, CASE WHEN due > moment THEN due END,
    enqueue.trace
  )
  RETURNING id INTO new_id;
  IF due <= moment THEN
    PERFORM pg_notify(${literal(schema)}, 'available - ' || enqueue.queue);
  ELSIF due <= moment + interval '1 minute' THEN
    PERFORM pg_notify(${literal(schema)}, 'due - ' || ceil(extract(epoch FROM due - moment) * 1000)::bigint);
  END IF;
  RETURN new_id;
END
$enqueue$`

/** The same for many jobs at once, a JSON array of them, for `Shigoto.layerProducer` where it may only call functions. */
const enqueueJobsFunction = (schema: string): string =>
  `CREATE FUNCTION ${identifier(schema)}.enqueue_jobs(jobs jsonb)
RETURNS TABLE (id bigint, state text, run_at timestamptz, inserted_at timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $enqueue_jobs$
#variable_conflict use_column
DECLARE
  job record;
  new_id bigint;
BEGIN
  FOR job IN
    SELECT given.*
    FROM ROWS FROM (jsonb_to_recordset(enqueue_jobs.jobs) AS (
      worker text, args jsonb, queue text, priority integer, run_at timestamptz, delay_millis float8,
      max_attempts integer, tags text[], meta jsonb, partition_key text, trace text, id bigint
    )) WITH ORDINALITY AS given
      (worker, args, queue, priority, run_at, delay_millis, max_attempts, tags, meta, partition_key, trace, id, position)
    ORDER BY position
  LOOP
    new_id := ${identifier(schema)}.enqueue(
      job.worker, job.args, job.queue, job.priority,
      coalesce(job.run_at, statement_timestamp() + job.delay_millis * interval '1 millisecond'),
      job.max_attempts, job.tags, job.meta, job.partition_key, job.trace, job.id
    );
    RETURN QUERY
      SELECT j.id, j.state, j.run_at::timestamptz, j.inserted_at::timestamptz
      FROM ${identifier(schema)}.jobs AS j
      WHERE j.id = new_id;
  END LOOP;
END
$enqueue_jobs$`

/**
 * Makes the partitions that the next days need and drops those past their retention.
 *
 * Runs with the owner's rights, so that workers need none to create or drop tables. A partition is an eighth of the
 * retention wide, from an hour to a week. The default partition takes what no other takes, so that a settle never
 * fails for want of one; its rows are moved when their range is made, and deleted, 20,000 at a time, when they are too
 * old. A retention of zero drops and deletes all there is.
 */
const maintainFunction = (schema: string): string =>
  `CREATE FUNCTION ${identifier(schema)}.maintain_archive(kind text, moment timestamptz, retention interval)
RETURNS TABLE (made integer, dropped integer, deleted bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
SET timezone = 'UTC'
AS $maintain$
DECLARE
  width CONSTANT interval := CASE
    WHEN retention >= interval '56 days' THEN interval '7 days'
    WHEN retention >= interval '8 days' THEN interval '1 day'
    ELSE interval '1 hour'
  END;
  parent CONSTANT text := 'jobs_archive_' || kind;
  -- Where nothing is kept, what is still there from other settings goes too.
  cutoff CONSTANT timestamptz := CASE WHEN retention > interval '0' THEN moment - retention ELSE 'infinity' END;
  lower timestamptz;
  upper timestamptz;
  child text;
  part record;
BEGIN
  made := 0;
  dropped := 0;
  deleted := 0;
  IF kind NOT IN ('completed', 'discarded', 'cancelled') THEN
    RAISE EXCEPTION 'no archive for state %', quote_literal(kind) USING ERRCODE = '22023';
  END IF;
  -- One maintainer at a time; whoever comes second has nothing to do.
  IF NOT pg_try_advisory_xact_lock(hashtextextended(${literal(schema)} || '.' || parent, 0)) THEN
    RETURN NEXT;
    RETURN;
  END IF;
  FOR part IN
    SELECT c.relname AS name,
      (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)'))[1]::timestamptz AS until
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = format('%I.%I', ${literal(schema)}, parent)::regclass
  LOOP
    CONTINUE WHEN part.until IS NULL;
    IF part.until <= cutoff THEN
      -- From the root down, as inserts take their locks: the other way round, both would wait for each other.
      LOCK TABLE ${identifier(schema)}.jobs_archive IN ACCESS EXCLUSIVE MODE;
      EXECUTE format('DROP TABLE %I.%I', ${literal(schema)}, part.name);
      dropped := dropped + 1;
    ELSIF lower IS NULL OR part.until > lower THEN
      lower := part.until;
    END IF;
  END LOOP;
  -- Only ranges to come: a reader that was planned just before a partition would miss the rows in it.
  lower := greatest(lower, date_bin(width, moment, timestamptz '2000-01-03') + width);
  WHILE retention > interval '0' AND lower < moment + 2 * width LOOP
    -- Nobody may be between choosing partitions and using them: an insert would meet the default partition with a row
    -- that is the new one's, and a read that waits for the default partition would miss the rows moved out of it.
    LOCK TABLE ${identifier(schema)}.jobs_archive IN ACCESS EXCLUSIVE MODE;
    upper := date_bin(width, lower, timestamptz '2000-01-03') + width;
    child := format('%s_%s', parent, to_char(lower, 'YYYYMMDD"t"HH24MI'));
    EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL)', ${literal(schema)}, child, ${literal(schema)}, parent);
    EXECUTE format(
      'WITH moved AS (DELETE FROM %I.%I WHERE finished_at >= $1 AND finished_at < $2 RETURNING *)
       INSERT INTO %I.%I SELECT * FROM moved',
      ${literal(schema)}, parent || '_default', ${literal(schema)}, child
    ) USING lower, upper;
    EXECUTE format(
      'ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
      ${literal(schema)}, parent, ${literal(schema)}, child, lower, upper
    );
    made := made + 1;
    lower := upper;
  END LOOP;
  EXECUTE format(
    'DELETE FROM %1$I.%2$I
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I.%2$I WHERE finished_at < $1 LIMIT 20000))',
    ${literal(schema)}, parent || '_default'
  ) USING cutoff;
  GET DIAGNOSTICS deleted = ROW_COUNT;
  RETURN NEXT;
END
$maintain$`
