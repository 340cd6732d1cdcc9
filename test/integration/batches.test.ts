/** Batches on several processes that die: none stuck, none early, no callback twice. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { eventually } from "../setup/eventually.ts"
import { Eights } from "./fixtures/batches.ts"
import { makeDiary, onDatabase, runDown, startNode, startProcess } from "./support.ts"

/** What has no excuse, whoever died: callbacks early, missing or twice, counters that are off. */
const offences = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const callbacks = sql`
    SELECT (meta -> 'batch' ->> 'id')::bigint AS batch, worker, id, meta -> 'batch' AS told
    FROM shigoto.all_jobs
    WHERE worker IN ('all-ended', 'all-good', 'first-bad')`
  const counters = yield* sql`
    SELECT b.id
    FROM shigoto.batches AS b
    CROSS JOIN LATERAL (
      SELECT count(*) AS total, count(*) FILTER (WHERE state = 'completed') AS completed,
        count(*) FILTER (WHERE state = 'discarded') AS discarded
      FROM shigoto.all_jobs AS j
      WHERE j.batch_id = b.id
    ) AS seen
    WHERE (b.total, b.pending, b.completed, b.discarded, b.cancelled) <> (seen.total, 0, seen.completed, seen.discarded, 0)
      OR seen.total <> 8`
  const miscalled = yield* sql`
    WITH callback AS (${callbacks})
    SELECT b.id
    FROM shigoto.batches AS b
    LEFT JOIN callback AS c
      ON c.batch = b.id
    GROUP BY b.id
    HAVING count(*) FILTER (WHERE c.worker = 'all-ended') <> 1
      OR count(*) FILTER (WHERE c.worker = 'all-good') <> (b.discarded = 0)::integer
      OR count(*) FILTER (WHERE c.worker = 'first-bad') <> (b.discarded > 0)::integer`
  const early = yield* sql`
    WITH callback AS (${callbacks})
    SELECT c.batch
    FROM callback AS c
    JOIN shigoto.all_jobs AS j
      ON j.batch_id = c.batch
    JOIN diary AS last
      ON last.job = j.id AND last.what = 'end'
    JOIN diary AS ran
      ON ran.job = c.id
    WHERE c.worker <> 'first-bad'
    GROUP BY c.batch, c.id
    -- A handler may run again after it has ended, where the end was not stored; its first end must be before.
    HAVING bool_or(ran.seq < (SELECT min(d.seq) FROM diary AS d WHERE d.job = last.job AND d.what = 'end'))`
  const told = yield* sql`
    WITH callback AS (${callbacks})
    SELECT c.id
    FROM callback AS c
    JOIN shigoto.batches AS b
      ON b.id = c.batch
    WHERE c.worker <> 'first-bad'
      AND c.told <> jsonb_build_object('id', b.id, 'name', b.name, 'total', b.total, 'pending', 0,
        'completed', b.completed, 'discarded', b.discarded, 'cancelled', 0,
        'outcome', CASE WHEN b.discarded > 0 THEN 'discarded' ELSE 'completed' END)`
  return { counters, miscalled, early, told }
})

describe("batches", () => {
  onDatabase("come to their callbacks, each once, whose last members finish together while processes are killed", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const sql = yield* SqlClient.SqlClient
      const config = { leaseTtl: "1500 millis", leaseBeat: "300 millis", queues: { default: 24 } } as const
      const observer = yield* startNode({ config: { ...config, queues: { unused: 1 } } })
      const begin = startProcess({ config }, "batchWorker.ts")
      const processes = yield* Effect.all([begin, begin, begin], { concurrency: 3 })
      const count = (rows: Effect.Effect<ReadonlyArray<{ readonly n: number }>, unknown>) =>
        Effect.map(rows, ([row]) => row?.n ?? 0)
      const lines = count(sql`SELECT count(*)::integer AS n FROM diary`)
      const left = count(sql`
          SELECT (SELECT count(*) FROM shigoto.batches WHERE finished_at IS NULL)::integer
            + (SELECT count(*) FROM shigoto.jobs)::integer AS n`)
      const rounds = 5
      // One dies in the midst of each round; its jobs are rescued, or discarded where that was their last attempt.
      for (let round = 0; round < rounds; round++) {
        const before = yield* lines
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => round * 100 + n),
          (n) => observer.run(Eights(n)),
          { concurrency: 8 }
        )
        yield* eventually(lines, (now) => now > before + 200)
        processes[round % 3]?.child.kill("SIGKILL")
        processes[round % 3] = yield* begin
      }
      yield* runDown(left)
      assert.deepStrictEqual(yield* offences, { counters: [], miscalled: [], early: [], told: [] })
      const batches = yield* sql`SELECT FROM shigoto.batches`
      assert.strictEqual(batches.length, rounds * 100)
    })
  )
})
