/** What a claim leaves of a row, and the row as its attempt needs it. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { AttemptFailure, BatchId, JobId } from "../../JobRow.ts"
import { type Dependency, link } from "../newJob.ts"
import { batchId } from "./batch.ts"
import { array, type Db, oid } from "./db.ts"
import { read } from "./depend.ts"
import { jobId } from "./row.ts"
import { isPlain, openClaimed, seals } from "./seal.ts"

/**
 * A claimed job, as its attempt needs it.
 *
 * A class, as everything is that a node makes for each job: literals of which a whole batch is alive at once are soon made
 * in V8's old space, where they keep alive, until the next full collection, all that they have ever pointed to.
 */
export class Claimed {
  readonly id: JobId
  readonly epoch: number
  readonly worker: string
  readonly queue: string
  readonly attempt: number
  readonly maxAttempts: number
  readonly priority: number
  readonly args: unknown
  readonly runAt: Date
  readonly claimedAt: Date
  /** When the job was first due; undefined for one that was due as it was inserted. */
  readonly scheduledFor: Date | undefined
  readonly insertedAt: Date
  readonly errors: ReadonlyArray<AttemptFailure>
  readonly meta: Readonly<Record<string, unknown>>
  readonly tags: ReadonlyArray<string>
  readonly partitionKey: string | undefined
  readonly snoozes: number
  readonly links: number
  readonly trace: string | undefined
  /** Before when an attempt had to start; undefined for no matter. */
  readonly startBefore: Date | undefined
  readonly batch: BatchId | undefined
  readonly dependencies: ReadonlyArray<Dependency>
  /** Whether what it leaves is encrypted. */
  readonly encrypted: boolean
  /** What the shared circuit of its worker let it through with, set by the claim; undefined where there is none. */
  passage: { readonly generation: number; readonly probe: boolean } | undefined
  /** What its args are to be computed from, for a node of a flow. */
  readonly flow: { readonly name: string; readonly input: unknown; readonly step: string } | undefined

  constructor(
    queue: string,
    row: Taken,
    encrypted: boolean,
    dependencies: ReadonlyMap<JobId, ReadonlyArray<Dependency>> | undefined,
    flows: ReadonlyMap<bigint, Claimed["flow"]> | undefined
  ) {
    this.id = jobId(row[0])
    this.epoch = row[1]
    this.worker = row[2]
    this.queue = queue
    this.attempt = row[3]
    this.maxAttempts = row[4]
    this.priority = row[5]
    this.args = row[6]
    this.runAt = row[7]
    this.insertedAt = row[8]
    this.claimedAt = row[9]
    this.errors = row[10] ?? none
    this.meta = row[11] ?? nothing
    this.tags = row[12] ?? none
    this.partitionKey = row[13] ?? undefined
    this.snoozes = row[14] ?? 0
    this.scheduledFor = row[15] ?? undefined
    this.links = row[16]
    this.batch = row[17] === null ? undefined : batchId(row[17])
    this.trace = row[19] ?? undefined
    this.startBefore = row[20] ?? undefined
    this.encrypted = encrypted
    this.dependencies = dependencies?.get(this.id) ?? none
    this.passage = undefined
    this.flow = flows?.get(row[0])
  }
}

/**
 * The columns that a claim returns, as the driver reads them: by their places, for an object with so many names costs
 * more than the rest of the reading.
 */
export type ClaimedColumns = readonly [
  /** Null where a claim that says whether it stopped has brought nothing. */
  id: bigint | null,
  epoch: number,
  worker: string,
  attempt: number,
  maxAttempts: number,
  priority: number,
  args: unknown,
  runAt: Date,
  insertedAt: Date,
  claimedAt: Date,
  errors: ReadonlyArray<AttemptFailure> | null,
  meta: Readonly<Record<string, unknown>> | null,
  tags: ReadonlyArray<string> | null,
  partitionKey: string | null,
  snoozes: number | null,
  scheduledFor: Date | null,
  links: number,
  batch: bigint | null,
  step: string | null,
  trace: string | null,
  startBefore: Date | null,
  /** What the statement says beside them. */
  ...rest: ReadonlyArray<unknown>
]

/** The columns that a claim returns of a job, in the order of `ClaimedColumns`. */
export const claimedColumns = (db: Db, job: string): Fragment =>
  db.sql.literal(names.map((name) => `${job}.${name}`).join(", "))

/** Runs a statement that returns them; a claim says when it is prepared. */
export const claimedRows = (
  statement: Statement<unknown>,
  isPrepared = false
): Effect.Effect<ReadonlyArray<ClaimedColumns>, SqlError> =>
  Effect.map(
    isPrepared ? statement.values : statement.valuesUnprepared,
    (rows) => rows as unknown as ReadonlyArray<ClaimedColumns> // by `claimedColumns`
  )

/** The beginning of a claim's update of jobs `j`; which ones, and that nobody has claimed them, is to follow. */
export const taking = (db: Db, node: number, now: Fragment): Fragment => db.sql`
    UPDATE ${db.jobs} AS j
    SET state = 'executing',
      claimed_by = ${node}::integer,
      claimed_at = ${now},
      attempt = j.attempt + 1,
      epoch = j.epoch + 1,
      progress = NULL`

/**
 * Reads what a claim on a queue returned, in the order of the queue, with what the jobs waited for and are computed from.
 * What is encrypted stays so until it is opened.
 */
export const readClaimed = Effect.fnUntraced(function* (
  db: Db,
  { encrypted, queue }: Asked,
  found: ReadonlyArray<ClaimedColumns>
) {
  const rows = found.filter(isTaken)
  const waited = rows.filter((row) => (row[at.links] & link.waits) !== 0)
  const dependencies =
    waited.length === 0
      ? undefined
      : yield* read(
          db,
          waited.map(([id]) => jobId(id))
        )
  const computed = rows.filter((row) => (row[at.links] & link.computed) !== 0)
  const flows = computed.length === 0 ? undefined : yield* readFlows(db, computed)
  const leaves = (worker: string): boolean => seals(db, { encrypted: encrypted?.get(worker) })
  return rows
    .map((row) => new Claimed(queue, row, leaves(row[at.worker]), dependencies, flows))
    .toSorted((a, b) => b.priority - a.priority || a.runAt.getTime() - b.runAt.getTime() || a.id - b.id)
})

/** Claimed jobs as their handlers read them: outside of any transaction, since each value takes a turn of the event loop. */
export const openAll = (
  db: Db,
  claimed: ReadonlyArray<Claimed>,
  { encrypted }: Asked
): Effect.Effect<ReadonlyArray<Claimed>> => {
  const wanted = ({ worker }: Claimed): boolean | undefined => encrypted?.get(worker)
  const isOpen = (job: Claimed): boolean => isPlain(db, job, wanted(job))
  return claimed.every(isOpen)
    ? Effect.succeed(claimed)
    : Effect.forEach(claimed, (job) => (isOpen(job) ? Effect.succeed(job) : openClaimed(db, job, wanted(job))))
}

// internal

/** What of a claim's request says how its jobs are to be read. */
interface Asked {
  readonly queue: string
  readonly encrypted?: ReadonlyMap<string, boolean> | undefined
}

type Taken = ClaimedColumns & { readonly 0: bigint }

const isTaken = (row: ClaimedColumns): row is Taken => row[0] !== null

/** Where those columns are that say how a job is to be read. */
const at = { worker: 2, links: 16, batch: 17, step: 18 } as const

const names = `id epoch worker attempt max_attempts priority args run_at inserted_at claimed_at errors meta tags
  partition_key snoozes scheduled_for links batch_id step trace start_before`.split(/\s+/)

/** What most jobs have of what a job may have: they share it. */
const none: ReadonlyArray<never> = []
const nothing: Claimed["meta"] = {}

const readFlows = Effect.fnUntraced(function* (db: Db, jobs: ReadonlyArray<Taken>) {
  const rows = yield* db.sql<{ readonly id: bigint; readonly name: string; readonly input: unknown }>`
    SELECT id, name, input
    FROM ${db.sql(`${db.schema}.batches`)}
    WHERE id = ANY(${array(
      jobs.map((job) => job[at.batch]),
      oid.int8
    )}::bigint[])`
  const byId = new Map(rows.map((row) => [row.id, row]))
  return new Map(
    jobs.map((job) => {
      const flow = byId.get(job[at.batch] ?? 0n)
      return [job[0], { name: flow?.name ?? "", input: flow?.input ?? null, step: job[at.step] ?? "" }]
    })
  )
})
