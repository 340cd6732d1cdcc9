import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as CircuitBreakerStore from "../../src/CircuitBreakerStore.ts"
import * as RateLimiterStore from "../../src/RateLimiterStore.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase, type TestDatabaseOptions } from "../setup/TestDatabase.ts"
import { onDatabase } from "./support.ts"

/** The stores as a process of its own would have them. */
const process = Effect.fnUntraced(function* (
  options: CircuitBreakerStore.Options & { readonly timeSource?: "clock" } = {}
) {
  const database = yield* TestDatabase
  const { timeSource, ...rest } = options
  const context = yield* Layer.build(
    Layer.fresh(
      Layer.mergeAll(
        RateLimiter.layer.pipe(Layer.provideMerge(RateLimiterStore.layer())),
        CircuitBreakerStore.layer(rest)
      ).pipe(
        Layer.provide(ShigotoConfig.layer({ timeSource, queryTimeout: "5 seconds" })),
        Layer.provide(database.layerClient())
      )
    )
  )
  return {
    limiter: Context.get(context, RateLimiter.RateLimiter),
    rates: Context.get(context, RateLimiter.RateLimiterStore),
    circuits: Context.get(context, CircuitBreaker.CircuitBreakerStore),
    breaker: (policy: Parameters<typeof CircuitBreaker.make>[0]) =>
      Effect.provideContext(CircuitBreaker.make(policy), context)
  }
})

/** A test in virtual time: the instants are those of the test's clock. */
const inVirtualTime = (name: string, body: () => Effect.Effect<void, unknown, TestDatabase | Scope.Scope>): void =>
  it.effect(name, () => Effect.scoped(Effect.suspend(body)).pipe(Effect.provide(TestDatabase.layer())))

const exceeded = (error: RateLimiter.RateLimiterError) =>
  error.reason._tag === "RateLimitExceeded" ? error.reason : assert.fail(error.reason._tag)

describe("rate limiters on PostgreSQL", () => {
  for (const isolation of [undefined, "repeatable read", "serializable"] as const) {
    const options: TestDatabaseOptions = isolation === undefined ? {} : { isolation }
    onDatabase(
      `are exact over processes, where the database's default is ${isolation ?? "read committed"}`,
      () =>
        Effect.gen(function* () {
          const all = yield* Effect.all([process(), process(), process()])
          for (const algorithm of ["fixed-window", "token-bucket"] as const) {
            const consume = { algorithm, key: algorithm, limit: 50, window: "1 hour" } as const
            const exits = yield* Effect.forEach(
              Array.from({ length: 150 }, (_, i) => all[i % 3]),
              (each) => Effect.exit(each?.limiter.consume(consume) ?? Effect.die("no process")),
              { concurrency: "unbounded" }
            )
            assert.strictEqual(exits.filter(Exit.isSuccess).length, 50)
            const left = exits.flatMap((exit) => (Exit.isSuccess(exit) ? [exit.value.remaining] : []))
            assert.deepStrictEqual(
              left.toSorted((a, b) => a - b),
              Array.from({ length: 50 }, (_, i) => i)
            )
          }
        }),
      options
    )
  }

  inVirtualTime("refill a bucket by whole tokens, and say when", () =>
    Effect.gen(function* () {
      const { limiter } = yield* process({ timeSource: "clock" })
      const options = { algorithm: "token-bucket", window: "5 minutes", limit: 5, key: "bucket" } as const
      yield* limiter.consume({ ...options, tokens: 4.5 })
      yield* TestClock.adjust("45 seconds")
      const first = exceeded(yield* Effect.flip(limiter.consume(options)))
      assert.strictEqual(Duration.toMillis(first.retryAfter), 15_000)
      yield* TestClock.adjust(14_999)
      assert.strictEqual(Duration.toMillis(exceeded(yield* Effect.flip(limiter.consume(options))).retryAfter), 1)
      yield* TestClock.adjust(1)
      const allowed = yield* limiter.consume(options)
      assert.deepStrictEqual([allowed.remaining, allowed.delay], [0.5, Duration.zero])
      const delayed = yield* limiter.consume({ ...options, onExceeded: "delay", tokens: 2 })
      assert.deepStrictEqual([delayed.remaining, Duration.toMillis(delayed.delay)], [-1.5, 120_000])
    })
  )

  inVirtualTime("count in fixed windows, and learn from a 429", () =>
    Effect.gen(function* () {
      const { limiter } = yield* process({ timeSource: "clock" })
      const options = { window: "1 minute", limit: 5, key: "window" } as const
      yield* Effect.forEach([5, 4, 3, 2, 1], (left) =>
        Effect.map(limiter.consume(options), ({ remaining }) => assert.strictEqual(remaining, left - 1))
      )
      assert.strictEqual(Duration.toMillis(exceeded(yield* Effect.flip(limiter.consume(options))).retryAfter), 60_000)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* limiter.consume(options)).remaining, 4)

      const adaptive = { key: "api", tokens: 1, fallbackLimit: 10, fallbackWindow: Duration.seconds(10) }
      assert.strictEqual((yield* limiter.adaptiveConsume(adaptive)).phase, "inactive")
      const feedback = { key: "api", epoch: 0, tokens: 1, status: 429, retryAfter: Duration.seconds(5) }
      yield* limiter.adaptiveFeedback(feedback)
      const cooling = yield* limiter.adaptiveConsume(adaptive)
      assert.deepStrictEqual([cooling.phase, Duration.toMillis(cooling.delay)], ["cooldown", 5000])
      yield* TestClock.adjust("5 seconds")
      const learning = yield* Effect.all([1, 2, 3].map(() => limiter.adaptiveConsume(adaptive)))
      assert.deepStrictEqual(
        learning.map(({ epoch, phase }) => [phase, epoch]),
        [1, 2, 3].map(() => ["learning", 1])
      )
      yield* limiter.adaptiveFeedback({ ...feedback, epoch: 1 })
      const learned = yield* limiter.adaptiveConsume(adaptive)
      assert.deepStrictEqual([learned.phase, Duration.toMillis(learned.delay)], ["learned", 5000])
    })
  )

  onDatabase("keep what was consumed inside a transaction that rolls back, and do not wait for it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { limiter } = yield* process()
      const options = { key: "k", limit: 10, window: "1 hour" } as const
      yield* Effect.exit(sql.withTransaction(Effect.andThen(limiter.consume(options), Effect.fail("rolled back"))))
      assert.strictEqual((yield* limiter.consume(options)).remaining, 8)
    })
  )

  onDatabase("keep keys apart that a database could not, and refuse what they cannot keep, with its name", () =>
    Effect.gen(function* () {
      const { limiter, rates } = yield* process()
      const keys = ["a\u0000", "a\ud800", "a\udfff", "a", '"a"', "ä".repeat(490)]
      for (const key of keys) {
        assert.strictEqual((yield* limiter.consume({ key, limit: 5, window: "1 hour" })).remaining, 4)
      }
      const bucket = { key: "k", tokens: 1, limit: 5, refillRate: Duration.seconds(1), allowOverflow: true }
      const refusals = yield* Effect.all([
        Effect.flip(limiter.consume({ key: "k".repeat(1001), limit: 5, window: "1 hour" })),
        Effect.flip(rates.tokenBucket({ ...bucket, tokens: Number.NaN })),
        Effect.flip(rates.tokenBucket({ ...bucket, tokens: -1 })),
        Effect.flip(rates.tokenBucket({ ...bucket, limit: Infinity })),
        Effect.flip(rates.fixedWindow({ ...bucket, refillRate: Duration.infinity }))
      ])
      assert.deepStrictEqual(
        refusals.map((error) => [error.reason._tag, error.message.split(" ")[0]]),
        ["key", "tokens", "tokens", "limit", "refillRate"].map((field) => ["RateLimitStoreError", field])
      )
    })
  )

  onDatabase("fail while the database cannot be asked, and forget what says nothing any more", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { limiter } = yield* process()
      yield* limiter.consume({ key: "short", limit: 5, window: 10 })
      yield* limiter.consume({ key: "long", limit: 5, window: "1 day" })
      yield* sql`UPDATE shigoto.cells SET idle_at = idle_at - interval '2 minutes'`
      yield* process()
      const names = yield* eventually(
        Effect.map(sql<{ readonly name: string }>`SELECT name FROM shigoto.cells`, (rows) =>
          rows.map(({ name }) => name)
        ),
        (left) => left.length === 1
      )
      assert.deepStrictEqual(names, ["rate-limiter.window:long"])
      yield* sql`ALTER TABLE shigoto.cells RENAME TO hidden`
      const error = yield* Effect.flip(limiter.consume({ key: "long", limit: 5, window: "1 day" }))
      assert.strictEqual(error.reason._tag, "RateLimitStoreError")
    })
  )
})

describe("circuit breakers on PostgreSQL", () => {
  onDatabase("are one circuit over processes: open for all, one probe at a time, closed for all", () =>
    Effect.gen(function* () {
      const policy = { tripPolicy: CircuitBreaker.consecutive(4), openDuration: "200 millis" } as const
      const [a, b] = [yield* (yield* process()).breaker(policy), yield* (yield* process()).breaker(policy)]
      const guard = { key: "payments" }
      for (const breaker of [a, b, a, b]) yield* Effect.flip(breaker.execute(Effect.fail("down"), guard))
      for (const breaker of [a, b]) {
        const error = yield* Effect.flip(breaker.execute(Effect.void, guard))
        assert.strictEqual(error.reason._tag, "CircuitOpen")
        assert.strictEqual((yield* breaker.state("payments"))._tag, "Open")
      }
      const probing = Latch.makeUnsafe(false)
      const done = Latch.makeUnsafe(false)
      const probe = Effect.andThen(
        Effect.sync(() => probing.openUnsafe()),
        done.await
      )
      const started = yield* eventually(
        Effect.gen(function* () {
          const fiber = yield* Effect.forkScoped(a.execute(probe, guard), { startImmediately: true })
          yield* Effect.raceFirst(probing.await, Effect.ignore(Fiber.await(fiber)))
          return { fiber, open: fiber.pollUnsafe() === undefined }
        }),
        ({ open }) => open
      )
      const refused = yield* Effect.flip(b.execute(Effect.void, guard))
      assert.strictEqual(refused.reason._tag, "CircuitHalfOpen")
      done.openUnsafe()
      yield* Fiber.join(started.fiber)
      assert.strictEqual((yield* b.state("payments"))._tag, "Closed")
      yield* b.execute(Effect.void, guard)
    })
  )

  inVirtualTime("hold a probe's place while it runs, and give it on when it shows no sign of life", () =>
    Effect.gen(function* () {
      const options = { timeSource: "clock", probeLease: "9 seconds" } as const
      const [a, b] = [yield* process(options), yield* process(options)]
      const record = (generation: number, outcome: "Success" | "Failure") =>
        b.circuits.record({
          key: "k",
          generation,
          outcome,
          tripPolicy: CircuitBreaker.consecutive(1),
          openFor: Duration.seconds(1)
        })
      const first = yield* Effect.scoped(a.circuits.admit("k"))
      assert.deepInclude(yield* record(first.generation, "Failure"), { from: "Closed", to: "Open" })
      yield* TestClock.adjust("1 second")
      const running = yield* Scope.make()
      const probe = yield* Scope.provide(a.circuits.admit("k"), running)
      assert.isTrue(probe.probe)
      const sql = yield* (yield* TestDatabase).makeClient()
      const leaseUntil = Effect.map(
        sql<{ readonly until: number }>`SELECT (value ->> 'leaseUntil')::float8 AS until FROM shigoto.cells`,
        ([row]) => row?.until ?? 0
      )
      for (let i = 0; i < 6; i++) {
        const before = yield* leaseUntil
        yield* TestClock.adjust("3 seconds")
        yield* eventually(leaseUntil, (until) => until > before)
      }
      // Twice its lease has passed, and it still has its place.
      const busy = yield* Effect.flip(Effect.scoped(b.circuits.admit("k")))
      assert.strictEqual(busy.reason._tag, "CircuitHalfOpen")
      yield* Scope.close(running, Exit.void)
      yield* TestClock.adjust("9 seconds")
      const next = yield* Effect.scoped(b.circuits.admit("k"))
      assert.isTrue(next.probe)
      assert.isUndefined(yield* record(probe.generation, "Failure"))
      assert.deepInclude(yield* record(next.generation, "Success"), { from: "HalfOpen", to: "Closed" })
    })
  )

  onDatabase("say that the database cannot be asked, and refuse what cannot be used, with its name", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { circuits } = yield* process()
      for (const field of ["probeLease", "idleTimeToLive"]) {
        const error = yield* Effect.flip(process({ [field]: "0 seconds" }))
        assert.deepInclude(error, { _tag: "InvalidConfig", field })
      }
      const long = yield* Effect.flip(Effect.scoped(circuits.admit("k".repeat(1001))))
      assert.match(long.message, /^key cannot be /)
      const record = { key: "k", generation: 1, outcome: "Failure", tripPolicy: CircuitBreaker.consecutive(1) } as const
      const endless = yield* Effect.flip(circuits.record({ ...record, openFor: Duration.infinity }))
      assert.match(endless.message, /^openFor cannot be Infinity/)
      yield* sql`ALTER TABLE shigoto.cells RENAME TO hidden`
      const error = yield* Effect.flip(Effect.scoped(circuits.admit("k")))
      assert.strictEqual(error.reason._tag, "CircuitBreakerStoreError")
    })
  )
})
