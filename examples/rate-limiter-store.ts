/**
 * Effect's own rate limiter and circuit breaker, kept in PostgreSQL: shared by all processes, in jobs and outside.
 *
 *     node --conditions=source examples/rate-limiter-store.ts
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Data, Effect, Layer, Redacted } from "effect"
import { CircuitBreaker, RateLimiter } from "effect/persistence"
import { CircuitBreakerStore, RateLimiterStore, ShigotoConfig } from "effect-shigoto"
import { EmbeddedPostgres } from "effect-shigoto/embedded"

class Unavailable extends Data.TaggedError("Unavailable") {}

// Whatever needs a limiter or a breaker asks for Effect's services and knows nothing of the database.
const login = Effect.fn("login")(function* (address: string) {
  const limiter = yield* RateLimiter.RateLimiter
  return yield* limiter.consume({ key: `login:${address}`, limit: 3, window: "1 minute" }).pipe(
    Effect.map(({ remaining }) => `allowed, ${remaining} left`),
    Effect.catchReason("RateLimiterError", "RateLimitExceeded", () => Effect.succeed("too many attempts"))
  )
})

const quote = Effect.fn("quote")(function* (symbol: string) {
  const breaker = yield* CircuitBreaker.CircuitBreaker
  return yield* breaker.execute(Effect.fail(new Unavailable()), { key: `quotes:${symbol}` }).pipe(
    Effect.catchTag("Unavailable", () => Effect.succeed("the service is down")),
    Effect.catchReason("CircuitBreakerError", "CircuitOpen", () => Effect.succeed("not asked, the circuit is open"))
  )
})

const url = process.env["DATABASE_URL"]
const StoresLive = Layer.mergeAll(
  RateLimiter.layer.pipe(Layer.provide(RateLimiterStore.layer())),
  CircuitBreaker.layer({ tripPolicy: CircuitBreaker.consecutive(2), openDuration: "30 seconds" }).pipe(
    Layer.provide(CircuitBreakerStore.layer())
  )
).pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(url === undefined ? EmbeddedPostgres.layer() : PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function* () {
  for (let i = 0; i < 4; i++) yield* Effect.log(`Login: ${yield* login("ada@example.com")}`)
  for (let i = 0; i < 3; i++) yield* Effect.log(`Quote: ${yield* quote("ACME")}`)
})

NodeRuntime.runMain(Effect.provide(program, StoresLive))
