import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { eventually } from "../setup/eventually.ts"
import type { TestDatabase } from "../setup/TestDatabase.ts"
import { Work } from "./fixtures/jobs.ts"
import { diary, makeDiary, onDatabase, reaches, startNode, startProcess, tally } from "./support.ts"

/** Only enqueues, looks and rescues: the work is done by processes. */
const startObserver = () => startNode({ config: { queues: { unused: 1 } } })

const begun = (job: number, times = 1) =>
  eventually(diary, (lines) => lines.filter((line) => line.job === job && line.what === "start").length >= times)

const shortLease = { leaseTtl: "1500 millis", leaseBeat: "300 millis" } as const

describe("worker processes", () => {
  onDatabase("kill -9: the jobs of the dead process run on another, counted and explained", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const observer = yield* startObserver()
      const first = yield* startProcess({ config: { ...shortLease, nodeName: "doomed" } })
      const { id } = yield* observer.run(Work.enqueue({ does: "linger", millis: 2500 }))
      yield* begun(id)
      first.child.kill("SIGKILL")
      const second = yield* startProcess()
      const job = yield* reaches(observer, id, "completed")
      assert.strictEqual(job.attempt, 2)
      assert.strictEqual(job.errors[0]?.tag, "LeaseExpired")
      assert.include(job.errors[0]?.message, "doomed")
      const ends = (yield* diary).filter((line) => line.what === "end")
      assert.deepStrictEqual(
        ends.map((line) => line.pid),
        [second.pid]
      )
    })
  )

  onDatabase("SIGSTOP past the lease: outcomes of the old incarnation are refused, a new one takes over", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const sql = yield* SqlClient.SqlClient
      const observer = yield* startObserver()
      const zombie = yield* startProcess({ config: shortLease })
      const { id } = yield* observer.run(Work.enqueue({ does: "deaf", millis: 800 }))
      yield* begun(id)
      const before = yield* observer.jobs.get(id)
      zombie.child.kill("SIGSTOP")
      yield* observer.event("Rescued", id)
      const second = yield* startProcess({ config: { nodeName: "healthy" } })
      yield* begun(id, 2)
      zombie.child.kill("SIGCONT")
      const job = yield* reaches(observer, id, "completed")
      assert.strictEqual(job.attempt, 2)
      assert.isAbove(job.epoch, before.epoch)
      assert.notStrictEqual(job.claimedBy, before.claimedBy)
      assert.strictEqual((yield* diary).find((line) => line.attempt === 2)?.pid, second.pid)
      // The woken process works again, under another lease.
      yield* eventually(
        sql<{ readonly id: number }>`SELECT id FROM shigoto.nodes WHERE expires_at > statement_timestamp()`,
        (rows) => rows.length === 3 && !rows.some((row) => row.id === before.claimedBy)
      )
    })
  )

  onDatabase("a job that kills its process is discarded at its last attempt; its neighbours complete", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const observer = yield* startObserver()
      const { id } = yield* observer.run(Work.enqueue({ does: "exit" }, { maxAttempts: 2 }))
      const neighbours = yield* observer.run(
        Work.enqueueAll(Array.from({ length: 10 }, () => ({ does: "succeed" as const })))
      )
      const supervise: Effect.Effect<never, never, TestDatabase | Scope.Scope> = Effect.forever(
        Effect.flatMap(Effect.exit(startProcess({ config: shortLease })), (started) =>
          started._tag === "Success" ? started.value.exit : Effect.void
        )
      )
      yield* Effect.forkScoped(supervise)
      const job = yield* reaches(observer, id, "discarded")
      assert.strictEqual(job.attempt, 2)
      assert.deepStrictEqual(
        job.errors.map((error) => error.tag),
        ["LeaseExpired", "LeaseExpired"]
      )
      // Those that crashed along twice wait as after any failure, lest they meet again; none of them is given up.
      yield* Effect.forEach(neighbours, (neighbour) => observer.jobs.get(neighbour.id)).pipe(
        Effect.map((jobs) => jobs.filter((neighbour) => neighbour.state === "retryable")),
        Effect.flatMap(Effect.forEach((neighbour) => observer.jobs.retry(neighbour.id)))
      )
      yield* eventually(tally, (counts) => counts.completed === 10)
    })
  )

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    onDatabase(`${signal}: drains, interrupts, gives back, leaves nothing executing, ends by itself`, () =>
      Effect.gen(function* () {
        yield* makeDiary
        const sql = yield* SqlClient.SqlClient
        const observer = yield* startObserver()
        const worker = yield* startProcess({
          config: {
            shutdownGrace: "1 second",
            interruptGrace: "300 millis",
            queues: { default: 3 },
            nodeName: "leaving"
          }
        })
        const short = yield* observer.run(Work.enqueue({ does: "linger", millis: 600 }))
        const long = yield* observer.run(Work.enqueue({ does: "linger", millis: 600_000 }))
        const deaf = yield* observer.run(Work.enqueue({ does: "deaf", millis: 600_000 }))
        for (const { id } of [short, long, deaf]) yield* begun(id)
        const waiting = yield* observer.run(Work.enqueue({ does: "succeed" }))
        worker.child.kill(signal)
        yield* worker.exit
        assert.strictEqual((yield* observer.jobs.get(short.id)).state, "completed")
        for (const { id } of [long, deaf]) {
          const job = yield* observer.jobs.get(id)
          assert.strictEqual(job.state, "available")
          assert.strictEqual(job.attempt, 0)
          assert.strictEqual(job.errors.length, 0)
        }
        const untouched = yield* observer.jobs.get(waiting.id)
        assert.strictEqual(untouched.state, "available")
        assert.strictEqual(untouched.attempt, 0)
        assert.isTrue((yield* diary).some((line) => line.job === long.id && line.what === "interrupted"))
        assert.strictEqual((yield* sql`SELECT FROM shigoto.nodes WHERE name = 'leaving'`).length, 0)
      })
    )
  }

  onDatabase("a loop blocked for longer than the lease loses it honestly; the job runs again", () =>
    Effect.gen(function* () {
      yield* makeDiary
      const observer = yield* startObserver()
      yield* startProcess({ config: { leaseTtl: "1 second", leaseBeat: "200 millis", nodeName: "blocked" } })
      const { id } = yield* observer.run(Work.enqueue({ does: "block", millis: 2500 }, { maxAttempts: 1 }))
      yield* observer.event("Rescued", id)
      const job = yield* reaches(observer, id, "discarded")
      assert.strictEqual(job.errors[0]?.tag, "LeaseExpired")
      // Its late success changes nothing, and the process goes on working.
      const next = yield* observer.run(Work.enqueue({ does: "succeed" }))
      yield* reaches(observer, next.id, "completed")
      assert.strictEqual((yield* observer.jobs.get(id)).state, "discarded")
    })
  )
})
