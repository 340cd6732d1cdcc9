/**
 * A shop at work, for the browser to look at: ten queues with hostile names among them, two thousand jobs in every state,
 * failures of five kinds, a flow of sixty steps, a job of three megabytes, a broadcast, a batch, cron and limits.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../../src/Batch.ts"
import * as CronJob from "../../src/CronJob.ts"
import * as Flow from "../../src/Flow.ts"
import * as Job from "../../src/Job.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { ShigotoLive } from "../../src/index.ts"

export const Send = Job.make("send-email", {
  args: { to: Schema.String, subject: Schema.String },
  error: Schema.String,
  queue: "mails",
  maxAttempts: 1
})
export const Charge = Job.make("charge-card", { args: { order: Schema.Int }, error: Schema.String, queue: "payments" })
export const Pack = Job.make("pack", {
  args: { order: Schema.Int },
  queue: "warehouse",
  partitionKey: ({ order }) => `customer-${(order % 3) + 1}`
})
/** Its card number is secret by its schema, its name tells nothing. */
export const Refund = Job.make("refund", {
  args: { order: Schema.Int, card: Schema.RedactedFromValue(Schema.String) },
  error: Schema.String,
  queue: "payments",
  maxAttempts: 1
})
export const Reload = Job.make("reload-prices", { args: {}, queue: "prices" })
export const Step = Job.make("step", { args: { step: Schema.Int }, queue: "exports" })
/** Runs on no node. */
export const Archive = Job.make("archive", { args: Schema.Json, queue: "archive" })

/** Its second step fails, and the third runs all the same. */
export const Checkout = Flow.make("checkout", { input: { order: Schema.Int } }, (flow) => {
  const charge = flow.node("charge", Charge, { args: ({ order }) => ({ order }) })
  const mail = flow.node("tell", Send, {
    after: { charge },
    args: () => ({ to: "nobody@example.com", subject: "Paid" })
  })
  flow.node("pack", Pack, { after: { mail: { node: mail, onFailure: "run" } }, args: ({ order }) => ({ order }) })
})

/** Sixty steps in five columns of twelve, of which the first nineteen end. */
export const Export = Flow.make("export", { input: {} }, (flow) => {
  const column = (first: number, after: ReadonlyArray<ReturnType<typeof step>>) =>
    Array.from({ length: 12 }, (_, i) => step(first + i, [after[i], after[(i + 1) % 12]]))
  const step = (n: number, after: ReadonlyArray<Flow.Node<void> | undefined>): Flow.Node<void> =>
    flow.node(`step-${n}`, Step, {
      after: Object.fromEntries(after.flatMap((node, i) => (node === undefined ? [] : [[`after${i}`, node]]))),
      args: () => ({ step: n })
    })
  let last: ReadonlyArray<Flow.Node<void>> = []
  for (let first = 0; first < 60; first += 12) last = column(first, last)
})

export const WorkersLive = Layer.mergeAll(
  Send.toLayer(
    ({ to }) =>
      to.startsWith("nobody")
        ? Effect.fail(`The mail server knows no ${to}`)
        : Effect.logInfo(`Sent to ${to}`).pipe(Effect.delay("5 millis")),
    { captureLogs: true }
  ),
  Charge.toLayer(
    ({ order }) =>
      order % 7 === 0 ? Effect.fail(`The card of order ${order} was refused`) : Effect.sleep("10 millis"),
    // Whatever has failed stays so for as long as it is looked at.
    { retry: Schedule.spaced("1 day") }
  ),
  Refund.toLayer(({ order }) => Effect.fail(`Order ${order} was never paid`)),
  Reload.toLayer(() => Effect.void),
  Step.toLayer(({ step }) => (step < 19 ? Effect.void : Effect.never)),
  Checkout.layer,
  Export.layer,
  Pack.toLayer(() => Effect.never, { globalConcurrency: 2, rateLimit: { limit: 100, window: "1 minute" } }),
  CronJob.make({ name: "nightly", cron: "0 3 * * *", timezone: "Europe/Oslo", job: Archive, args: {} })
)

export const ShopLive = WorkersLive.pipe(
  Layer.provideMerge(ShigotoLive),
  Layer.provide(
    ShigotoConfig.layer({
      queues: {
        mails: 5,
        payments: 5,
        warehouse: { concurrency: 4, fair: true },
        prices: { concurrency: 1, broadcast: true },
        exports: 4
      },
      maxArgsBytes: 8 * 1024 * 1024,
      history: true,
      nodeName: "shop"
    })
  )
)

/** Names that would break out of a page, a path or a filter that takes them for its own. */
export const hostileQueues = [`a'"<b>`, "foo/bar.baz"] as const

/** Two thousand jobs in every state, as of a host that is not here, and an hour of its history. */
const crowd = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const queues = [...hostileQueues, "images", "reports", "archive"]
  const list = sql.literal(`ARRAY[${queues.map((name) => `'${name.replaceAll("'", "''")}'`).join(", ")}]`)
  yield* sql`
    INSERT INTO shigoto.nodes
      (name, started_at, beat_at, expires_at, ttl_millis, listening, workers, queues, slots)
    SELECT 'elsewhere', now() - interval '40 minutes', now(), now() + interval '1 day', 86400000, true,
      ARRAY['resize', 'archive'], ${list}, array_fill(500, ARRAY[cardinality(${list})])`
  const [last] = yield* Archive.enqueueAll([{}], { delay: "365 days" })
  yield* Archive.enqueueAll(
    Array.from({ length: 2000 }, () => ({})),
    { dependsOn: last === undefined ? [] : [last.id] }
  )
  const failure = sql`jsonb_build_array(jsonb_build_object(
    'attempt', 1, 'at', to_char(now() - (2001 - n) * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'node', 'elsewhere',
    'tag', (ARRAY['TimedOut', 'NotFound', 'Refused', 'OutOfMemory', 'Truncated'])[n % 5 + 1],
    'message', 'Image ' || n || ' could not be read'))`
  yield* sql`
    INSERT INTO shigoto.jobs
      (state, queue, worker, args, run_at, inserted_at, attempt, errors, fingerprint, claimed_by, claimed_at, epoch)
    SELECT state, (${list})[n % 4 + 1], 'resize', jsonb_build_object('image', n, 'width', 640),
      now() + CASE WHEN state IN ('scheduled', 'retryable') THEN interval '1 day' ELSE interval '0' END,
      now() - interval '2 minutes',
      CASE WHEN state IN ('retryable', 'executing') THEN 1 ELSE 0 END,
      CASE WHEN state = 'retryable' THEN ${failure} END,
      CASE WHEN state = 'retryable' THEN 'image-' || n % 5 END,
      CASE WHEN state = 'executing' THEN (SELECT id FROM shigoto.nodes WHERE name = 'elsewhere') END,
      CASE WHEN state = 'executing' THEN now() END,
      CASE WHEN state IN ('retryable', 'executing') THEN 1 ELSE 0 END
    FROM unnest(ARRAY['available', 'scheduled', 'retryable', 'executing']) AS state
    CROSS JOIN generate_series(1, 2000) AS n`
  yield* sql`
    INSERT INTO shigoto.jobs_archive
      (id, state, queue, worker, args, run_at, inserted_at, claimed_at, finished_at, attempt, max_attempts, priority, epoch,
        errors, fingerprint)
    SELECT nextval(pg_get_serial_sequence('shigoto.jobs', 'id')), state, (${list})[n % 4 + 1], 'resize',
      jsonb_build_object('image', n, 'width', 640), now() - (2001 - n) * interval '1 second',
      now() - (2001 - n) * interval '1 second', now() - (2001 - n) * interval '1 second',
      now() - (2001 - n) * interval '1 second' + n % 40 * interval '7 ms', 1, 20, 0, 1,
      CASE WHEN state = 'discarded' THEN ${failure} END,
      CASE WHEN state = 'discarded' THEN 'image-' || n % 5 END
    FROM unnest(ARRAY['completed', 'discarded', 'cancelled']) AS state
    CROSS JOIN generate_series(1, 2000) AS n`
  yield* sql`
    INSERT INTO shigoto.metrics
      (tier, at, queue, worker, completed, failed, discarded, cancelled, snoozed, run, wait)
    SELECT 'minute', date_trunc('minute', now()) - m * interval '1 minute', q.name, q.worker,
      (180 + 90 * sin(m / 7.0))::bigint, CASE WHEN m % 11 = 0 THEN 14 ELSE 2 END, CASE WHEN m % 17 = 0 THEN 9 ELSE 0 END,
      0, 0, spread.run, spread.wait
    FROM generate_series(1, 59) AS m
    CROSS JOIN (VALUES ('', ''), ('images', 'resize')) AS q (name, worker)
    CROSS JOIN LATERAL (
      SELECT ARRAY[0, 0, 2, 8, 30, 60, 40, 20, m % 9, m % 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]::bigint[] AS run,
        ARRAY[20, 50, 60, 20, 8, m % 7, m % 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]::bigint[] AS wait
    ) AS spread
    ON CONFLICT DO NOTHING`
  yield* sql`
    INSERT INTO shigoto.metrics
      (tier, at, queue, worker, completed, failed, discarded, cancelled, snoozed, run, wait)
    SELECT m.tier, m.at, q.name, q.worker, (m.completed * q.share)::bigint, (m.failed * q.share)::bigint, 0, 0, 0,
      m.run, m.wait
    FROM shigoto.metrics AS m
    CROSS JOIN (
      VALUES ('reports', 'render', 0.6), ('archive', 'archive', 0.4), ('mails', 'send-email', 0.3),
        ('payments', 'charge-card', 0.25), ('exports', 'step', 0.2), ('prices', 'reload-prices', 0.1),
        ('warehouse', 'pack', 0.05)
    ) AS q (name, worker, share)
    WHERE m.worker = 'resize'
    ON CONFLICT DO NOTHING`
  yield* sql`
    INSERT INTO shigoto.depths (at, queue, available, oldest_millis)
    SELECT date_trunc('minute', now()) - m * interval '1 minute', name, (400 + 300 * cos(m / 9.0))::integer,
      2000 + 1500 * cos(m / 9.0)
    FROM generate_series(1, 59) AS m
    CROSS JOIN (VALUES (''), ('images')) AS q (name)
    ON CONFLICT DO NOTHING`
  yield* sql`ANALYZE`
})

/** Puts work into all of it. */
export const work = Effect.gen(function* () {
  yield* Send.enqueueAll(
    Array.from({ length: 40 }, (_, i) => ({
      to: `${i % 9 === 0 ? "nobody" : "reader"}${i}@example.com`,
      subject: "News"
    })),
    { tags: ["newsletter"] }
  )
  yield* Charge.enqueueAll(Array.from({ length: 40 }, (_, i) => ({ order: i + 1 })))
  yield* Pack.enqueueAll(Array.from({ length: 6 }, (_, i) => ({ order: i + 1 })))
  yield* Charge.enqueue({ order: 100 }, { delay: "1 hour" })
  const batch = yield* Batch.make("newsletter").enqueue(
    Array.from({ length: 12 }, (_, i) =>
      Send.prepare({ to: i === 0 ? "nobody@example.com" : `reader${i}@example.com`, subject: "Weekly" })
    )
  )
  yield* Refund.enqueue({ order: 7, card: Redacted.make("canary-4111-1111") })
  const flow = yield* Checkout.enqueue({ order: 1 })
  const graph = yield* Export.enqueue({})
  const large = yield* Archive.enqueue(
    { rows: Array.from({ length: 30_000 }, (_, row) => ({ row, text: "x".repeat(80) })) },
    { delay: "1 day" }
  )
  const broadcast = yield* Reload.enqueue({})
  yield* crowd
  return { batch: batch.id, flow: flow.id, graph: graph.id, large: large.id, broadcast: broadcast.id }
})
