import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { CurrentJob } from "../src/CurrentJob.ts"
import * as Job from "../src/Job.ts"
import { Jobs } from "../src/Jobs.ts"
import * as Middleware from "../src/Middleware.ts"
import { ShigotoTest } from "../src/testing/index.ts"

class Refused extends Schema.TaggedError<Refused>("Refused")("Refused", { why: Schema.String }) {}

class Tenant extends Context.Service<Tenant, { readonly name: string }>()("Tenant") {}

const Add = Job.make("add", {
  args: { a: Schema.Finite, b: Schema.Finite },
  success: Schema.Finite,
  error: Refused,
  maxAttempts: 1
})

/** Notes where it is on its way in and out. */
const note =
  (name: string, log: Array<string>) =>
  <A, E>(_job: unknown, next: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      log.push(`> ${name}`)
      return Effect.ensuring(
        next,
        Effect.sync(() => log.push(`< ${name}`))
      )
    })

const layerPerform = <R>(worker: Layer.Layer<never, never, R>) => Layer.provideMerge(worker, ShigotoTest.layerPerform)

describe("middleware", () => {
  it.effect("runs global ones outside of a worker's own, each in the order given", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const worker = Add.toLayer(
        ({ a, b }) =>
          Effect.sync(() => {
            log.push("handler")
            return a + b
          }),
        { middleware: [note("own 1", log), note("own 2", log)] }
      )
      const layer = worker.pipe(
        Layer.provide(Middleware.layer(note("inner", log))),
        Layer.provide(Middleware.layer(note("outer 1", log), note("outer 2", log))),
        layerPerform
      )
      const result = yield* Effect.provide(ShigotoTest.perform(Add, { a: 1, b: 2 }), layer)
      assert.strictEqual(result, 3)
      const names = ["outer 1", "outer 2", "inner", "own 1", "own 2"]
      assert.deepStrictEqual(log, [
        ...names.map((name) => `> ${name}`),
        "handler",
        ...names.toReversed().map((name) => `< ${name}`)
      ])
    })
  )

  it.effect("may answer in the handler's place, change its answer, or run it again", () =>
    Effect.gen(function* () {
      let runs = 0
      const perform = (middleware: Middleware.Middleware<number, Refused | Job.Signal>) => {
        const worker = Add.toLayer(
          () =>
            Effect.suspend(() => (++runs % 2 === 1 ? Effect.fail(new Refused({ why: "odd" })) : Effect.succeed(runs))),
          { middleware: [middleware] }
        )
        return Effect.exit(Effect.provide(ShigotoTest.perform(Add, { a: 1, b: 2 }), layerPerform(worker)))
      }
      assert.deepStrictEqual(yield* perform(() => Effect.succeed(42)), Exit.succeed(42))
      assert.strictEqual(runs, 0)
      assert.deepStrictEqual(yield* perform((_, next) => Effect.retry(next, { times: 1 })), Exit.succeed(2))
      const mapped = yield* perform((_, next) =>
        Effect.catchTag(next, "Refused", ({ why }) => Effect.fail(new Refused({ why: `very ${why}` })))
      )
      assert.deepStrictEqual(mapped, Exit.fail(new Refused({ why: "very odd" })))
    })
  )

  it.effect("is checked like a handler: an answer that does not fit, a throw", () =>
    Effect.gen(function* () {
      const perform = (middleware: Middleware.Middleware<unknown, unknown>) =>
        ShigotoTest.perform(Add, { a: 1, b: 2 }).pipe(
          Effect.provide(
            layerPerform(
              Layer.provide(
                Add.toLayer(() => Effect.succeed(1)),
                Middleware.layer(middleware)
              )
            )
          ),
          Effect.flip
        )
      const unfit = yield* perform(() => Effect.succeed("three"))
      assert.propertyVal(unfit, "_tag", "ResultEncodeError")
      const thrown = yield* perform(() => {
        throw new Error("at once")
      })
      assert.propertyVal(thrown, "_tag", "AttemptDefect")
    })
  )

  it.effect("has services of its own, and leaves the handler's as they are", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const see = <A, E>(_job: unknown, next: Effect.Effect<A, E>): Effect.Effect<A, E, Tenant | CurrentJob> =>
        Effect.gen(function* () {
          const { worker } = yield* CurrentJob
          seen.push(`${worker} by ${(yield* Tenant).name}`)
          yield* Effect.addFinalizer(() => Effect.sync(() => seen.push("closed")))
          return yield* next
        }).pipe(Effect.scoped)
      const worker = Add.toLayer(() =>
        Effect.map(Tenant, ({ name }) => {
          seen.push(`handler by ${name}`)
          return 1
        })
      )
      const layer = worker.pipe(
        Layer.provide(Layer.succeed(Tenant, { name: "inner" })),
        Layer.provide(Middleware.layer(see).pipe(Layer.provide(Layer.succeed(Tenant, { name: "outer" })))),
        layerPerform
      )
      yield* Effect.provide(ShigotoTest.perform(Add, { a: 1, b: 2 }), layer)
      assert.deepStrictEqual(seen, ["add by outer", "handler by inner", "closed"])
    })
  )

  it.effect("may give the handler another service, and a scope that ends with the attempt", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const give = <A, E>(job: { readonly id: number }, next: Effect.Effect<A, E>) =>
        Effect.andThen(
          Effect.addFinalizer(() => Effect.sync(() => seen.push("closed"))),
          Effect.provideService(next, Tenant, { name: `tenant ${job.id}` })
        )
      const worker = Add.toLayer(() =>
        Effect.map(Tenant, ({ name }) => {
          seen.push(name)
          return 1
        })
      )
      const base = Layer.succeed(Tenant, { name: "base" })
      const layer = worker.pipe(Layer.provide(Middleware.layer(give)), Layer.provide(base), layerPerform)
      yield* Effect.provide(
        Effect.andThen(
          ShigotoTest.perform(Add, { a: 1, b: 2 }),
          Effect.sync(() => seen.push("after"))
        ),
        layer
      )
      assert.deepStrictEqual(seen, ["tenant 1", "closed", "after"])
    })
  )

  it.effect("may snooze, discard and cancel in the handler's place", () => {
    let calls = 0
    const ways: Middleware.Middleware<number, Refused | Job.Signal> = (job, next) => {
      switch (job.meta["way"]) {
        case "snooze":
          return job.snoozes === 0 ? Job.snooze("1 hour") : next
        case "discard":
          return Job.discard("not today")
        case "cancel":
          return Job.cancel("called off")
        default:
          return next
      }
    }
    const worker = Add.toLayer(({ a, b }) => Effect.sync(() => (calls++, a + b)), { middleware: [ways] })
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      const enqueue = (way: string) => Add.enqueue({ a: 1, b: 2 }, { meta: { way } })
      const [snoozed, discarded, cancelled] = [
        yield* enqueue("snooze"),
        yield* enqueue("discard"),
        yield* enqueue("cancel")
      ]
      yield* ShigotoTest.advance("1 minute")
      assert.strictEqual((yield* jobs.get(snoozed.id)).state, "scheduled")
      assert.strictEqual((yield* jobs.get(discarded.id)).errors[0]?.message, "not today")
      assert.strictEqual((yield* jobs.get(cancelled.id)).cancelReason, "called off")
      assert.strictEqual(calls, 0)
      yield* ShigotoTest.advance("1 hour")
      const done = yield* jobs.get(snoozed.id)
      assert.deepStrictEqual([done.state, done.result, done.snoozes, calls], ["completed", 3, 1, 1])
    }).pipe(Effect.provide(Layer.provideMerge(worker, ShigotoTest.layer())))
  })

  it.effect("has some of its own, which log, measure and trace how attempts end and quote nothing", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const ways: ReadonlyArray<readonly [string, Effect.Effect<number, Refused | Job.Signal>, RegExp]> = [
        ["completed", Effect.succeed(1), /^The attempt completed after /],
        ["failed", Effect.fail(new Refused({ why: "canary" })), /^The attempt failed with Refused after /],
        ["failed", Effect.die(new TypeError("canary")), /^The attempt failed with TypeError after /],
        ["discarded", Job.discard("canary"), /^The attempt gave its job up after /],
        ["cancelled", Job.cancel("canary"), /^The attempt called its job off after /],
        ["snoozed", Job.snooze("1 hour"), /^The attempt snoozed after /],
        ["interrupted", Effect.interrupt, /^The attempt was interrupted after /]
      ]
      for (const [, way, line] of ways) {
        const late: Middleware.Middleware<unknown, unknown> = (_, next) => Effect.withTracer(next, tracer)
        const worker = Add.toLayer(() => way).pipe(
          Layer.provide(Middleware.layer(late, Middleware.tracing(), Middleware.logging, Middleware.metrics)),
          layerPerform
        )
        yield* Effect.exit(Effect.provide(ShigotoTest.perform(Add, { a: 1, b: 2 }), worker)).pipe(
          Effect.provide(Logger.layer([Logger.make(({ message }) => logged.push(String(message)))]))
        )
        assert.match(logged.at(-1) ?? "", line)
      }
      assert.strictEqual(spans.filter(({ name }) => name === "process default").length, ways.length)
      const measured = (yield* Metric.snapshot).filter(({ id }) => id === "shigoto_handler_seconds")
      assert.sameMembers(
        measured.map(({ attributes }) => attributes?.["end"]),
        ["completed", "failed", "discarded", "cancelled", "snoozed", "interrupted"]
      )
      assert.notInclude(logged.join(), "canary")
    })
  )

  it("asks in its layer's type for what it needs", () => {
    const needs = <A, E>(_job: unknown, next: Effect.Effect<A, E>): Effect.Effect<A, E, Tenant> =>
      Effect.andThen(Tenant, next)
    const free = <A, E>(_job: unknown, next: Effect.Effect<A, E>): Effect.Effect<A, E> => next
    const global: Layer.Layer<never, never, Tenant> = Middleware.layer(free, needs)
    const own = Add.toLayer(() => Effect.succeed(1), { middleware: [free, needs] })
    // @ts-expect-error A worker whose middleware needs a service needs it as well.
    const without: Layer.Layer<never, never, never> = Layer.provide(own, ShigotoTest.layerPerform)
    // @ts-expect-error A worker's middleware answers with what the job returns.
    const wrong = Add.toLayer(() => Effect.succeed(1), { middleware: [() => Effect.succeed("three")] })
    assert.isTrue([global, own, without, wrong].every(Layer.isLayer))
  })
})
