/** What the compiler says of definitions, producers and workers; checked by `npm run types`, never run. */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import type * as Scope from "effect/Scope"
import { expectTypeOf } from "vitest"
import * as CronJob from "../../src/CronJob.ts"
import type { CronError, CronJobs } from "../../src/CronJobs.ts"
import type { Attempt } from "../../src/CurrentJob.ts"
import * as Job from "../../src/Job.ts"
import type { AttemptFailure, JobId } from "../../src/JobRow.ts"
import type { EnqueueResult, JobResult, Jobs } from "../../src/Jobs.ts"
import type {
  AttemptError,
  AwaitError,
  EnqueueError,
  JobNotFound,
  ResultDecodeError,
  StorageFailure
} from "../../src/ShigotoError.ts"
import type { Workers } from "../../src/Workers.ts"

class Bounced extends Schema.TaggedError<Bounced>()("Bounced", { code: Schema.Int }) {}
class Mailer extends Context.Service<Mailer, { readonly send: (to: string) => Effect.Effect<string> }>()("Mailer") {}
class Audit extends Context.Service<Audit, { readonly note: (text: string) => Effect.Effect<void> }>()("Audit") {}
class Codebook extends Context.Service<Codebook, { readonly key: string }>()("Codebook") {}

const Send = Job.make("send", {
  args: {
    to: Schema.String,
    copies: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(1))),
    at: Schema.optional(Schema.DateTimeUtcFromString)
  },
  success: Schema.Struct({ messageId: Schema.String }),
  error: Bounced,
  unique: { keys: ["worker", "args.to", "args.at"] }
})
type SendArgs = { readonly to: string; readonly copies: number; readonly at?: DateTime.Utc | undefined }

export const producers = (at: DateTime.Utc) => {
  expectTypeOf(Send.name).toEqualTypeOf<"send">()
  expectTypeOf(Send.enqueue({ to: "ada", at })).toEqualTypeOf<Effect.Effect<EnqueueResult, EnqueueError, Jobs>>()
  expectTypeOf(Send.enqueueAll([{ to: "ada", copies: 2 }], (args, i) => ({ priority: i, partitionKey: args.to })))
    // In one piece: no error or requirement beside those of a single enqueue.
    .toEqualTypeOf<Effect.Effect<ReadonlyArray<EnqueueResult>, EnqueueError, Jobs>>()
  void Send.enqueue({ to: "ada" }, { unique: { keys: ["args.to"], debounce: { wait: "1 minute" } } })
  // @ts-expect-error: a field is missing
  void Send.enqueue({})
  // @ts-expect-error: another type
  void Send.enqueue({ to: 5 })
  // @ts-expect-error: what is stored is not what a producer gives
  void Send.enqueue({ to: "ada", at: "2031-01-01T00:00:00Z" })
  // @ts-expect-error: no such field
  void Send.enqueue({ to: "ada", cc: "bob" })
  // @ts-expect-error: no such option
  void Send.enqueue({ to: "ada" }, { dealy: "5 minutes" })
  // @ts-expect-error: no duration
  void Send.enqueue({ to: "ada" }, { delay: "5 minuets" })
  // @ts-expect-error: no such path
  void Send.enqueue({ to: "ada" }, { unique: { keys: ["args.nope"] } })
  // @ts-expect-error: no such path, in a definition
  Job.make("j", { args: { to: Schema.String }, unique: { keys: ["args.nope"] } })
  Job.make("j", { args: { to: Schema.Struct({ name: Schema.String }) }, unique: { keys: ["args.to.name"] } })
  // A debounce merges what handlers see.
  void Send.enqueue(
    { to: "ada" },
    {
      unique: {
        debounce: {
          wait: "1 minute",
          args: (waiting, incoming) => {
            expectTypeOf(waiting).toEqualTypeOf<SendArgs>()
            return { ...incoming, copies: waiting.copies + incoming.copies }
          }
        }
      }
    }
  )
}

export const results = (jobs: Jobs["Service"], id: JobId) => {
  expectTypeOf(Send.execute({ to: "ada" }, { priority: 1, cancelOnInterrupt: true })).toEqualTypeOf<
    Effect.Effect<{ readonly messageId: string }, Bounced | AwaitError | EnqueueError, Jobs>
  >()
  // What the schema of the result needs to decode, the waiter needs.
  const Coded = Job.make("coded", {
    success: Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((text: string) => Effect.as(Codebook, text)),
        encode: SchemaGetter.transformEffect((text: string) => Effect.as(Audit, text))
      })
    )
  })
  expectTypeOf(Coded.execute({})).toEqualTypeOf<Effect.Effect<string, AwaitError | EnqueueError, Jobs | Codebook>>()
  expectTypeOf(jobs.result(Send, id)).toEqualTypeOf<
    Effect.Effect<JobResult<{ readonly messageId: string }, Bounced>, JobNotFound | ResultDecodeError | StorageFailure>
  >()
  // @ts-expect-error: no such option
  void Send.execute({ to: "ada" }, { timeout: "1 minute" })
}

class Order extends Schema.Class<Order>("Order")({ id: Schema.Int, note: Schema.optional(Schema.String) }) {}

export const schemas = () => {
  const WithClass = Job.make("with-class", { args: Order })
  void WithClass.enqueue({ id: 1 })
  void WithClass.toLayer((order) => {
    expectTypeOf(order).toEqualTypeOf<Order>()
    return Effect.void
  })
  const WithUnion = Job.make("with-union", { args: Schema.Union([Schema.String, Schema.Int]) })
  void WithUnion.enqueue(5)
  void WithUnion.toLayer((value) => {
    expectTypeOf(value).toEqualTypeOf<string | number>()
    return Effect.void
  })
  const Bare = Job.make("bare")
  void Bare.enqueue({})
  expectTypeOf(Bare.toLayer(() => Effect.void)).toEqualTypeOf<Layer.Layer<never, never, Workers>>()

  // What a codec needs, the side that uses it needs.
  const Secret = Schema.String.pipe(
    Schema.decodeTo(Schema.String, {
      decode: SchemaGetter.transformEffect((text: string) => Effect.as(Codebook, text)),
      encode: SchemaGetter.transformEffect((text: string) => Effect.as(Audit, text))
    })
  )
  const WithServices = Job.make("with-services", { args: { secret: Secret }, success: Secret })
  expectTypeOf(WithServices.enqueue({ secret: "x" })).toEqualTypeOf<
    Effect.Effect<EnqueueResult, EnqueueError, Jobs | Audit>
  >()
  expectTypeOf(WithServices.toLayer(({ secret }) => Effect.succeed(secret))).toEqualTypeOf<
    Layer.Layer<never, never, Workers | Codebook | Audit>
  >()
}

export const workers = () => {
  const live = Send.toLayer(
    Effect.fn("Send")(function* (args, job) {
      expectTypeOf(args).toEqualTypeOf<SendArgs>()
      expectTypeOf(job).toEqualTypeOf<Attempt>()
      const mailer = yield* Mailer
      yield* Effect.addFinalizer(() => Effect.void)
      yield* Job.progress(50)
      if (job.attempt > 3) return yield* Job.discard("enough")
      if (job.attempt > 2) return yield* Job.cancel("late")
      if (job.attempt > 1) return yield* Job.snooze("10 seconds")
      if (args.copies > 9) return yield* new Bounced({ code: 550 })
      return { messageId: yield* mailer.send(args.to) }
    }),
    {
      retry: Schedule.while(
        Schedule.setInputType<Bounced | AttemptError>()(Schedule.exponential("1 second")),
        ({ input }) => {
          expectTypeOf(input).toEqualTypeOf<Bounced | AttemptError>()
          return input._tag !== "Bounced" || input.code < 500
        }
      ),
      onDiscard: ({ args, errors, job }) => {
        expectTypeOf(args).toEqualTypeOf<Option.Option<SendArgs>>()
        expectTypeOf(errors).toEqualTypeOf<ReadonlyArray<AttemptFailure>>()
        expectTypeOf(job).toEqualTypeOf<Attempt>()
        return Effect.flatMap(Audit, (audit) => audit.note("gone"))
      }
    }
  )
  // The scope and the job of an attempt are there; all else, of the hook too, is asked of the application.
  expectTypeOf(live).toEqualTypeOf<Layer.Layer<never, never, Workers | Mailer | Audit>>()
  expectTypeOf<Layer.Services<typeof live>>().not.toExtend<Scope.Scope>()

  // @ts-expect-error: another result
  Send.toLayer(() => Effect.succeed({ messageId: 5 }))
  // @ts-expect-error: no result
  Send.toLayer(() => Effect.void)
  // @ts-expect-error: an error that the definition does not declare
  Send.toLayer(() => Effect.fail(new Error("no")))
  // @ts-expect-error: no Effect
  Send.toLayer(() => ({ messageId: "x" }))
  // @ts-expect-error: a schedule of another error
  Send.toLayer(() => Job.discard("no"), { retry: Schedule.identity<string>() })
  // @ts-expect-error: a hook may not fail
  Send.toLayer(() => Job.discard("no"), { onDiscard: () => Effect.fail("no") })
  Send.toLayer((args) => {
    // @ts-expect-error: args are read-only
    args.to = "bob"
    return Job.discard("no")
  })
}

export const dependencies = (id: JobId) => {
  const Render = Job.make("render", { success: Schema.Struct({ url: Schema.String }) })
  const Publish = Job.make("publish", {
    args: { title: Schema.String },
    dependencies: { first: Render, sent: { job: Send, onFailure: "run" }, pages: [Render] }
  })
  const live = Publish.toLayer((args, job) => {
    expectTypeOf(args.title).toEqualTypeOf<string>()
    expectTypeOf(job.dependencies.first).toEqualTypeOf<{ readonly url: string }>()
    expectTypeOf(job.dependencies.pages).toEqualTypeOf<ReadonlyArray<{ readonly url: string }>>()
    expectTypeOf(job.dependencies.sent).toEqualTypeOf<Job.DependencyResult<{ readonly messageId: string }, Bounced>>()
    expectTypeOf(job.id).toEqualTypeOf<JobId>()
    // @ts-expect-error: it may have failed
    void job.dependencies.sent.value
    // @ts-expect-error: not declared
    void job.dependencies.second
    return Effect.void
  })
  expectTypeOf(live).toEqualTypeOf<Layer.Layer<never, never, Workers>>()
  const dependsOn = { first: id, sent: { id, onFailure: "hold" as const }, pages: [id, id] }
  expectTypeOf(Publish.enqueue({ title: "x" }, { dependsOn, priority: 1 })).toEqualTypeOf<
    Effect.Effect<EnqueueResult, EnqueueError, Jobs>
  >()
  void Publish.enqueueAll([{ title: "x" }], ({ title }, i) => ({ dependsOn, tags: [title, String(i)] }))
  void Publish.execute({ title: "x" }, { dependsOn, cancelOnInterrupt: true })
  // @ts-expect-error: it reads results
  void Publish.enqueue({ title: "x" })
  // @ts-expect-error: one is missing
  void Publish.enqueue({ title: "x" }, { dependsOn: { first: id, pages: [] } })
  // @ts-expect-error: a list has no names
  void Publish.enqueue({ title: "x" }, { dependsOn: [id] })
  // @ts-expect-error: one job, not many
  void Publish.enqueue({ title: "x" }, { dependsOn: { ...dependsOn, first: [id] } })
  // @ts-expect-error: its handler takes the result for granted
  void Publish.enqueue({ title: "x" }, { dependsOn: { ...dependsOn, first: { id, onFailure: "run" } } })
  // @ts-expect-error: no definition
  Job.make("j", { dependencies: { first: "render" } })
  // @ts-expect-error: a tick has no ids to wait for
  CronJob.make({ name: "n", cron: "@daily", job: Publish, args: { title: "x" } })
  // Any job may name what it waits for.
  void Send.enqueue({ to: "ada" }, { dependsOn: { first: id, others: [id, { id, onFailure: "run" }] } })

  // Reading a result takes what its schema takes.
  const Coded = Job.make("coded", {
    success: Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect((text: string) => Effect.as(Codebook, text)),
        encode: SchemaGetter.transformEffect((text: string) => Effect.as(Audit, text))
      })
    )
  })
  const Reader = Job.make("reader", { dependencies: { coded: Coded } })
  expectTypeOf(Reader.toLayer(() => Effect.void)).toEqualTypeOf<Layer.Layer<never, never, Workers | Codebook>>()
}

export const cron = () => {
  expectTypeOf(CronJob.make({ name: "n", cron: "@daily", job: Send, args: { to: "ada" } })).toEqualTypeOf<
    Layer.Layer<never, CronError, CronJobs | Jobs>
  >()
  // @ts-expect-error: another type
  CronJob.make({ name: "n", cron: "@daily", job: Send, args: { to: 5 } })
  // @ts-expect-error: a field is missing
  CronJob.make({ name: "n", cron: "@daily", job: Send, args: {} })
  // @ts-expect-error: no such field
  CronJob.make({ name: "n", cron: "@daily", job: Send, args: { to: "ada", cc: "bob" } })
  // @ts-expect-error: no such policy
  CronJob.make({ name: "n", cron: "@daily", job: Send, args: { to: "ada" }, overlap: "queue" })
}
