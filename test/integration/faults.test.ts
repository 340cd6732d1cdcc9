import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Job from "../../src/Job.ts"
import type { JobEvent } from "../../src/JobEvent.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy, type Proxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, type Node, onDatabase, reaches, startNode, tally } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number }, success: Schema.Number })

const count = (node: Node, tag: JobEvent["_tag"]) => node.events.filter((event) => event._tag === tag).length

/** Words that only one statement of the library holds. */
const settleStatement = "WITH outcome AS ("
const claimStatement = "chosen AS MATERIALIZED"
const handoverStatement = "AS is_heir"

const startBehindProxy = Effect.fnUntraced(function* (options: Parameters<typeof startNode>[0]) {
  const { url } = yield* TestDatabase
  const proxy = yield* makeProxy(Redacted.value(url))
  const node = yield* startNode({
    ...options,
    client: clientOf(proxy.url),
    config: { listen: false, leaseBeat: "200 millis", queryTimeout: "500 millis", ...options?.config }
  })
  return { node, proxy }
})

describe("settling through failures", () => {
  onDatabase("a settle whose reply is lost after its commit is recognised, and told once", () =>
    Effect.gen(function* () {
      const { node, proxy } = yield* startBehindProxy({ workers: Note.toLayer(({ n }) => Effect.succeed(n)) })
      yield* node.run(Note.enqueue({ n: 0 }))
      yield* node.event("Completed")
      proxy.dropReplyOf(settleStatement)
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* node.event("Completed", id)
      assert.strictEqual(proxy.dropped(), 1)
      assert.deepStrictEqual(yield* tally, { completed: 2 })
      assert.strictEqual(count(node, "Completed"), 2)
      assert.strictEqual(count(node, "Started"), 2)
      assert.strictEqual(count(node, "LeaseLost"), 0)
      assert.strictEqual((yield* node.jobs.get(id)).result, 1)
    })
  )

  onDatabase("the same, where finished jobs are not kept", () =>
    Effect.gen(function* () {
      const { node, proxy } = yield* startBehindProxy({
        workers: Note.toLayer(({ n }) => Effect.succeed(n)),
        config: { retention: { completed: 0 } }
      })
      proxy.dropReplyOf(settleStatement)
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* node.event("Completed", id)
      assert.strictEqual(proxy.dropped(), 1)
      assert.deepStrictEqual(yield* tally, {})
      assert.strictEqual(count(node, "LeaseLost"), 0)
    })
  )

  onDatabase("a late outcome of a job that ended elsewhere is refused, also where nothing is kept of it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const retention = { completed: 0, discarded: 0, cancelled: 0 } as const
      const cutOff = yield* Deferred.make<void>()
      const { node, proxy } = yield* startBehindProxy({
        workers: Note.toLayer(({ n }) => Effect.as(Deferred.await(cutOff), n)),
        config: { retention, shutdownGrace: "500 millis" }
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* node.event("Started", id)
      proxy.blackhole()
      yield* Deferred.succeed(cutOff, undefined)
      yield* node.event("SettleRetried")
      yield* sql`UPDATE shigoto.nodes SET expires_at = '-infinity'`
      const other = yield* startNode({
        workers: Note.toLayer(({ n }) => Effect.succeed(n)),
        config: { retention }
      })
      yield* other.event("Completed", id)
      proxy.heal()
      yield* eventually(
        Effect.sync(() => count(node, "LeaseLost") + count(node, "Completed")),
        (told) => told > 0
      )
      assert.deepStrictEqual([count(node, "LeaseLost"), count(node, "Completed")], [1, 0])
      assert.deepStrictEqual(yield* tally, {})
    })
  )

  for (const statement of ["BEGIN", "COMMIT"]) {
    onDatabase(`a network that falls silent at the ${statement} of a claim keeps the node from nothing else`, () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        let isArmed = false
        let proxy: Proxy | undefined
        // From then on no byte passes on the connections there are, and nobody hears of it.
        const rewrite = (chunk: Buffer): Buffer => {
          const text = chunk.toString("latin1").replaceAll("READ COMMITTED", "")
          if (!isArmed || !text.includes(statement)) return chunk
          isArmed = false
          proxy?.freeze()
          return Buffer.alloc(0)
        }
        proxy = yield* makeProxy(Redacted.value(url), rewrite)
        const operator = yield* startNode({ config: { queues: {} } })
        const node = yield* startNode({
          // Under a limit a claim is a transaction.
          workers: Note.toLayer(({ n }) => Effect.succeed(n), { globalConcurrency: 1 }),
          client: clientOf(proxy.url),
          // Each of its connections may cost one wait: the lease outlives them.
          config: { listen: false, queryTimeout: "1 second", leaseTtl: "1 minute" }
        })
        yield* node.event("Completed", (yield* operator.run(Note.enqueue({ n: 0 }))).id)
        isArmed = true
        yield* node.event("Completed", (yield* operator.run(Note.enqueue({ n: 1 }))).id)
        assert.isFalse(isArmed)
        assert.strictEqual(count(node, "LeaseLost"), 0)
      })
    )
  }

  onDatabase("jobs of a claim whose reply is lost are given back and run, at no cost of an attempt", () =>
    Effect.gen(function* () {
      // A queue that was paused before the node came up is not claimed from, not even by a claim that was under way; so
      // the one whose reply is dropped is one that took the job.
      const operator = yield* startNode({ config: { queues: {} } })
      yield* operator.queues.pause("default")
      const { node, proxy } = yield* startBehindProxy({ workers: Note.toLayer(({ n }) => Effect.succeed(n)) })
      yield* eventually(
        Effect.sync(() => node.queues.get("default")),
        (queue) => queue?.paused === true
      )
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      proxy.dropReplyOf(claimStatement)
      yield* node.queues.resume("default")
      const job = yield* reaches(node, id, "completed")
      assert.strictEqual(proxy.dropped(), 1)
      assert.strictEqual(job.attempt, 1)
      assert.strictEqual(job.errors.length, 0)
      // Claimed, given back, claimed.
      assert.strictEqual(job.epoch, 3)
      assert.strictEqual(count(node, "Started"), 1)
    })
  )

  onDatabase("jobs of a claim whose reply is lost are given back by a stop too, at no cost of an attempt", () =>
    Effect.gen(function* () {
      const operator = yield* startNode({ config: { queues: {} } })
      yield* operator.queues.pause("default")
      // No beat looks for them before the stop.
      const { node, proxy } = yield* startBehindProxy({
        workers: Note.toLayer(({ n }) => Effect.succeed(n)),
        config: { leaseTtl: "30 seconds", leaseBeat: "10 seconds" }
      })
      yield* eventually(
        Effect.sync(() => node.queues.get("default")),
        (queue) => queue?.paused === true
      )
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      proxy.dropReplyOf(claimStatement)
      yield* node.queues.resume("default")
      yield* reaches(operator, id, "executing")
      yield* node.stop
      const job = yield* operator.jobs.get(id)
      assert.strictEqual(proxy.dropped(), 1)
      assert.deepStrictEqual([job.state, job.attempt, job.errors.length], ["available", 0, 0])
    })
  )

  onDatabase("a job whose claim was never answered, and that is to be cancelled, never starts", () =>
    Effect.gen(function* () {
      const operator = yield* startNode({ config: { queues: {} } })
      yield* operator.queues.pause("default")
      const { node, proxy } = yield* startBehindProxy({ workers: Note.toLayer(({ n }) => Effect.succeed(n)) })
      yield* eventually(
        Effect.sync(() => node.queues.get("default")),
        (queue) => queue?.paused === true
      )
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      const { id: waiting } = yield* node.run(Note.enqueue({ n: 2 }, { dependsOn: [id] }))
      proxy.dropReplyOf(claimStatement)
      yield* node.queues.resume("default")
      yield* reaches(node, id, "executing")
      assert.strictEqual((yield* operator.jobs.cancel(id, "called off"))._tag, "Requested")
      const job = yield* reaches(node, id, "completed", "cancelled")
      assert.strictEqual(proxy.dropped(), 1)
      assert.deepStrictEqual([job.state, job.attempt, job.cancelReason], ["cancelled", 0, "called off"])
      assert.strictEqual(count(node, "Started"), 0)
      assert.strictEqual((yield* node.event("Cancelled", id)).reason, "called off")
      assert.strictEqual((yield* reaches(node, waiting, "cancelled")).attempt, 0)
      yield* node.event("Cancelled", waiting)
    })
  )

  onDatabase("a settle that handed its place over, and whose reply is lost, costs no attempt and no start", () =>
    Effect.gen(function* () {
      const { node, proxy } = yield* startBehindProxy({
        workers: Note.toLayer(({ n }) => Effect.succeed(n), { globalConcurrency: 1 })
      })
      proxy.dropReplyOf(handoverStatement)
      const jobs = yield* node.run(Note.enqueueAll(Array.from({ length: 60 }, (_, n) => ({ n }))))
      for (const { id } of jobs) {
        const { attempt, errors } = yield* reaches(node, id, "completed")
        assert.deepStrictEqual([attempt, errors], [1, []])
        yield* node.event("Completed", id)
      }
      assert.strictEqual(proxy.dropped(), 1)
      assert.strictEqual(count(node, "Started"), 60)
      assert.strictEqual(count(node, "Completed"), 60)
      assert.strictEqual(count(node, "LeaseLost"), 0)
    })
  )

  onDatabase("one row that the database refuses does not take its batch along", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`ALTER TABLE shigoto.jobs_archive ADD CONSTRAINT no_seven CHECK (result IS DISTINCT FROM '7')`
      const all = yield* Deferred.make<void>()
      let waiting = 0
      let told = 0
      const node = yield* startNode({
        workers: Note.toLayer(
          ({ n }) =>
            Effect.gen(function* () {
              // All end in the same moment, so that they share a statement.
              if (++waiting === 20) yield* Deferred.succeed(all, undefined)
              yield* Deferred.await(all)
              return n
            }),
          { onDiscard: () => Effect.sync(() => told++) }
        ),
        config: { queues: { default: 20 } }
      })
      const jobs = yield* node.run(Note.enqueueAll(Array.from({ length: 20 }, (_, n) => ({ n }))))
      yield* eventually(tally, (counts) => counts.completed === 19 && counts.discarded === 1)
      const refused = yield* node.jobs.get(jobs[7]!.id)
      assert.strictEqual(refused.errors[0]?.tag, "ResultEncodeError")
      yield* eventually(
        Effect.sync(() => told),
        (times) => times === 1
      )
    })
  )

  onDatabase("terminated backends lose no outcome", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const runs = new Map<number, number>()
      const node = yield* startNode({
        workers: Note.toLayer(({ n }) =>
          Effect.as(
            Effect.sync(() => runs.set(n, (runs.get(n) ?? 0) + 1)),
            n
          )
        ),
        config: { queryTimeout: "500 millis", leaseBeat: "200 millis" }
      })
      yield* node.run(Note.enqueueAll(Array.from({ length: 2000 }, (_, n) => ({ n }))))
      const kill = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3`
      for (let round = 1; round <= 10; round++) {
        yield* eventually(tally, (counts) => (counts.completed ?? 0) >= round * 100)
        yield* kill
      }
      yield* eventually(tally, (counts) => counts.completed === 2000)
      assert.isTrue([...runs.values()].every((times) => times === 1))
      // The database knows of the last ones before their node does.
      yield* eventually(
        Effect.sync(() => count(node, "LeaseLost") + count(node, "Completed")),
        (told) => told === 2000
      )
      assert.strictEqual(count(node, "Completed"), 2000)
    })
  )

  onDatabase("a server that lets the node's role in no more, for a limit or a lost right, is waited out", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { url } = yield* TestDatabase
      const role = `guest_${crypto.randomUUID().slice(0, 8)}`
      const alter = (how: string) => sql.unsafe(`ALTER ROLE ${role} ${how}`)
      yield* Effect.acquireRelease(sql.unsafe(`CREATE ROLE ${role} LOGIN`), () =>
        Effect.orDie(Effect.andThen(sql.unsafe(`DROP OWNED BY ${role}`), sql.unsafe(`DROP ROLE ${role}`)))
      )
      yield* Layer.build(Migrations.layerRoles({ worker: role })).pipe(Effect.provide(ShigotoConfig.layer()))
      const address = new URL(Redacted.value(url))
      address.username = role
      const hold = yield* Latch.make(false)
      const node = yield* startNode({
        workers: Note.toLayer(({ n }) => Effect.as(hold.await, n)),
        client: clientOf(address.toString()),
        config: { migrate: false, leaseTtl: "30 seconds", shutdownGrace: "500 millis" }
      })
      for (const [n, shut, open] of [
        [1, "CONNECTION LIMIT 0", "CONNECTION LIMIT -1"],
        [2, "NOLOGIN", "LOGIN"]
      ] as const) {
        const { id } = yield* node.run(Note.enqueue({ n }))
        yield* node.event("Started", id)
        yield* alter(shut)
        // Until none is left: one that was let in just before is not there to be found at once.
        yield* eventually(
          sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${role}`,
          (ended) => ended.length === 0
        )
        const before = count(node, "SettleRetried")
        yield* hold.open
        yield* eventually(
          Effect.sync(() => count(node, "SettleRetried")),
          (times) => times > before
        )
        yield* hold.close
        yield* alter(open)
        yield* node.event("Completed", id)
        assert.strictEqual((yield* node.jobs.get(id)).attempt, 1)
      }
      yield* node.stop
    })
  )

  it.live("a crash of the server loses no committed job, and running attempts settle afterwards", () =>
    Effect.gen(function* () {
      const server = yield* EmbeddedPostgres.make({ durable: true })
      const client = clientOf(Redacted.value(server.url))
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const node = yield* startNode({
        client,
        workers: Note.toLayer(({ n }) =>
          n === 0
            ? Effect.andThen(Deferred.succeed(started, undefined), Effect.as(Deferred.await(release), n))
            : Effect.succeed(n)
        ),
        config: { leaseTtl: "30 seconds" }
      }).pipe(Effect.provideService(TestDatabase, unused))
      const { id } = yield* node.run(Note.enqueue({ n: 0 }))
      yield* Deferred.await(started)
      yield* server.restart("immediate")
      yield* Deferred.succeed(release, undefined)
      yield* node.event("Completed", id)
      const next = yield* eventually(Effect.exit(node.run(Note.enqueue({ n: 1 }))), (exit) => exit._tag === "Success")
      yield* reaches(node, (yield* next).id, "completed")
      assert.strictEqual((yield* node.jobs.get(id)).attempt, 1)
    })
  )
})

describe("the lease through failures", () => {
  onDatabase("a node cut off stops its fibers; its jobs run elsewhere; its outcomes are refused", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const { node, proxy } = yield* startBehindProxy({
        workers: Note.toLayer(({ n }) =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.as(Effect.never, n)).pipe(
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
        ),
        config: { leaseTtl: "1 second", nodeName: "cut-off" }
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* Deferred.await(started)
      const other = yield* startNode({ workers: Note.toLayer(({ n }) => Effect.succeed(n * 10)) })
      proxy.blackhole()
      const rescued = yield* other.event("Rescued", id)
      assert.strictEqual(rescued.node, "cut-off")
      yield* Deferred.await(interrupted)
      const job = yield* reaches(other, id, "completed")
      assert.strictEqual(job.result, 10)
      assert.strictEqual(job.attempt, 2)
      assert.strictEqual(job.errors[0]?.tag, "LeaseExpired")
      proxy.heal()
      proxy.cut()
      yield* node.event("NodeLeaseLost")
      yield* node.event("LeaseLost", id)
      assert.strictEqual(count(node, "Completed"), 0)
      assert.strictEqual((yield* node.jobs.get(id)).result, 10)
    })
  )

  onDatabase("an outcome of a job that a rescue has discarded is refused", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Note.toLayer(({ n }) =>
          Effect.andThen(
            Deferred.succeed(started, undefined),
            Effect.as(Effect.uninterruptible(Deferred.await(release)), n)
          )
        )
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }, { maxAttempts: 1 }))
      yield* Deferred.await(started)
      yield* sql`UPDATE shigoto.nodes SET expires_at = statement_timestamp() - interval '1 second'`
      yield* reaches(node, id, "discarded")
      yield* Deferred.succeed(release, undefined)
      yield* node.event("LeaseLost", id)
      assert.strictEqual(count(node, "Completed"), 0)
      assert.strictEqual((yield* node.jobs.get(id)).errors[0]?.tag, "LeaseExpired")
    })
  )

  onDatabase(
    "a job that was to be cancelled ends for that reason where its holder is gone, and who waits is told",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { node, proxy } = yield* startBehindProxy({
          workers: Note.toLayer(() => Effect.never),
          config: { shutdownGrace: "500 millis" }
        })
        const other = yield* startNode({ config: { retention: { cancelled: 0 } } })
        const waiter = yield* Effect.forkScoped(Effect.exit(other.run(Note.execute({ n: 1 }))))
        const { id } = yield* node.event("Started")
        proxy.blackhole()
        assert.strictEqual((yield* other.jobs.cancel(id, "called off"))._tag, "Requested")
        yield* sql`UPDATE shigoto.nodes SET expires_at = '-infinity' WHERE id = (
        SELECT claimed_by FROM shigoto.jobs WHERE id = ${id})`
        assert.strictEqual((yield* other.event("Cancelled", id)).reason, "called off")
        const told = yield* Effect.flip(yield* Fiber.join(waiter))
        assert.deepInclude(told, { _tag: "JobCancelled", reason: "called off" })
        proxy.heal()
        proxy.cut()
      })
  )

  onDatabase("jobs of a node whose row is gone are rescued too", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const node = yield* startNode({
        workers: Note.toLayer(({ n }) => Effect.succeed(n)),
        config: { queues: { unused: 1 }, leaseTtl: "1 second", leaseBeat: "100 millis" }
      })
      const { id } = yield* node.run(Note.enqueue({ n: 1 }))
      yield* sql`UPDATE shigoto.jobs SET state = 'executing', claimed_by = 12345, attempt = 1, epoch = 1`
      yield* node.event("Rescued", id)
    })
  )
})

// internal

/** For nodes on a server of their own. */
const unused = {} as TestDatabase["Service"]
