import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { type Node, onDatabase, startNode, tally } from "./support.ts"

const Busy = Job.make("busy")

describe("the event loop", () => {
  onDatabase("a block of more than a quarter of the lease is warned about", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const node = yield* startNode({
        workers: Busy.toLayer(() =>
          Effect.sync(() => {
            const until = performance.now() + 2000
            while (performance.now() < until);
          })
        ),
        config: { leaseTtl: "3 seconds", leaseBeat: "100 millis" }
      }).pipe(Effect.provideContext(yield* Layer.build(logger)))
      const { id } = yield* node.run(Busy.enqueue({}))
      yield* node.event("Completed", id)
      const warned = yield* eventually(
        Effect.sync(() => lines),
        (all) => all.some((line) => line.includes("event loop was blocked"))
      )
      assert.isTrue(warned.some((line) => line.includes("3000 ms the node loses its lease")))
    })
  )
})

const Doomed = Job.make("doomed", { args: { n: Schema.Number }, maxAttempts: 1 })

/** Enqueues a job and leaves it in the hands of a node that is dead. */
const orphan = Effect.fnUntraced(function* (node: Node, n: number) {
  const sql = yield* SqlClient.SqlClient
  const { id } = yield* node.run(Doomed.enqueue({ n }, { queue: "elsewhere" }))
  const [dead] = yield* sql<{ readonly id: number }>`
    INSERT INTO shigoto.nodes (name, started_at, beat_at, expires_at, ttl_millis)
    VALUES ('dead', now(), now(), now() - interval '1 second', 1000)
    RETURNING id`
  yield* sql`
    UPDATE shigoto.jobs
    SET state = 'executing', attempt = 1, epoch = 1, claimed_by = ${dead?.id ?? 0}, claimed_at = now()
    WHERE id = ${id}`
  return id
})

const untold = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return (yield* sql`SELECT FROM shigoto.discards`).length
})

describe("a rescue", () => {
  onDatabase("that gives a job up tells its worker, with the failure", () =>
    Effect.gen(function* () {
      const told = yield* Deferred.make<readonly [Option.Option<{ readonly n: number }>, ReadonlyArray<string>]>()
      const node = yield* startNode({
        workers: Doomed.toLayer(() => Effect.void, {
          onDiscard: ({ args, errors }) =>
            Effect.asVoid(Deferred.succeed(told, [args, errors.map((error) => error.tag)] as const))
        })
      })
      yield* orphan(node, 7)
      assert.deepStrictEqual(yield* Deferred.await(told), [Option.some({ n: 7 }), ["LeaseExpired"]])
      yield* eventually(untold, (count) => count === 0)
    })
  )

  onDatabase("by a node that lacks the worker tells the next that has it, also where nothing is kept of the job", () =>
    Effect.gen(function* () {
      const retention = { discarded: 0 } as const
      const stranger = yield* startNode({ config: { retention } })
      const id = yield* orphan(stranger, 7)
      yield* stranger.event("Discarded", id)
      assert.strictEqual((yield* Effect.flip(stranger.jobs.get(id)))._tag, "JobNotFound")
      const told: Array<unknown> = []
      yield* startNode({
        workers: Doomed.toLayer(() => Effect.void, {
          onDiscard: ({ args, errors, job }) =>
            Effect.sync(() => told.push([job.id, job.attempt, Option.getOrThrow(args).n, errors.map(({ tag }) => tag)]))
        }),
        config: { retention }
      })
      yield* eventually(untold, (count) => count === 0)
      assert.deepStrictEqual(told, [[id, 1, 7, ["LeaseExpired"]]])
    })
  )

  onDatabase("tells again where the teller died before it was done", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const begun = yield* Deferred.make<void>()
      const first = yield* startNode({
        workers: Doomed.toLayer(() => Effect.void, {
          onDiscard: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
        }),
        // A lease that is taken away stays away for as long as this test takes.
        config: { leaseTtl: "1 minute", leaseBeat: "20 seconds", interruptGrace: "50 millis" }
      })
      const id = yield* orphan(first, 7)
      yield* Deferred.await(begun)
      const told: Array<unknown> = []
      yield* startNode({
        workers: Doomed.toLayer(() => Effect.void, {
          onDiscard: ({ job }) => Effect.sync(() => told.push(job.id))
        })
      })
      assert.strictEqual(yield* untold, 1)
      yield* sql`UPDATE shigoto.nodes SET expires_at = '-infinity' WHERE expires_at > now() + interval '30 seconds'`
      yield* eventually(untold, (count) => count === 0)
      assert.deepStrictEqual(told, [id])
    })
  )
})

describe("a stop", () => {
  onDatabase("waits until workers have been told of what was discarded", () =>
    Effect.gen(function* () {
      let told = false
      const node = yield* startNode({
        workers: Doomed.toLayer(() => Job.discard("no"), {
          onDiscard: () =>
            Effect.andThen(
              Effect.sleep("100 millis"),
              Effect.sync(() => void (told = true))
            )
        }),
        // As long as that it waits.
        config: { interruptGrace: "20 seconds" }
      })
      const { id } = yield* node.run(Doomed.enqueue({ n: 1 }))
      yield* node.event("Discarded", id)
      yield* node.stop
      assert.isTrue(told)
      assert.strictEqual(yield* untold, 0)
    })
  )

  onDatabase("does not lose what it was about to tell as it was told to stop", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      const holder = yield* database.makeClient({ maxConnections: 1 })
      yield* sql`CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$`
      yield* sql`CREATE TRIGGER pause BEFORE UPDATE ON shigoto.discards FOR EACH STATEMENT EXECUTE FUNCTION pause()`
      const taking = sql`
        SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()`
      let told = false
      const go = yield* Deferred.make<void>()
      const node = yield* startNode({
        workers: Layer.mergeAll(
          Doomed.toLayer(() => Job.discard("no"), { onDiscard: () => Effect.sync(() => void (told = true)) }),
          Busy.toLayer(() => Deferred.await(go))
        ),
        config: { interruptGrace: "20 seconds", queryTimeout: "20 seconds" }
      })
      const stopping = yield* holder.withTransaction(
        Effect.gen(function* () {
          yield* holder`SELECT pg_advisory_xact_lock(7)`
          yield* node.run(Busy.enqueue({}))
          yield* node.run(Doomed.enqueue({ n: 1 }))
          // It waits for what it is to tell.
          yield* eventually(taking, (rows) => rows.length === 1)
          const stopping = yield* Effect.forkScoped(node.stop, { startImmediately: true })
          // The last outcome is settled: all that is left is to tell.
          yield* Deferred.succeed(go, undefined)
          yield* eventually(tally, ({ completed }) => completed === 1)
          return stopping
        })
      )
      yield* Fiber.join(stopping)
      assert.isTrue(told)
      assert.strictEqual(yield* untold, 0)
    })
  )
})
