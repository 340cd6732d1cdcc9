import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Breakers from "../../src/internal/breakerCells.ts"
import * as Rates from "../../src/internal/rateCells.ts"

/** Effect's own stores, in memory, on a clock that stands still until it is told. */
const makeReference = () => {
  const time = { now: 1_700_000_000_000 }
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => time.now,
    currentTimeMillis: Effect.sync(() => time.now),
    currentTimeNanosUnsafe: () => BigInt(time.now) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(time.now) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => BigInt(time.now) * 1_000_000n,
    monotonicTimeNanos: Effect.sync(() => BigInt(time.now) * 1_000_000n),
    sleep: () => Effect.never
  }
  const run = <A, E>(effect: Effect.Effect<A, E>): Result.Result<A, E> =>
    Effect.runSync(Effect.result(Effect.provideService(effect, Clock.Clock, clock)))
  const build = <A>(layer: Layer.Layer<A>): Context.Context<A> =>
    Effect.runSync(Layer.buildWithScope(layer, Scope.makeUnsafe()))
  return { time, run, build }
}

const upTo = (maximum: number, minimum = 0) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** What is stored survives a round through JSON, as the database makes it. */
const stored = <A>(value: A): A => JSON.parse(JSON.stringify(value)) as A

describe("a rate limiter's cell", () => {
  const calls = Schema.Array(
    Schema.Struct({
      wait: upTo(1500),
      tokens: Schema.Literals([0, 0.1, 0.5, 1, 1, 2, 4.5, 7]),
      overflows: Schema.Boolean
    })
  ).check(Schema.isMinLength(20), Schema.isMaxLength(40))

  it.prop("takes from a bucket what Effect's own store takes", [calls, upTo(7, 1)], ([asked, limit]) => {
    const { build, run, time } = makeReference()
    const store = Context.get(build(RateLimiter.layerStoreMemory), RateLimiter.RateLimiterStore)
    const refillRate = Duration.millis(1000 / limit)
    let bucket: Rates.Bucket | undefined
    let idleAt = Infinity
    for (const { overflows, tokens, wait } of asked) {
      time.now += wait
      // What is stored says nothing any more from then on: without it, the answers are the same.
      if (idleAt <= time.now) bucket = undefined
      const options = { tokens, limit, allowOverflow: overflows }
      const expected = Result.getOrThrow(run(store.tokenBucket({ key: "k", refillRate, ...options })))
      const { answer, next } = Rates.takeTokens(
        bucket,
        { refillMillis: Duration.toMillis(refillRate), ...options },
        time.now
      )
      assert.deepStrictEqual(answer, expected)
      if (next === undefined) continue
      bucket = stored(next.value)
      idleAt = next.idleAt
    }
  })

  it.prop("counts in a window what Effect's own store counts", [calls, upTo(7, 1)], ([asked, limit]) => {
    const { build, run, time } = makeReference()
    const store = Context.get(build(RateLimiter.layerStoreMemory), RateLimiter.RateLimiterStore)
    const refillRate = Duration.millis(1000 / limit)
    let window: Rates.Window | undefined
    for (const { overflows, tokens, wait } of asked) {
      time.now += wait
      const options = { tokens, limit: overflows ? undefined : limit }
      const expected = Result.getOrThrow(run(store.fixedWindow({ key: "k", refillRate, ...options })))
      const { answer, next } = Rates.countTokens(
        window,
        { refillMillis: Duration.toMillis(refillRate), ...options },
        time.now
      )
      assert.deepStrictEqual(answer, expected)
      window = next === undefined ? window : stored(next.value)
    }
  })

  const talks = Schema.Array(
    Schema.Struct({
      wait: Schema.Literals([0, 10, 500, 2000, 70_000, 200_000]),
      tokens: upTo(4, 1),
      feedback: Schema.Boolean,
      status: Schema.Literals([429, 429, 200]),
      late: upTo(3),
      retryAfter: Schema.Literals([0, 100, 1000, 5000, 10_000_000])
    })
  ).check(Schema.isMinLength(40), Schema.isMaxLength(60))

  it.prop("learns from answers what Effect's own store learns", [talks], ([told]) => {
    const { build, run, time } = makeReference()
    const store = Context.get(build(RateLimiter.layerStoreMemory), RateLimiter.RateLimiterStore)
    let learned: Rates.Learned | undefined
    const epochs: Array<number> = [0]
    for (const { feedback, late, retryAfter, status, tokens, wait } of told) {
      time.now += wait
      if (feedback) {
        const options = {
          key: "k",
          // Mostly of the request before, now and then of an older one.
          epoch: epochs.at(-1 - (late === 3 ? 1 : 0)) ?? 0,
          tokens,
          status,
          retryAfter: Duration.millis(retryAfter)
        }
        run(store.adaptiveFeedback(options))
        learned = stored(Rates.hearFeedback(learned, options, time.now).next?.value ?? learned ?? null) ?? undefined
      } else {
        const options = { key: "k", tokens, fallbackLimit: 10, fallbackWindow: Duration.seconds(1) }
        const expected = Result.getOrThrow(run(store.adaptiveConsume(options)))
        const { answer, next } = Rates.consumeLearned(learned, options, time.now)
        assert.deepStrictEqual(
          [answer.epoch, answer.phase, Duration.toMillis(answer.delay)],
          [expected.epoch, expected.phase, Duration.toMillis(expected.delay)]
        )
        epochs.push(answer.epoch)
        learned = next === undefined ? learned : stored(next.value)
      }
    }
  })
})

describe("a circuit breaker's cell", () => {
  const spans = { leaseMillis: 1e12, idleMillis: 10_000 }
  const steps = Schema.Array(
    Schema.Struct({
      wait: Schema.Literals([0, 0, 0, 100, 1000, 10_000]),
      admits: Schema.Boolean,
      which: upTo(10),
      outcome: Schema.Literals(["Success", "Failure", "Failure", "Ignored"]),
      openFor: Schema.Literals([0, 500, 2000])
    })
  ).check(Schema.isMinLength(60), Schema.isMaxLength(80))
  const policies = [
    CircuitBreaker.consecutive(1),
    CircuitBreaker.consecutive(3),
    CircuitBreaker.rate({ size: 4 }),
    CircuitBreaker.rate({ size: 5, minimumCalls: 2, threshold: 0.9 })
  ]

  it.prop("does what Effect's own store does", [steps, upTo(policies.length - 1)], ([told, policy]) => {
    const { build, run, time } = makeReference()
    const store = Context.get(
      build(CircuitBreaker.layerStoreMemory({ idleTimeToLive: spans.idleMillis })),
      CircuitBreaker.CircuitBreakerStore
    )
    const tripPolicy = policies[policy] ?? CircuitBreaker.consecutive(1)
    let breaker: Breakers.Breaker | undefined
    const calls: Array<{ readonly theirs: number; readonly ours: number }> = []
    for (const { admits, openFor, outcome, wait, which } of told) {
      time.now += wait
      if (admits) {
        const expected = run(Effect.scoped(store.admit("k")))
        const { answer, next } = Breakers.admit(breaker, "k", spans, time.now)
        breaker = next === undefined ? breaker : stored(next.value)
        if (answer._tag === "Admitted") {
          const { generation: ours, ...admission } = answer.admission
          const { generation: theirs, ...theirAdmission } = Result.getOrThrow(expected)
          assert.deepStrictEqual(admission, theirAdmission)
          calls.push({ ours, theirs })
        } else {
          const { reason } = Result.getOrThrow(Result.flip(expected))
          assert.strictEqual(reason._tag, answer._tag === "Open" ? "CircuitOpen" : "CircuitHalfOpen")
          if (answer._tag === "Open" && reason._tag === "CircuitOpen") {
            assert.strictEqual(Duration.toMillis(reason.retryAfter), answer.retryMillis)
          }
        }
      } else {
        const [call] = calls.splice(which % Math.max(calls.length, 1), 1)
        if (call === undefined) continue
        const expected = run(
          store.record({ key: "k", generation: call.theirs, outcome, tripPolicy, openFor: Duration.millis(openFor) })
        )
        const { answer, next } = Breakers.record(
          breaker,
          { key: "k", generation: call.ours, outcome, tripPolicy, openForMillis: openFor },
          spans,
          time.now
        )
        breaker = next === undefined ? breaker : stored(next.value)
        assert.deepStrictEqual(answer, Result.getOrThrow(expected))
      }
      assert.deepStrictEqual(Breakers.stateOf(breaker, "k", time.now), Result.getOrThrow(run(store.state("k"))))
    }
  })

  it("gives the place of a probe that shows no sign of life to the next, whose generation is another", () => {
    const brief = { leaseMillis: 1000, idleMillis: 60_000 }
    const tripPolicy = CircuitBreaker.consecutive(1)
    const admit = (breaker: Breakers.Breaker | undefined, now: number) => Breakers.admit(breaker, "k", brief, now)
    const first = admit(undefined, 1)
    const told = { key: "k", tripPolicy, openForMillis: 0 }
    const generationOf = ({ answer }: ReturnType<typeof admit>) =>
      answer._tag === "Admitted" ? answer.admission.generation : assert.fail(answer._tag)
    const opened = Breakers.record(
      first.next?.value,
      { ...told, generation: generationOf(first), outcome: "Failure" },
      brief,
      2
    )
    const probe = admit(opened.next?.value, 3)
    assert.strictEqual(admit(probe.next?.value, 1002).answer._tag, "HalfOpen")
    const renewed = Breakers.renew(probe.next?.value, generationOf(probe), brief, 1002)
    assert.isTrue(renewed.answer)
    assert.strictEqual(admit(renewed.next?.value, 2001).answer._tag, "HalfOpen")
    const taken = admit(renewed.next?.value, 2002)
    assert.isAbove(generationOf(taken), generationOf(probe))
    assert.isFalse(Breakers.renew(taken.next?.value, generationOf(probe), brief, 2003).answer)
    const late = Breakers.record(
      taken.next?.value,
      { ...told, generation: generationOf(probe), outcome: "Failure" },
      brief,
      2004
    )
    assert.deepStrictEqual(late, { answer: undefined })
  })

  it("writes nothing for calls of a closed circuit that is used all the time", () => {
    const first = Breakers.admit(undefined, "k", spans, 1)
    assert.isUndefined(Breakers.admit(first.next?.value, "k", spans, 99).next)
    assert.isDefined(Breakers.admit(first.next?.value, "k", spans, 102).next)
  })
})
