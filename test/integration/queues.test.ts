import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { type Node, onDatabase, reaches, startNode } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number } })
const Hold = Job.make("hold")

const notes = Note.toLayer(() => Effect.void)

const until = (
  node: Node,
  queue: string,
  holds: (state: { concurrency: number; paused: boolean } | undefined) => boolean
) =>
  eventually(
    Effect.sync(() => node.queues.get(queue)),
    holds
  )

describe("queues at run time", () => {
  onDatabase("are added, scaled, paused, resumed and removed on all nodes by any", () =>
    Effect.gen(function* () {
      const one = yield* startNode({ workers: notes, config: { nodeName: "one" } })
      const two = yield* startNode({ workers: notes, config: { nodeName: "two", listen: false } })
      const both = [one, two]

      const { id } = yield* one.run(Note.enqueue({ n: 1 }, { queue: "extra" }))
      yield* one.queues.add("extra", { concurrency: 3 })
      yield* reaches(one, id, "completed")
      for (const node of both) yield* until(node, "extra", (state) => state?.concurrency === 3)

      yield* two.queues.scale("extra", 7)
      for (const node of both) yield* until(node, "extra", (state) => state?.concurrency === 7)

      yield* two.queues.pause("extra")
      const held = yield* one.run(Note.enqueue({ n: 2 }, { queue: "extra" }))
      for (const node of both) yield* until(node, "extra", (state) => state?.paused === true)
      assert.strictEqual((yield* one.jobs.get(held.id)).epoch, 0)
      yield* one.queues.resume("extra")
      yield* reaches(one, held.id, "completed")

      yield* one.queues.scale("extra", 2, { node: "two" })
      yield* until(two, "extra", (state) => state?.concurrency === 2)
      assert.strictEqual(one.queues.get("extra")?.concurrency, 7)
      yield* one.queues.pause("extra", { node: "one" })
      yield* until(one, "extra", (state) => state?.paused === true)
      assert.isFalse(two.queues.get("extra")?.paused)

      yield* one.queues.remove("extra", { node: "two" })
      yield* until(two, "extra", (state) => state === undefined)
      assert.isDefined(one.queues.get("extra"))
      yield* two.queues.add("extra", { concurrency: 1, node: "two" })
      yield* until(two, "extra", (state) => state?.concurrency === 1)
      // A removal everywhere takes back what was asked for single nodes.
      yield* two.queues.remove("extra")
      for (const node of both) yield* until(node, "extra", (state) => state === undefined)
      const left = yield* one.run(Note.enqueue({ n: 3 }, { queue: "extra" }))
      yield* two.queues.add("extra", { concurrency: 1 })
      yield* reaches(one, left.id, "completed")
    })
  )

  onDatabase("a pause outlives every node, and holds before the first look", () =>
    Effect.gen(function* () {
      const before = yield* startNode({ workers: notes })
      yield* before.queues.pause("default")
      const { id } = yield* before.run(Note.enqueue({ n: 1 }))
      yield* before.stop
      const after = yield* startNode({ workers: notes, config: { queues: { default: 10, other: 1 } } })
      const other = yield* after.run(Note.enqueue({ n: 2 }, { queue: "other" }))
      yield* reaches(after, other.id, "completed")
      yield* until(after, "default", (state) => state?.paused === true)
      assert.strictEqual((yield* after.jobs.get(id)).epoch, 0)
      yield* after.queues.resume("default")
      yield* reaches(after, id, "completed")
    })
  )

  onDatabase("a removal waits for the jobs that run, and starts no other", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Hold.toLayer(() => Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(release))),
        config: { queues: { default: 1 } }
      })
      const [running, waiting] = yield* node.run(Hold.enqueueAll([{}, {}]))
      yield* Deferred.await(started)
      let removed = false
      yield* node.queues.remove("default").pipe(
        Effect.andThen(
          Effect.sync(() => {
            removed = true
          })
        ),
        Effect.forkScoped
      )
      yield* eventually(sql`SELECT FROM shigoto.queues WHERE removed_at IS NOT NULL`, (rows) => rows.length === 1)
      yield* until(node, "default", (state) => state === undefined)
      assert.isFalse(removed)
      yield* Deferred.succeed(release, undefined)
      yield* eventually(
        Effect.sync(() => removed),
        (done) => done
      )
      assert.strictEqual((yield* node.jobs.get(running!.id)).state, "completed")
      assert.strictEqual((yield* node.jobs.get(waiting!.id)).state, "available")
    })
  )
})

describe("the stop of a scope", () => {
  onDatabase("several workers share one grace; what has not ended is given back; the node's row is gone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const Second = Job.make("second")
      const Third = Job.make("third")
      let started = 0
      const forever = () =>
        Effect.andThen(
          Effect.sync(() => started++),
          Effect.never
        )
      const node = yield* startNode({
        workers: Layer.mergeAll(Hold.toLayer(forever), Second.toLayer(forever), Third.toLayer(forever)),
        config: { shutdownGrace: "3 seconds", interruptGrace: "100 millis" }
      })
      for (const job of [Hold, Second, Third]) yield* node.run(job.enqueue({}))
      yield* eventually(
        Effect.sync(() => started),
        (count) => count === 3
      )
      const before = performance.now()
      yield* node.stop
      // Three graces would be nine seconds, one is three: between them lies more than any machine needs.
      assert.isBelow(performance.now() - before, 8900)
      const rows = yield* sql<{
        readonly state: string
        readonly attempt: number
      }>`SELECT state, attempt FROM shigoto.jobs`
      assert.deepStrictEqual(
        rows,
        Array.from({ length: 3 }, () => ({ state: "available", attempt: 0 }))
      )
      assert.strictEqual((yield* sql`SELECT FROM shigoto.nodes`).length, 0)
    })
  )
})
