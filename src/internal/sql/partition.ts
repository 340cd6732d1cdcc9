/** Fair queues: claims from one partition after the other, however much waits in each. */
import * as Effect from "effect/Effect"
import type { Partitions } from "../../ShigotoConfig.ts"
import type { ClaimRequest } from "./claim.ts"
import type { Claimed } from "./claimed.ts"
import { array, type Db, oid } from "./db.ts"
import { keysAtWork } from "./keys.ts"

/** What a fair claim took, and whether a partition with work had no place left. */
export interface FairClaim {
  readonly jobs: ReadonlyArray<Claimed>
  readonly saturated: boolean
}

/** What one claim took within the limits, and whether one of them refused something that it saw. */
export interface Taken {
  readonly jobs: ReadonlyArray<Claimed>
  readonly refused: boolean
}

/**
 * Claims in turn from the partitions of a queue that have work, each as often as its weight says, and none beyond its
 * concurrency. The caller holds the lock of the queue's row.
 *
 * Each partition has a pass, which grows by 1 / weight with each job that starts; the lowest is next. One that had no
 * work comes in where the others are, not behind what it did not use. A partition that brings less than its turn, since
 * this node lacks the worker or room, leaves its turn to the others.
 */
export const claimFair = Effect.fnUntraced(function* <E>(
  db: Db,
  request: ClaimRequest,
  rule: Partitions,
  take: (request: ClaimRequest) => Effect.Effect<Taken, E>
) {
  const found = yield* read(db, request.queue)
  const turns = found.flatMap((row): ReadonlyArray<Turn> => {
    if (row.paused) return []
    const key = row.key === "" ? undefined : row.key
    return [
      {
        key: row.key,
        pass: Math.max(row.pass ?? 0, row.floor ?? 0),
        running: row.running,
        stride: 1 / rule.weight(key),
        places: rule.concurrency(key) - row.running,
        exhausted: false,
        started: 0
      }
    ]
  })
  const jobs: Array<Claimed> = []
  while (jobs.length < request.limit) {
    const shares = share(turns, request.limit - jobs.length)
    if (shares.size === 0) break
    const { jobs: claimed, refused } = yield* take({
      ...request,
      limit: request.limit - jobs.length,
      partitions: [...shares].map(([turn, room]) => ({ key: turn.key, room }))
    })
    for (const [turn, room] of shares) {
      const got = claimed.filter((job) => (job.partitionKey ?? "") === turn.key).length
      turn.started += got
      turn.places -= got
      turn.pass += got * turn.stride
      // What a limit refused is left out the next time, and what stands behind it comes up.
      turn.exhausted = got < room && !refused
    }
    jobs.push(...claimed)
  }
  yield* write(
    db,
    request.queue,
    turns.filter((turn) => turn.started > 0)
  )
  return { jobs, saturated: turns.some((turn) => turn.places <= 0) } satisfies FairClaim
})

/** Pauses a partition or takes that back; doing so twice is doing it once. */
export const pausePartition = Effect.fnUntraced(function* (db: Db, queue: string, key: string, paused: boolean) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    INSERT INTO ${table(db)} AS p (queue, key, pass, served, paused_at, updated_at)
    VALUES (${queue}, ${key}, 0, 0, CASE WHEN ${paused}::boolean THEN ${now} END, ${now})
    ON CONFLICT (queue, key) DO UPDATE
    SET paused_at = CASE WHEN ${paused}::boolean THEN coalesce(p.paused_at, ${now}) END,
      updated_at = ${now}`)
})

/** Forgets partitions that nothing was claimed from for a while. */
export const prunePartitions = Effect.fnUntraced(function* (db: Db) {
  const now = yield* db.now
  yield* db.statement(db.sql`
    DELETE FROM ${table(db)}
    WHERE updated_at < ${now} - interval '1 hour'
      AND paused_at IS NULL`)
})

// internal

/** How far into a queue jobs without a key are looked for: no index tells them apart, which would be at everybody's cost. */
const keylessDepth = 10_000

interface Turn {
  readonly key: string
  readonly running: number
  readonly stride: number
  pass: number
  places: number
  exhausted: boolean
  started: number
}

const table = (db: Db) => db.sql(`${db.schema}.partitions`)

/** Deals places out to the lowest passes; between equals, to whoever runs least for its weight. */
const share = (turns: ReadonlyArray<Turn>, places: number): ReadonlyMap<Turn, number> => {
  const shares = new Map<Turn, number>()
  for (let place = 0; place < places; place++) {
    let next: Turn | undefined
    let lowest = Infinity
    for (const turn of turns) {
      const dealt = shares.get(turn) ?? 0
      if (turn.exhausted || dealt >= turn.places) continue
      const pass = turn.pass + dealt * turn.stride
      if (
        pass < lowest ||
        (pass === lowest && next !== undefined && turn.running * turn.stride < next.running * next.stride)
      ) {
        next = turn
        lowest = pass
      }
    }
    if (next === undefined) break
    shares.set(next, (shares.get(next) ?? 0) + 1)
  }
  return shares
}

/**
 * The partitions that have available work, found by one probe of the index each, with their passes and what they run;
 * jobs without a key are one partition, with the empty key, and looked for at the head of the queue.
 */
const read = (db: Db, queue: string) =>
  db.sql<{
    readonly key: string
    readonly pass: number | null
    readonly floor: number | null
    readonly running: number
    readonly paused: boolean
  }>`
    WITH RECURSIVE keyed (key, place) AS (${keysAtWork(db, queue)}),
    found AS (
      SELECT key FROM keyed WHERE key IS NOT NULL
      UNION ALL
      SELECT ''
      WHERE EXISTS (
        SELECT FROM (
          SELECT partition_key
          FROM ${db.jobs}
          WHERE queue = ${queue}
            AND state = 'available'
          ORDER BY rank, run_at, id
          LIMIT ${keylessDepth}::integer
        ) AS head
        WHERE head.partition_key IS NULL
      )
    ),
    running AS (
      SELECT coalesce(partition_key, '') AS key, count(*)::integer AS count
      FROM ${db.jobs}
      WHERE queue = ${queue}
        AND state = 'executing'
      GROUP BY 1
    )
    SELECT found.key, p.pass, coalesce(running.count, 0) AS running, p.paused_at IS NOT NULL AS paused,
      (SELECT max(served) FROM ${table(db)} WHERE queue = ${queue}) AS floor
    FROM found
    LEFT JOIN ${table(db)} AS p
      ON p.queue = ${queue}
      AND p.key = found.key
    LEFT JOIN running
      ON running.key = found.key`

const write = Effect.fnUntraced(function* (db: Db, queue: string, turns: ReadonlyArray<Turn>) {
  if (turns.length === 0) return
  const now = yield* db.now
  yield* db.sql`
    INSERT INTO ${table(db)} (queue, key, pass, served, updated_at)
    SELECT ${queue}, key, pass, served, ${now}
    FROM unnest(
      ${array(
        turns.map((turn) => turn.key),
        oid.text
      )}::text[],
      ${array(
        turns.map((turn) => turn.pass),
        oid.float8
      )}::float8[],
      ${array(
        turns.map((turn) => turn.pass - turn.stride),
        oid.float8
      )}::float8[]
    ) AS turn (key, pass, served)
    ON CONFLICT (queue, key) DO UPDATE
    SET pass = excluded.pass,
      served = excluded.served,
      updated_at = excluded.updated_at`
})
