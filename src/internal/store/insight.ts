/** The store's verbs for what people and probes ask about the whole. */
import type { JobId } from "../../JobRow.ts"
import * as catalog from "../sql/catalog.ts"
import type { Db } from "../sql/db.ts"
import * as explain from "../sql/explain.ts"
import * as health from "../sql/health.ts"
import * as logs from "../sql/logs.ts"
import * as node from "../sql/node.ts"
import { limited } from "../sql/search.ts"
import { tables } from "../sql/tables.ts"
import type { Runner } from "./runner.ts"

/** Builds the verbs. */
export const insightVerbs = (db: Db, { background, called }: Runner) => ({
  /** The nodes, those with a live lease first. */
  nodes: called("nodes")(node.list(db)),
  /** Everything that bears on whether a job runs; undefined where there is no such job. */
  explain: (id: JobId, rules: explain.QueueRules) => called("explain")(explain.explain(db, id, rules)),
  /** Whether the database answers and takes writes, and which version of the schema it has. */
  ping: background("health")(health.ping(db)),
  /** What the server says of itself. */
  server: background("health")(health.server(db)),
  /** Counts, queues and workers, each up to a limit. */
  standing: background("health")(health.read(db)),
  /** How long the job of each queue that waits longest for a slot has been due. */
  oldest: background("health")(health.oldest(db)),
  /** Stores what handlers logged. */
  appendLogs: (lines: ReadonlyArray<logs.NewLine>) => background("logs")(logs.append(db, lines)),
  /** What handlers of a job logged. */
  logs: (page: logs.LogPage) => called("logs")(logs.read(db, page)),
  /** Forgets old logs; says how many. */
  pruneLogs: (retentionMillis: number) => background("prune")(logs.prune(db, retentionMillis)),
  /** Stores what workers take. */
  publishWorkers: (workers: ReadonlyArray<catalog.Published>) => background("workers")(catalog.publish(db, workers)),
  /** The JSON Schema of a worker's args; undefined where no node has told it. */
  argsSchema: (worker: string) => called("workers")(catalog.read(db, worker)),
  /** The fields that schemas of workers say are secret. */
  secretFields: called("workers")(catalog.readSecrets(db)),
  /** How the tables stand. */
  tables: called("tables")(tables(db)),
  /** The nodes, for a probe. */
  fleet: background("health")(limited(db, node.list(db)))
})

/** The verbs. */
export type InsightVerbs = ReturnType<typeof insightVerbs>
