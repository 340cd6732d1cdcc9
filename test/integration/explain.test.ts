import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as SqlClient from "effect/sql/SqlClient"
import * as CircuitBreaker from "../../src/CircuitBreaker.ts"
import { tell } from "../../src/Explain.ts"
import type { JobId } from "../../src/JobRow.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as JobStore from "../../src/JobStore.ts"
import * as Limit from "../../src/Limit.ts"
import { Queues } from "../../src/Queues.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { makeRandom } from "../chaos/random.ts"
import { onDatabase } from "./support.ts"

const config = ShigotoConfig.layer({
  queues: {
    plain: 10,
    limited: { concurrency: 10, rateLimit: { limit: 5, window: "31 days", algorithm: "fixed-window" } },
    fair: { concurrency: 10, partitionConcurrency: (key) => (key === "acme" ? 1 : 2) }
  }
})
const asked = Layer.merge(Shigoto.layerProducer, config).pipe(Layer.provide(config))

const queues = ["plain", "limited", "fair"]
const workers = ["note", "other", "governed"]
const names = ["here", "there"]
const keys = [null, null, "acme", "globex"]

/** What a claim changes beside the job. */
const books = ["limits", "cells", "partitions"]

describe("explain", () => {
  onDatabase("says runnable exactly when a claim would take the job, whatever else there is", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* JobStore.make
      const jobs = yield* Jobs
      const control = yield* Queues
      const rules = yield* ShigotoConfig.ShigotoConfig
      const seen = new Map<string, number>()
      const circuit = Result.getOrThrow(CircuitBreaker.check({ state: "shared", window: 1, openFor: "1 hour" }))
      for (let seed = 1; seed <= 20; seed++) {
        const { chance, int, pick } = makeRandom(seed, "anything")
        const some = <A>(items: ReadonlyArray<A>, often: number) => items.filter(() => chance(often))
        yield* sql`
            TRUNCATE shigoto.jobs, shigoto.nodes, shigoto.queues, shigoto.limits, shigoto.cells, shigoto.partitions,
              shigoto.dependencies`
        const governed = {
          worker: "governed",
          concurrency: chance(0.5) ? int(1, 4) : undefined,
          rate: chance(0.6)
            ? Limit.make("each", {
                limit: int(1, 3),
                window: "31 days",
                algorithm: "fixed-window",
                perKey: chance(0.5)
              })
            : undefined,
          circuit: chance(0.4) ? circuit : undefined
        }
        const queueRate = rules.rates.get("limited")
        const limits = [governed, { worker: "", queue: "limited", concurrency: undefined, rate: queueRate }]
        const nodes: Array<{
          readonly id: number
          readonly name: string
          readonly workers: ReadonlyArray<string>
          readonly queues: ReadonlyArray<string>
          readonly shedBelow: number | undefined
        }> = []
        for (let n = 0; n < 3; n++) {
          const name = pick(names)
          const id = yield* store.register({ name, ttlMillis: 3_600_000 })
          const [has, broken, served] = [some(workers, 0.8), some(workers, 0.15), some(queues, 0.8)]
          const shedBelow = chance(0.2) ? pick([0, 1, 6]) : undefined
          yield* store.renew({
            id,
            workers: has,
            queues: served.map((queue) => ({ name: queue, concurrency: 50 })),
            limits: limits.filter(({ worker }) => worker === "" || has.includes(worker)),
            broken,
            shedBelow,
            lagMillis: 0,
            listening: false
          })
          if (chance(0.15)) yield* sql`UPDATE shigoto.nodes SET expires_at = now() - interval '1 s' WHERE id = ${id}`
          nodes.push({ id, name, workers: has.filter((one) => !broken.includes(one)), queues: served, shedBelow })
        }
        for (const name of queues) {
          for (const node of ["", ...names]) {
            if (chance(0.93)) continue
            yield* store.changeQueue({ name, node, paused: chance(0.5), removed: chance(0.3) })
          }
        }
        if (chance(0.5)) yield* control.pause("fair", { partitionKey: pick(["acme", "globex"]) })
        const running = int(0, 8)
        for (let n = 0; n < running; n++) {
          yield* sql`
              INSERT INTO shigoto.jobs (state, worker, queue, args, partition_key, claimed_by, claimed_at, attempt, run_at, inserted_at)
              VALUES ('executing', ${pick(workers)}, ${pick(queues)}, '{}', ${pick(keys)}::text, ${pick(nodes).id}::integer,
                now(), 1, now(), now())`
        }
        if (governed.rate !== undefined) {
          yield* store.limits.charge(governed.rate, int(0, 3), governed.rate.perKey ? pick(["", "acme", "globex"]) : "")
          if (chance(0.1)) yield* store.limits.backOff(governed.rate, 3_600_000)
        }
        if (queueRate !== undefined) yield* store.limits.charge(queueRate, int(2, 6))
        if (governed.circuit !== undefined && chance(0.6)) {
          yield* store.circuits.note(
            { worker: "governed", rule: circuit },
            { generation: 0, failed: true, slow: false }
          )
        }
        for (let n = 0; n < 14; n++) {
          const state = pick(["available", "available", "available", "available", "scheduled", "retryable", "blocked"])
          yield* sql`
              INSERT INTO shigoto.jobs (state, worker, queue, args, priority, attempt, max_attempts, partition_key,
                start_before, run_at, inserted_at)
              VALUES (${state}, ${pick([...workers, ...workers, "governed", "nobody's"])}, ${pick([...queues, ...queues, "nowhere"])}, '{}',
                ${pick([0, 0, 5])}, ${pick([0, 0, 0, 1, 1, 1, 3])}, 3, ${pick(keys)}::text,
                now() + ${pick([null, null, null, null, -3600, 3600])}::integer * interval '1 second',
                now() + ${pick([-60, -60, 3600])} * interval '1 second', now())`
        }
        const rows = yield* sql<{ readonly id: JobId; readonly state: string; readonly queue: string }>`
            SELECT id::integer AS id, state, queue FROM shigoto.jobs WHERE state <> 'executing' ORDER BY id`
        for (const { id, state } of rows) {
          if (state !== "blocked") continue
          yield* sql`
              INSERT INTO shigoto.dependencies (child_id, parent_id, on_failure, outcome)
              VALUES (${id}::bigint, ${pick(rows).id + 1_000_000}::bigint, ${pick(["hold", "cancel"])}, ${pick([null, "discarded"])}::text)`
        }
        const explained = yield* Effect.forEach(rows, ({ id }) => jobs.explain(id))

        // Each job for itself: what a claim takes of the others, or of a limit for them, is no reason.
        for (const book of books) {
          yield* sql`DROP TABLE IF EXISTS ${sql(`kept_${book}`)}`
          yield* sql`CREATE TABLE ${sql(`kept_${book}`)} AS TABLE ${sql(`shigoto.${book}`)}`
        }
        const waiting = rows.map(({ id }) => id).join()
        yield* sql`UPDATE shigoto.jobs SET queue = 'aside' WHERE id IN (${sql.literal(waiting)})`
        for (const [i, { job, message, position, reasons, status }] of explained.entries()) {
          yield* sql`UPDATE shigoto.jobs SET queue = ${job.queue} WHERE id = ${job.id}::bigint`
          let taken = false
          for (const { id: node, name: nodeName, queues: served, shedBelow: floor, workers: able } of nodes) {
            if (taken || !served.includes(job.queue)) continue
            const request = { node, nodeName, queue: job.queue, limit: 10, floor }
            const candidates = able.map((name) => ({ name, room: 10 }))
            const mine = able.includes("governed") ? [governed] : []
            const partitions = rules.partitions.get(job.queue)
            const rate = rules.rates.get(job.queue)
            const claimed = yield* store.limits.claim({ ...request, workers: candidates }, mine, partitions, rate)
            taken = claimed.jobs.length > 0
          }
          yield* sql`UPDATE shigoto.jobs SET queue = 'aside' WHERE id = ${job.id}::bigint AND state <> 'executing'`
          yield* sql`DELETE FROM shigoto.jobs WHERE id = ${job.id}::bigint AND state = 'executing'`
          for (const book of books) {
            yield* sql`TRUNCATE ${sql(`shigoto.${book}`)}`
            yield* sql`INSERT INTO ${sql(`shigoto.${book}`)} SELECT * FROM ${sql(`kept_${book}`)}`
          }
          const why = `seed ${seed}, job ${job.id} (${i}): ${message}`
          assert.strictEqual(status, taken ? "runnable" : "waiting", why)
          assert.strictEqual(position !== undefined, taken, why)
          const holding = reasons.filter(({ _tag }) => !["Ahead", "Busy", "WorkerBusy"].includes(_tag))
          assert.strictEqual(holding.length === 0, taken, why)
          for (const reason of reasons) {
            assert.include(message, tell(reason))
            seen.set(reason._tag, (seen.get(reason._tag) ?? 0) + 1)
          }
          seen.set(status, (seen.get(status) ?? 0) + 1)
        }
      }
      const met = [...seen.keys()].toSorted()
      assert.deepStrictEqual(met, [
        "Ahead",
        "Blocked",
        "CircuitOpen",
        "ConcurrencyLimited",
        "DueNow",
        "Expired",
        "Held",
        "LoadShed",
        "NoAttemptLeft",
        "NoQueue",
        "NoWorker",
        "NotDue",
        "PartitionLimited",
        "Paused",
        "RateLimited",
        "Removed",
        "runnable",
        "waiting"
      ])
      assert.isAbove(seen.get("runnable") ?? 0, 30)
    }).pipe(Effect.provide(asked))
  )
})
