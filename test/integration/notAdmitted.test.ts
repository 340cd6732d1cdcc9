/** A database that cannot say whether a job may start has not said yes: for each part, its table is away for a while. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import type { Governed } from "../../src/internal/sql/limit.ts"
import * as Job from "../../src/Job.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Limit from "../../src/Limit.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, startNode, tally } from "./support.ts"

const Call = Job.make("call")
const rate = { limit: 5, window: "1 hour" } as const
const circuit = Result.getOrThrow(CircuitBreaker.check({ state: "shared" }))
const nothing: Governed = { worker: "call", concurrency: undefined, rate: undefined }

/** What is asked, the table that answers, and the queue. */
const parts: ReadonlyArray<
  readonly [name: string, table: string, governed: Governed, queue?: ShigotoConfig.QueueOptions]
> = [
  ["a rate", "limits", { ...nothing, rate: Limit.make("api", rate) }],
  ["a rate by key", "limits", { ...nothing, rate: Limit.make("api", { ...rate, perKey: true }) }],
  ["a rate of the queue", "limits", nothing, { concurrency: 5, rateLimit: rate }],
  ["a concurrency over all nodes", "limits", { ...nothing, concurrency: 5 }],
  ["a shared circuit", "cells", { ...nothing, circuit }],
  ["the turns of a fair queue", "partitions", nothing, { concurrency: 5, fair: true }],
  ["a concurrency by key", "partitions", nothing, { concurrency: 5, partitionConcurrency: 5 }]
]

describe("a database error", () => {
  for (const [name, table, governed, queue = 5] of parts) {
    onDatabase(`admits nothing under ${name}`, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const config = yield* ShigotoConfig.make({ queues: { default: queue } })
        const store = yield* Effect.provideService(JobStore.make, ShigotoConfig.ShigotoConfig, config)
        const node = yield* store.register({ name: "bare", ttlMillis: 600_000 })
        yield* sql`SELECT shigoto.enqueue('call', '{}', partition_key => 'a')`
        const claim = store.limits.claim(
          { node, nodeName: "bare", queue: "default", limit: 5, workers: [{ name: "call", room: 5 }] },
          [governed],
          config.partitions.get("default"),
          config.rates.get("default")
        )
        yield* sql`ALTER TABLE ${sql(`shigoto.${table}`)} RENAME TO away`
        const failure = yield* Effect.flip(claim)
        assert.match(failure.message, new RegExp(`"shigoto.${table}" does not exist`))
        const [job] = yield* sql`SELECT state, attempt, epoch FROM shigoto.jobs`
        assert.deepStrictEqual(job, { state: "available", attempt: 0, epoch: 0 })
        yield* sql`ALTER TABLE shigoto.away RENAME TO ${sql(table)}`
        assert.strictEqual((yield* claim).jobs.length, 1)
      })
    )
  }

  onDatabase("is outlived by a node: it starts what waited once the database answers again", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      let started = 0
      const node = yield* startNode({
        workers: Call.toLayer(() => Effect.sync(() => void started++), {
          rateLimit: { limit: 100, window: "1 second" }
        })
      })
      yield* node.run(Call.enqueue({}))
      yield* eventually(tally, (counts) => counts.completed === 1)
      yield* sql`ALTER TABLE shigoto.limits RENAME TO away`
      yield* node.run(Call.enqueueAll([{}, {}, {}]))
      // It has asked, and was told nothing.
      yield* eventually(
        sql<{ readonly failed: boolean }>`
          SELECT xact_rollback > 0 AS failed FROM pg_stat_database WHERE datname = current_database()`,
        ([row]) => row?.failed === true
      )
      assert.deepStrictEqual(yield* tally, { available: 3, completed: 1 })
      assert.strictEqual(started, 1)
      yield* sql`ALTER TABLE shigoto.away RENAME TO limits`
      yield* eventually(tally, (counts) => counts.completed === 4)
      assert.strictEqual(started, 4)
    })
  )
})
