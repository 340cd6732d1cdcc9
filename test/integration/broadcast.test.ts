/** Queues whose jobs every node runs, with several processes. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Cipher from "../../src/Cipher.ts"
import type { JobId } from "../../src/JobRow.ts"
import type * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { Work } from "./fixtures/jobs.ts"
import { diary, makeDiary, type Node, onDatabase, reaches, startNode, startProcess } from "./support.ts"

const config: ShigotoConfig.Options = {
  queues: { default: { concurrency: 4, broadcast: { window: "1 hour" } } },
  // One that loses its lease would be another incarnation.
  leaseTtl: "2 minutes"
}

/** Waits until a job has so many copies in a state. */
const copiesIn = (node: Node, id: JobId, state: string, count: number) =>
  eventually(node.jobs.copies(id), (copies) => copies.filter((copy) => copy.state === state).length === count)

describe("a broadcast queue over processes", () => {
  onDatabase(
    "runs each job once in each process, also in one that starts later, and gives up what a killed one had left",
    () =>
      Effect.gen(function* () {
        yield* makeDiary
        const sql = yield* SqlClient.SqlClient
        // It runs none of them: it has neither the queue nor the worker.
        const producer = yield* startNode({ config: { queues: { other: 1 } } })
        const processes = yield* Effect.all(
          ["a", "b", "c"].map((nodeName) => startProcess({ config: { ...config, nodeName } })),
          { concurrency: "unbounded" }
        )
        const jobs = yield* producer.run(
          Work.enqueueAll(Array.from({ length: 25 }, () => ({ does: "succeed" as const })))
        )
        for (const { id } of jobs) yield* copiesIn(producer, id, "completed", 3)
        const byPid = (starts: ReadonlyArray<{ readonly pid: number; readonly what: string }>, pid: number) =>
          starts.filter((entry) => entry.pid === pid && entry.what === "start").length
        const entries = yield* diary
        assert.deepStrictEqual(
          processes.map(({ pid }) => byPid(entries, pid)),
          [25, 25, 25]
        )

        // One that starts within the window runs them, too; the others do not run them again.
        const late = yield* startProcess({ config: { ...config, nodeName: "late" } })
        for (const { id } of jobs) yield* copiesIn(producer, id, "completed", 4)
        const all = yield* diary
        assert.strictEqual(all.filter(({ what }) => what === "start").length, 100)
        assert.strictEqual(byPid(all, late.pid), 25)
        assert.strictEqual(new Set(all.map(({ job }) => job)).size, 100)

        // What a killed process runs and has before it is nobody else's.
        const slow = yield* producer.run(
          Work.enqueueAll(Array.from({ length: 8 }, () => ({ does: "linger" as const, millis: 600_000 })))
        )
        yield* eventually(
          Effect.forEach(slow, ({ id }) => producer.jobs.copies(id)),
          (all) =>
            all.every((copies) => copies.length === 4) &&
            all.flat().filter(({ nodeName, state }) => nodeName === "late" && state === "executing").length === 4
        )
        late.child.kill("SIGKILL")
        yield* late.exit
        yield* sql`UPDATE shigoto.nodes SET expires_at = now() WHERE name = 'late'`
        for (const { id } of slow) {
          const copies = yield* copiesIn(producer, id, "cancelled", 1)
          assert.deepStrictEqual(
            copies.filter(({ state }) => state === "cancelled").map(({ nodeName }) => nodeName),
            ["late"]
          )
        }
        const rows = yield* sql<{ readonly cancel_reason: string }>`
          SELECT DISTINCT cancel_reason FROM shigoto.all_jobs WHERE state = 'cancelled'`
        assert.deepStrictEqual(rows, [{ cancel_reason: "its node is gone" }])
      })
  )

  onDatabase("is left alone by a node that has it as an ordinary queue, as long as one is there that does not", () =>
    Effect.gen(function* () {
      const ran: Array<string> = []
      const here = (name: string) =>
        Work.toLayer(() =>
          Effect.sync(() => {
            ran.push(name)
            return "done"
          })
        )
      const told: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void told.push(String(message)))])
      const everywhere = yield* startNode({ config: { ...config, nodeName: "all" } }).pipe(Effect.provide(logger))
      const ordinary = yield* startNode({
        workers: here("ordinary"),
        config: { queues: { default: 4 }, nodeName: "one" }
      })
      const { id } = yield* ordinary.run(Work.enqueue({ does: "succeed" }))
      // It would have taken it with the next look.
      const { message, reasons, status } = yield* eventually(
        ordinary.jobs.explain(id),
        (found) => found.reasons.length > 0 && found.reasons[0]?._tag !== "NoNode"
      )
      assert.deepStrictEqual(
        [status, reasons],
        ["waiting", [{ _tag: "NotBroadcast", queue: "default", nodes: ["one"] }]]
      )
      assert.match(message, /and one, which would take it, has it as an ordinary one/)
      yield* everywhere.add(here("all"))
      yield* copiesIn(ordinary, id, "completed", 1)
      assert.deepStrictEqual(ran, ["all"])
      yield* eventually(
        Effect.sync(() => told),
        (lines) => lines.some((line) => line.startsWith('The node one has "default" as an ordinary queue'))
      )
      yield* everywhere.stop
      const next = yield* ordinary.run(Work.enqueue({ does: "succeed" }))
      yield* reaches(ordinary, next.id, "completed")
      assert.deepStrictEqual(ran, ["all", "ordinary"])
    })
  )

  onDatabase(
    "makes one copy for each of many nodes that come upon a job at the same moment, encrypted as the job is",
    () =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        const workers = Work.toLayer((_, job) =>
          Effect.sync(() => {
            seen.push(job.id)
            return "done"
          })
        )
        const sql = yield* SqlClient.SqlClient
        const database = yield* TestDatabase
        const client = Layer.mergeAll(
          database.layerClient({ maxConnections: 12 }),
          Cipher.layerAesGcm({ keys: [{ id: "k1", key: Redacted.make(new Uint8Array(32).fill(7)) }] })
        )
        const nodes = yield* Effect.all(
          Array.from({ length: 5 }, (_, n) => startNode({ workers, client, config: { ...config, nodeName: `n${n}` } })),
          { concurrency: "unbounded" }
        )
        const enqueued = yield* Effect.all(
          nodes.map(({ run }) =>
            run(Work.enqueueAll(Array.from({ length: 40 }, () => ({ does: "succeed" as const }))))
          ),
          { concurrency: "unbounded" }
        )
        const jobs = enqueued.flat()
        for (const { id } of jobs) {
          const copies = yield* copiesIn(nodes[0] as Node, id, "completed", 5)
          assert.strictEqual(new Set(copies.map((copy) => copy.node)).size, 5)
          assert.strictEqual(copies.length, 5)
        }
        assert.strictEqual(seen.length, 1000)
        assert.strictEqual(new Set(seen).size, 1000)
        const clear = yield* sql`SELECT FROM shigoto.all_jobs WHERE args::text LIKE '%succeed%'`
        assert.strictEqual(clear.length, 0)
      })
  )
})
