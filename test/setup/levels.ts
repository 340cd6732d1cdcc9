/**
 * Where every file of `src` and `migrations` stands, lowest level first: a file imports its own level or a lower one.
 * A new file is placed here, or the architecture test fails. `folder/*` takes in a whole folder.
 */
export const levels: ReadonlyArray<{ readonly name: string; readonly files: ReadonlyArray<string> }> = [
  // Helpers that know nothing of jobs.
  {
    name: "ground",
    files: [
      "src/internal/json.ts",
      "src/internal/cronRule.ts",
      "src/internal/names.ts",
      "src/internal/options.ts",
      "src/internal/rate.ts",
      "src/internal/buckets.ts",
      "src/internal/rateCells.ts",
      "src/internal/breakerCells.ts",
      "src/internal/herd.ts",
      "src/internal/loop.ts",
      "src/internal/coalesce.ts",
      "src/internal/fingerprint.ts",
      "src/internal/filterText.ts",
      "src/internal/bag.ts",
      "src/internal/counts.ts",
      "src/internal/plans.ts"
    ]
  },
  {
    name: "words",
    files: [
      "src/JobRow.ts",
      "src/internal/envelope.ts",
      "src/internal/attemptError.ts",
      "src/internal/newJob.ts",
      "src/internal/piggyback.ts",
      "src/JobEvent.ts",
      "src/Outcome.ts",
      "src/Signal.ts",
      "src/CircuitBreaker.ts",
      "src/internal/circuit.ts",
      "src/internal/sharedCircuit.ts",
      "src/AdaptiveConcurrency.ts",
      "src/LoadShedding.ts",
      "src/internal/shed.ts",
      "src/internal/adaptive.ts",
      "src/CurrentJob.ts",
      "src/Backoff.ts",
      "src/Unique.ts",
      "src/Limit.ts",
      "src/internal/budget.ts",
      "src/Filter.ts",
      "src/Redaction.ts",
      "src/ShigotoError.ts",
      "src/internal/queueOptions.ts",
      "src/ShigotoConfig.ts"
    ]
  },
  { name: "sql", files: ["src/internal/sql/*", "src/internal/store/*", "migrations/*"] },
  { name: "store", files: ["src/JobStore.ts", "src/Migrations.ts", "src/Notifier.ts", "src/Cipher.ts"] },
  {
    name: "services",
    files: [
      "src/internal/events.ts",
      "src/internal/aftermath.ts",
      "src/internal/awaiting.ts",
      "src/internal/broadcast.ts",
      "src/internal/bulk.ts",
      "src/internal/settled.ts",
      "src/Dependency.ts",
      "src/internal/definition.ts",
      "src/internal/deadline.ts",
      "src/internal/discards.ts",
      "src/internal/attempt.ts",
      "src/internal/searching.ts",
      "src/internal/inserting.ts",
      "src/internal/progress.ts",
      "src/internal/holds.ts",
      "src/internal/appetite.ts",
      "src/internal/backlog.ts",
      "src/internal/running.ts",
      "src/internal/succession.ts",
      "src/internal/look.ts",
      "src/internal/admission.ts",
      "src/internal/shedder.ts",
      "src/internal/enqueueing.ts",
      "src/internal/flowPlan.ts",
      "src/internal/failure.ts",
      "src/internal/quotes.ts",
      "src/internal/logSink.ts",
      "src/internal/catalog.ts",
      "src/internal/builtin.ts",
      "src/internal/tracing.ts",
      "src/internal/secretFields.ts",
      "src/internal/worker.ts",
      "src/internal/uniqueness.ts",
      "src/internal/encoder.ts",
      "src/ShigotoMetrics.ts",
      "src/JobLog.ts",
      "src/Audit.ts",
      "src/History.ts",
      "src/Nodes.ts",
      "src/Explain.ts",
      "src/Health.ts",
      "src/HealthHttp.ts",
      "src/Doctor.ts",
      "src/Jobs.ts",
      "src/Workers.ts",
      "src/Middleware.ts",
      "src/Resilience.ts",
      "src/Executor.ts",
      "src/Settler.ts",
      "src/internal/expiring.ts",
      "src/Claimer.ts",
      "src/Queues.ts",
      "src/Limits.ts",
      "src/Encryption.ts",
      "src/RateLimiterStore.ts",
      "src/CircuitBreakerStore.ts",
      "src/Heartbeat.ts",
      "src/CronJobs.ts",
      "src/CronScheduler.ts",
      "src/Batches.ts",
      "src/Flows.ts",
      "src/Pruner.ts"
    ]
  },
  { name: "what users write", files: ["src/FanOut.ts", "src/Job.ts", "src/CronJob.ts", "src/Batch.ts", "src/Flow.ts"] },
  { name: "assembly", files: ["src/Producer.ts", "src/Shigoto.ts", "src/ShigotoLive.ts"] },
  { name: "front door", files: ["src/index.ts"] },
  { name: "doors", files: ["src/testing/*", "src/embedded/*", "src/dashboard/*", "src/cli/*"] }
]

/** Folders of `src` with an entry of their own in package.json. They import public modules, and no core file them. */
export const doors = ["testing", "embedded", "dashboard", "cli"]

/** Where the text of statements may stand. */
export const sqlHomes = ["src/internal/sql/", "migrations/"]

/**
 * What a rule forbids and the code needs all the same. `rule` is the first word of the message; `file` and `what` as it
 * names them. An entry that excuses nothing fails the test as well.
 */
export const exceptions: ReadonlyArray<Exception> = []

export interface Exception {
  readonly rule: "door" | "package" | "sql"
  readonly file: string
  readonly what: string
  readonly reason: string
}
