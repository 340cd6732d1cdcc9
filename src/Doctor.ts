/**
 * What is wrong with a database and the way to it, and what to do: for people who set up, or wonder.
 *
 * Reads only, and asks for no tables: it also tells that they are missing. What jobs and nodes suffer from is told by
 * `Jobs.health`; this is about what is below them.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Reactivity from "effect/reactivity/Reactivity"
import type { SqlError } from "effect/sql/SqlError"
import * as facts from "./internal/sql/doctor.ts"
import * as migrate from "./internal/sql/migrate.ts"
import { latest, minServerVersion, print } from "./Migrations.ts"
import { ShigotoConfig } from "./ShigotoConfig.ts"

/**
 * What was looked at, and what was found.
 *
 * @category models
 */
export interface Finding {
  readonly check: string
  /** `problem`: jobs do not run, or may be lost; `warning`: they will suffer; `ok`: nothing to do. */
  readonly status: "ok" | "warning" | "problem"
  readonly message: string
  /** What to do. */
  readonly advice: string | undefined
  /** The SQL that does it, for who has the rights; absent where that is not for SQL, or not without a look. */
  readonly sql?: string | undefined
}

/**
 * From when on something is a finding.
 *
 * @category constants
 */
export const thresholds = {
  /** Milliseconds between the clock of this machine and that of the server. */
  skewMillis: 2000,
  /** The share of the server's connections that are taken. */
  connections: 0.8,
  /** Dead rows of the table of live jobs, where they are also five times the live ones. */
  deadRows: 100_000,
  /** Transactions before which rows have to be frozen; the server stops at two billion. */
  transactionAge: 1_500_000_000,
  /** The server's queue of notifications. */
  notificationUsage: 0.5
} as const

/**
 * Looks at everything that can be looked at; what cannot is a finding too.
 *
 * @category diagnosis
 */
export const diagnose: Effect.Effect<ReadonlyArray<Finding>, never, PgClient.PgClient | ShigotoConfig> = Effect.gen(
  function* () {
    const config = yield* ShigotoConfig
    const client = (yield* PgClient.PgClient).withoutTransforms()
    const before = yield* Clock.currentTimeMillis
    const reached = yield* Effect.result(facts.server(client))
    const after = yield* Clock.currentTimeMillis
    if (reached._tag === "Failure") {
      return [problem("connection", `The database does not answer: ${words(reached.failure)}`, connecting)]
    }
    const server = reached.success
    if (server === undefined) return [problem("connection", "The database answers with nothing.", connecting)]
    const findings: Array<Finding> = [
      ok("connection", `Connected as ${server.user} in ${Math.round(after - before)} ms.`),
      ...serverFindings(server, (before + after) / 2)
    ]
    const add = (check: string, look: Effect.Effect<ReadonlyArray<Finding>, SqlError>) =>
      Effect.map(
        Effect.catchCause(look, (cause) =>
          Effect.succeed([warning(check, `This could not be looked at: ${causeWords(cause)}`, undefined)])
        ),
        (found) => findings.push(...found)
      )
    yield* add(
      "schema",
      Effect.map(migrate.installed(client, config.schema), (found) => [schemaFinding(config.schema, found)])
    )
    yield* add(
      "tables",
      Effect.map(facts.tables(client, config.schema), (tables) => tableFindings(config.schema, tables))
    )
    yield* add("settings", Effect.map(facts.settings(client, [...rules.keys()]), settingFindings))
    yield* add("pooler", Effect.scoped(poolerFindings(client)))
    yield* add("notifications", Effect.scoped(notificationFindings(client, config.schema)))
    return findings
  }
)

// internal

const ok = (check: string, message: string): Finding => ({ check, status: "ok", message, advice: undefined })

const warning = (check: string, message: string, advice: string | undefined, sql?: string): Finding => ({
  check,
  status: "warning",
  message,
  advice,
  sql
})

const problem = (check: string, message: string, advice: string, sql?: string): Finding => ({
  check,
  status: "problem",
  message,
  advice,
  sql
})

const connecting = "Check the URL, that the server runs, and that its pg_hba.conf lets this machine in."

/** The innermost words: the server's own, without what the driver wraps around them. */
const words = (error: unknown): string => innermost(error) ?? String(error)

const innermost = (error: unknown): string | undefined => {
  const { cause, message, reason } = (typeof error === "object" && error !== null ? error : {}) as {
    // perhaps
    readonly cause?: unknown
    readonly message?: string
    readonly reason?: unknown
  }
  const inner = cause ?? reason
  return (inner === undefined ? undefined : innermost(inner)) ?? (message === "" ? undefined : message)
}

const causeWords = (cause: { readonly reasons: ReadonlyArray<unknown> }): string => {
  const [first] = cause.reasons as ReadonlyArray<{ readonly error?: unknown; readonly defect?: unknown }> // as Effect's causes are
  return words(first?.error ?? first?.defect)
}

const serverFindings = (server: facts.ServerFacts, here: number): ReadonlyArray<Finding> => {
  const skew = here - server.clock
  const share = server.connections / server.maxConnections
  return [
    server.isPostgres && server.number >= minServerVersion
      ? ok("server", `PostgreSQL ${server.version}.`)
      : problem("server", `This is ${server.version}.`, "Shigoto needs PostgreSQL 14 or newer."),
    server.readOnly
      ? problem(
          "writes",
          "The server takes no writes: it is a standby, or default_transaction_read_only is on.",
          "Connect to the primary."
        )
      : ok("writes", "The server takes writes."),
    server.encoding === "UTF8"
      ? ok("encoding", "The database is UTF8.")
      : problem("encoding", `The database is ${server.encoding}.`, "Make it anew with ENCODING 'UTF8'."),
    Math.abs(skew) <= thresholds.skewMillis
      ? ok("clock", `The clocks of this machine and of the server are ${Math.round(Math.abs(skew))} ms apart.`)
      : warning(
          "clock",
          `The clock of this machine is ${(Math.abs(skew) / 1000).toFixed(1)} s ${skew > 0 ? "ahead of" : "behind"} the server's.`,
          "Only the server's clock decides when jobs run; still, logs and failures carry this machine's. Run an NTP client."
        ),
    share < thresholds.connections
      ? ok("connections", `${server.connections} of ${server.maxConnections} connections are taken.`)
      : warning(
          "connections",
          `${server.connections} of ${server.maxConnections} connections are taken.`,
          "Lower maxConnections of the pools, put PgBouncer in front, or raise max_connections."
        ),
    server.notificationUsage < thresholds.notificationUsage
      ? ok("notification queue", `${Math.round(server.notificationUsage * 100)} % of the server's queue are used.`)
      : problem(
          "notification queue",
          `${Math.round(server.notificationUsage * 100)} % of the server's queue of notifications are used; when it is full, commits fail.`,
          "Find the session that listens and sits in a transaction in pg_stat_activity, and end it."
        ),
    server.transactionAge < thresholds.transactionAge
      ? ok("transaction ids", `The oldest is ${Math.round(server.transactionAge / 1e6)} million transactions old.`)
      : problem(
          "transaction ids",
          `The oldest is ${Math.round(server.transactionAge / 1e6)} million transactions old; the server stops at 2,000.`,
          "Let autovacuum freeze: end old transactions, drop stale replication slots and prepared transactions."
        )
  ]
}

const schemaFinding = (schema: string, { needs, version: found }: migrate.Installed): Finding =>
  found === latest
    ? ok("schema", `The schema "${schema}" is at version ${found}.`)
    : found === 0
      ? problem(
          "schema",
          `The schema "${schema}" has no Shigoto tables, or this role may not see them.`,
          "Run: shigoto migrate",
          print(schema)
        )
      : found < latest
        ? problem(
            "schema",
            `The schema "${schema}" is at version ${found}, this code needs ${latest}.`,
            "Run: shigoto migrate",
            print(schema, found)
          )
        : needs > latest
          ? problem(
              "schema",
              `The schema "${schema}" is at version ${found} and works with code from version ${needs} on; this is ${latest}.`,
              "Deploy the newer effect-shigoto."
            )
          : warning(
              "schema",
              `The schema "${schema}" is at version ${found}, newer than this code (${latest}); that works.`,
              "Use the version of effect-shigoto that the application uses."
            )

const tableFindings = (schema: string, tables: facts.TableFacts | undefined): ReadonlyArray<Finding> => {
  if (tables === undefined) return []
  const { canRead, canWrite, dead, live, size, stray, vacuumedAt } = tables
  const vacuumed = vacuumedAt === null ? "never vacuumed" : `last vacuumed ${vacuumedAt.toISOString()}`
  return [
    canWrite
      ? ok("rights", "This role may work on jobs.")
      : warning(
          "rights",
          canRead ? "This role may look at jobs, and change none." : "This role may not look at jobs.",
          "That is right for viewers and producers. For a node: shigoto migrate grants <role> --part worker"
        ),
    dead >= thresholds.deadRows && dead > live * 5
      ? problem(
          "bloat",
          `The table of live jobs holds ${live} rows and ${dead} dead ones in ${megabytes(size)} (${vacuumed}): claims slow down.`,
          "End old transactions (see long transactions), then VACUUM the table; look why autovacuum does not.",
          facts.vacuum(schema)
        )
      : ok("bloat", `The table of live jobs holds ${live} rows and ${dead} dead ones in ${megabytes(size)}.`),
    stray < 1000
      ? ok("history", "Ended jobs are in partitions of their time.")
      : warning(
          "history",
          `About ${Math.round(stray)} ended jobs are in no partition of their time, and are deleted one by one.`,
          "Partitions are made ahead of time by nodes: let one run, or run shigoto prune now and then."
        )
  ]
}

const megabytes = (bytes: number): string => `${(bytes / 1048576).toFixed(1)} MB`

/** What settings must or should be; the rest is the operator's own. */
const rules: ReadonlyMap<string, (value: string) => Finding | undefined> = new Map([
  [
    "fsync",
    (value: string) =>
      value === "off"
        ? problem(
            "fsync",
            "fsync is off: a crash of the machine may destroy the database.",
            "Set fsync = on.",
            facts.turnOn("fsync")
          )
        : undefined
  ],
  [
    "full_page_writes",
    (value: string) =>
      value === "off"
        ? problem(
            "full_page_writes",
            "full_page_writes is off: a crash may tear pages.",
            "Set full_page_writes = on.",
            facts.turnOn("full_page_writes")
          )
        : undefined
  ],
  [
    "synchronous_commit",
    (value: string) =>
      value === "off"
        ? warning(
            "synchronous_commit",
            "synchronous_commit is off: a crash may lose the last enqueues that were said to be committed.",
            "Set synchronous_commit = on, at least for the role that enqueues.",
            facts.turnOn("synchronous_commit")
          )
        : undefined
  ],
  [
    "autovacuum",
    (value: string) =>
      value === "off"
        ? problem(
            "autovacuum",
            "autovacuum is off: the tables grow without end.",
            "Set autovacuum = on.",
            facts.turnOn("autovacuum")
          )
        : undefined
  ],
  [
    "track_counts",
    (value: string) =>
      value === "off"
        ? problem(
            "track_counts",
            "track_counts is off: autovacuum does not know when to run.",
            "Set track_counts = on.",
            facts.turnOn("track_counts")
          )
        : undefined
  ],
  [
    "statement_timeout",
    (value: string) =>
      Number(value) > 0 && Number(value) < 5000
        ? warning(
            "statement_timeout",
            `statement_timeout is ${value} ms: long steps such as a retry of many jobs may be cut off.`,
            "Give the role of the nodes 10 seconds or more."
          )
        : undefined
  ]
])

const settingFindings = (found: ReadonlyMap<string, string>): ReadonlyArray<Finding> => {
  const findings = [...rules].flatMap(([name, rule]) => {
    const value = found.get(name)
    return value === undefined ? [] : (rule(value) ?? [])
  })
  return findings.length === 0 ? [ok("settings", "The server's settings are safe.")] : findings
}

/** Two idle connections of ours that are one of the server's: somebody in between hands them around. */
const poolerFindings = Effect.fnUntraced(function* (client: PgClient.PgClient) {
  const alone = { ...client.config, maxConnections: 1, minConnections: 0, prepare: false }
  const first = yield* PgClient.make(alone)
  const second = yield* PgClient.make(alone)
  for (let round = 0; round < 5; round++) {
    if ((yield* facts.backend(first)) === (yield* facts.backend(second))) {
      return [
        warning(
          "pooler",
          "A pooler in transaction mode is in between.",
          "Set prepare: false on PgClient, and ShigotoConfig.listenUrl to a direct URL, or listen to false."
        )
      ]
    }
  }
  return [ok("pooler", "Connections are the server's own, or those of a pooler in session mode.")]
}, Effect.provide(Reactivity.layer))

const notificationFindings = Effect.fnUntraced(function* (client: PgClient.PgClient, schema: string) {
  const listener = yield* PgClient.make({ ...client.config, maxConnections: 1, prepare: false })
  const channel = `${schema}_doctor_${yield* Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER)}`
  const incoming = yield* listener.listen(channel)
  const before = yield* Clock.currentTimeMillis
  yield* client.notify(channel, "heard?")
  const heard = yield* Effect.timeoutOption(Effect.exit(Queue.take(incoming)), "2 seconds")
  const took = (yield* Clock.currentTimeMillis) - before
  return [
    heard._tag === "Some" && heard.value._tag === "Success"
      ? ok("notifications", `A notification arrives in ${Math.round(took)} ms.`)
      : warning(
          "notifications",
          "Notifications do not arrive: nodes on this URL poll, and jobs start up to a second later.",
          "Set ShigotoConfig.listenUrl to a direct URL of the same database, or listen to false."
        )
  ]
}, Effect.provide(Reactivity.layer))
