/** Handlers that add jobs and wait for them, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../src/Batch.ts"
import { Batches } from "../src/Batches.ts"
import * as Flow from "../src/Flow.ts"
import { Flows } from "../src/Flows.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import type { Workers } from "../src/Workers.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { page: Schema.Int }) {}

const ran: Array<string> = []
const failing = new Set<number>()

const Page = Job.make("page", {
  args: { n: Schema.Int.check(Schema.isLessThan(100)) },
  success: Schema.Struct({ words: Schema.Int, at: Schema.DateTimeUtcFromString }),
  error: Unreadable,
  maxAttempts: 1,
  unique: {},
  queue: "pages"
})
const Index = Job.make("index", {
  args: { words: Schema.Int },
  success: Schema.String
})
const Book = Job.make("book", {
  args: {
    pages: Schema.Array(Schema.Int),
    onFailure: Schema.Literals(["cancel", "run", "hold"]).pipe(Schema.withConstructorDefault(Effect.succeed("cancel")))
  },
  success: Schema.String,
  maxAttempts: 2
})

/** Waits for children whose time has not come. */
const Late = Job.make("late-pages")

const PageLive = Page.toLayer(({ n }, job) =>
  Effect.suspend(() => {
    ran.push(`page ${n}`)
    return failing.has(n)
      ? Effect.fail(new Unreadable({ page: n }))
      : Effect.succeed({ words: n * 10, at: job.insertedAt })
  })
)
const IndexLive = Index.toLayer(({ words }) => Effect.succeed(`index of ${words}`))
const BookLive = Book.toLayer(
  Effect.fnUntraced(function* ({ onFailure, pages }, job) {
    ran.push(`book ${job.attempt}`)
    const read = yield* Job.fanOut(
      "pages",
      Page,
      Effect.sync(() => (ran.push("asked"), pages.map((n) => ({ n })))),
      {
        onFailure
      }
    )
    const words = read.map((one) =>
      "_tag" in one
        ? one._tag === "Completed"
          ? one.value.words
          : one._tag === "Discarded" && Option.isSome(one.error)
            ? -one.error.value.page
            : 0
        : one.words
    )
    const [index] = yield* Job.fanOut("index", Index, [{ words: words.reduce((sum, n) => sum + n, 0) }])
    ran.push(`done ${job.attempt}`)
    return `${index}: ${words.join()}`
  })
)

const world = (
  more: Layer.Layer<never, never, Workers | Jobs | Batches> = Layer.empty,
  options: ShigotoTest.Options = {}
) =>
  Layer.mergeAll(
    PageLive,
    IndexLive,
    BookLive,
    more,
    Layer.effectDiscard(Effect.sync(() => (ran.splice(0), failing.clear())))
  ).pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ queues: { default: 1, pages: 2 }, client: database.clientConfig, ...options })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )

const get = (id: JobId) => Effect.flatMap(Jobs, (jobs) => jobs.get(id))

describe("fanOut", () => {
  it.effect("inserts children, waits for them without a slot or an attempt, and gives their results in order", () =>
    Effect.gen(function* () {
      // The one slot of the queue is free for another book while the first waits.
      const [one, two] = [yield* Book.enqueue({ pages: [3, 1, 2] }), yield* Book.enqueue({ pages: [] })]
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(one.id), { state: "completed", attempt: 1, result: "index of 60: 30,10,20" })
      assert.deepInclude(yield* get(two.id), { state: "completed", attempt: 1, result: "index of 0: " })
      assert.strictEqual(ran.filter((what) => what === "page 1").length, 1)
      // From its beginning each time, but the args of the children only once.
      assert.strictEqual(ran.filter((what) => what === "book 1").length, 5)
      assert.strictEqual(ran.filter((what) => what === "asked").length, 3)
      assert.strictEqual(ran.filter((what) => what === "done 1").length, 2)
      const blocked = (yield* ShigotoTest.events).filter(({ event }) => event._tag === "Blocked")
      assert.strictEqual(blocked.length, 3)
    }).pipe(Effect.provide(world()))
  )

  it.effect("cancels, tells or holds the waiting job where a child fails", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      failing.add(2)
      const enqueued = yield* Effect.forEach(["cancel", "run", "hold"] as const, (onFailure) =>
        Effect.map(Book.enqueue({ pages: [1, 2], onFailure }), ({ id }) => id)
      )
      const [a, b, c] = enqueued as [JobId, JobId, JobId] // one for each
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(a), { state: "cancelled", attempt: 0 })
      assert.include((yield* get(a)).cancelReason, "which was discarded")
      assert.deepInclude(yield* get(b), { state: "completed", result: "index of 8: 10,-2" })
      assert.deepInclude(yield* get(c), { state: "blocked" })
      assert.match(
        (yield* jobs.explain(c)).message,
        /it is held since its child \d+ \(pages, discarded\) did not succeed/
      )

      // The child's retry brings back who fell with it and who was held.
      failing.clear()
      const failed = yield* jobs.list({ worker: "page", state: "discarded" })
      for (const { id } of failed) yield* jobs.retry(id)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(a), { state: "completed", result: "index of 30: 10,20" })
      assert.deepInclude(yield* get(c), { state: "completed", result: "index of 30: 10,20" })
    }).pipe(Effect.provide(world()))
  )

  it.effect("keeps what the children returned when an attempt after them fails", () => {
    const Flaky = Job.make("flaky", { success: Schema.Int, maxAttempts: 3 })
    const FlakyLive = Flaky.toLayer((_, job) =>
      Effect.flatMap(Job.fanOut("pages", Page, [{ n: 5 }]), ([page]) =>
        job.attempt < 3 ? Effect.die(new Error("not yet")) : Effect.succeed(page?.words ?? 0)
      )
    )
    return Effect.gen(function* () {
      const { id } = yield* Flaky.enqueue({})
      yield* ShigotoTest.advance("1 hour")
      assert.deepInclude(yield* get(id), { state: "completed", attempt: 3, result: 50 })
      assert.deepStrictEqual(ran, ["page 5"])
    }).pipe(Effect.provide(world(FlakyLive)))
  })

  it.effect("lets children wait for their time", () => {
    const Counting = Job.make("counting", { success: Schema.Int })
    const CountingLive = Counting.toLayer(() =>
      Effect.map(Job.fanOut("pages", Page, [{ n: 5 }], { delay: "2 hours", priority: 3 }), ([page]) => page?.words ?? 0)
    )
    return Effect.gen(function* () {
      const { id } = yield* Counting.enqueue({})
      yield* ShigotoTest.advance("119 minutes")
      assert.deepInclude(yield* get(id), { state: "blocked" })
      yield* ShigotoTest.assertEnqueued({ job: Page, state: "scheduled", count: 1 })
      yield* ShigotoTest.advance("1 minute")
      assert.deepInclude(yield* get(id), { state: "completed", result: 50 })
    }).pipe(Effect.provide(world(CountingLive)))
  })

  it.effect("makes children members of the job's flow or batch, sealed as it is", () => {
    const Done = Job.make("done")
    const Printing = Flow.make("printing", {}, (flow) => {
      const book = flow.node("book", Book, { args: { pages: [1, 2] } })
      return flow.node("index", Index, { after: { book }, args: (_, { book }) => ({ words: book.length }) })
    })
    return Effect.gen(function* () {
      const flows = yield* Flows
      const batches = yield* Batches
      const { id } = yield* Printing.enqueue({})
      const batch = yield* Batch.make("books", { onFinished: Done.prepare({}) }).enqueue([
        Book.prepare({ pages: [3, 4, 5] })
      ])
      yield* ShigotoTest.drain
      const status = yield* Printing.status(id)
      assert.deepInclude(status, { total: 5, completed: 5, finished: true })
      assert.deepStrictEqual(status.output, Option.some("index of 18"))
      assert.strictEqual(status.nodes.length, 2)
      assert.deepStrictEqual(
        status.nodes.map(({ after, children }) => [after.length, children]),
        [
          [0, 3],
          [1, 0]
        ]
      )
      assert.deepInclude(yield* batches.get(batch.id), { total: 5, completed: 5, finished: true })
      yield* ShigotoTest.assertEnqueued({ job: Done, count: 1 })

      // A child that fails takes its flow with it, and brings it back.
      failing.add(2)
      const broken = yield* Printing.enqueue({})
      yield* ShigotoTest.drain
      assert.deepInclude(yield* flows.status(broken.id), { completed: 1, discarded: 1, cancelled: 2, finished: true })
      failing.clear()
      assert.strictEqual(yield* flows.retry(broken.id), 1)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* flows.status(broken.id), { total: 5, completed: 5, outcome: "completed" })

      const other = yield* Printing.enqueue({})
      yield* flows.cancel(other.id)
      assert.deepInclude(yield* flows.status(other.id), { cancelled: 2, finished: true })
    }).pipe(Effect.provide(world(Printing.layer, { queues: { default: 2, pages: 2 } })))
  })

  it.effect("is not the only way to grow: a job adds members to its sealed flow that only the flow waits for", () => {
    const Grower = Job.make("grower", { args: { by: Schema.Int }, success: Schema.Int })
    const GrowerLive = Grower.toLayer(({ by }) =>
      Effect.map(
        Effect.catch(Batch.add(Array.from({ length: by }, (_, n) => Page.prepare({ n }))), ({ _tag }) =>
          Effect.succeed(_tag === "BatchNotFound" ? [] : [_tag])
        ),
        (added) => added.length
      )
    )
    const Growing = Flow.make("growing", {}, (flow) => {
      const grower = flow.node("grower", Grower, { args: { by: 3 } })
      flow.node("next", Index, { after: { grower }, args: (_, { grower }) => ({ words: grower }) })
    })
    return Effect.gen(function* () {
      const flows = yield* Flows
      const batches = yield* Batches
      const { id, nodes } = yield* Growing.enqueue({})
      yield* ShigotoTest.drain
      assert.deepInclude(yield* flows.status(id), { total: 5, completed: 5, finished: true })
      // A job in no batch adds nothing, nor does one that is not running, or under an older claim.
      const alone = yield* Grower.enqueue({ by: 3 })
      yield* ShigotoTest.drain
      assert.deepInclude(yield* get(alone.id), { state: "completed", result: 0 })
      const page = yield* Page.prepare({ n: 1 })
      const late = yield* Effect.flip(batches.add([page], { id: nodes["grower"] as JobId, epoch: 1 }))
      assert.strictEqual(late._tag, "BatchClosed")
      assert.strictEqual((yield* flows.status(id)).total, 5)
    }).pipe(Effect.provide(world(Layer.mergeAll(GrowerLive, Growing.layer))))
  })

  it.effect("has its children cancelled with the flow, and leaves them where only the waiting job is", () => {
    const Waiting = Flow.make("waiting", {}, (flow) => {
      flow.node("late", Late, { args: {} })
    })
    const LateLive = Late.toLayer(() =>
      Effect.asVoid(Job.fanOut("pages", Page, [{ n: 1 }, { n: 2 }], { delay: "1 day" }))
    )
    return Effect.gen(function* () {
      const flows = yield* Flows
      const jobs = yield* Jobs
      const { id } = yield* Waiting.enqueue({})
      yield* ShigotoTest.drain
      assert.deepInclude((yield* flows.status(id)).counts, { blocked: 1, scheduled: 2 })
      assert.strictEqual(yield* flows.cancel(id), 3)
      assert.deepInclude(yield* flows.status(id), { cancelled: 3, finished: true })
      const alone = yield* Late.enqueue({})
      yield* ShigotoTest.drain
      yield* jobs.cancel(alone.id)
      yield* ShigotoTest.advance("1 day")
      assert.deepInclude(yield* get(alone.id), { state: "cancelled" })
      assert.deepStrictEqual(ran, ["page 1", "page 2"])
    }).pipe(Effect.provide(world(LateLive.pipe(Layer.merge(Waiting.layer)))))
  })

  it.effect("lets no unique job change what it has made children of", () => {
    const Single = Job.make("single", {
      args: { key: Schema.String, pages: Schema.Array(Schema.Int) },
      success: Schema.Unknown,
      unique: { keys: ["args.key"], replace: ["args"] }
    })
    const SingleLive = Single.toLayer(({ pages }) =>
      Effect.map(
        Job.fanOut(
          "pages",
          Page,
          pages.map((n) => ({ n })),
          { delay: "1 hour" }
        ),
        (read) => [pages, read.map(({ words }) => words)]
      )
    )
    return Effect.gen(function* () {
      const { id } = yield* Single.enqueue({ key: "k", pages: [1] })
      assert.strictEqual((yield* Single.enqueue({ key: "k", pages: [1, 2] }))._tag, "Replaced")
      yield* ShigotoTest.drain
      const late = yield* Single.enqueue({ key: "k", pages: [9] })
      assert.deepStrictEqual([late._tag, late.id, late.job.state], ["ConflictExecuting", id, "blocked"])
      yield* ShigotoTest.advance("1 hour")
      assert.deepStrictEqual((yield* get(id)).result, [
        [1, 2],
        [10, 20]
      ])
    }).pipe(Effect.provide(world(SingleLive)))
  })

  it.effect("explains whom a waiting job waits for", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const { id } = yield* Late.enqueue({})
      yield* ShigotoTest.drain
      const { message, reasons } = yield* jobs.explain(id)
      assert.match(message, /it waits for its children \d+ \(pages, scheduled\), \d+ \(pages, scheduled\)/)
      const [blocked] = reasons
      assert.strictEqual(blocked?._tag, "Blocked")
      assert.deepStrictEqual(
        blocked?._tag === "Blocked" ? blocked.by.map(({ child, name, state }) => ({ child, name, state })) : [],
        Array.from({ length: 2 }, () => ({ child: true, name: "pages", state: "scheduled" }))
      )
    }).pipe(
      Effect.provide(
        world(Late.toLayer(() => Effect.asVoid(Job.fanOut("pages", Page, [{ n: 1 }, { n: 2 }], { delay: "1 day" }))))
      )
    )
  )

  it.effect("fails the attempt, and inserts nothing, where children cannot be inserted", () => {
    const wrongs: ReadonlyArray<readonly [Effect.Effect<unknown, Job.Signal, Job.CurrentJob>, RegExp]> = [
      [Job.fanOut("pages", Page, [{ n: 1 }, { n: 100 }]), /\$\.n/],
      [
        Job.fanOut(
          "pages",
          Page,
          Array.from({ length: 10_001 }, () => ({ n: 1 }))
        ),
        /10001 children/
      ],
      [Job.fanOut("", Page, [{ n: 1 }]), /is no name/],
      [Job.fanOut("pages", Page, [{ n: 1 }], { onFailure: "ignore" as never }), /no policy/],
      [Job.fanOut("pages", Page, [{ n: 1 }], { priority: 1e9 }), /priority/],
      [Job.fanOut("pages", Page, [{ n: 1 }], { dependsOn: [1] } as never), /wait for nothing/],
      [Job.fanOut("pages", Page, [{ n: 1 }], { batch: 1 } as never), /wait for nothing/]
    ]
    const Wrong = Job.make("wrong", { args: { which: Schema.Int }, maxAttempts: 1 })
    const WrongLive = Wrong.toLayer(({ which }) => Effect.asVoid(wrongs[which]?.[0] ?? Effect.void))
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const [which, [, why]] of wrongs.entries()) {
        const { id } = yield* Wrong.enqueue({ which })
        yield* ShigotoTest.drain
        const { errors, state } = yield* get(id)
        assert.strictEqual(state, "discarded")
        assert.strictEqual(errors[0]?.tag, "FanOutError")
        assert.match(errors[0]?.message ?? "", why)
      }
      assert.strictEqual((yield* sql`SELECT FROM shigoto.all_jobs WHERE worker = 'page'`).length, 0)
    }).pipe(Effect.provide(world(WrongLive)))
  })

  it.effect("tells its children from what the job was enqueued to wait for under the same name", () => {
    const Both = Job.make("both", { success: Schema.Unknown, dependencies: { pages: [Page] } })
    const BothLive = Both.toLayer((_, { dependencies }) =>
      Effect.map(Job.fanOut("pages", Page, [{ n: 8 }]), (children) => [
        dependencies.pages.map(({ words }) => words),
        children.map(({ words }) => words)
      ])
    )
    return Effect.gen(function* () {
      const page = yield* Page.enqueue({ n: 1 })
      const { id } = yield* Both.enqueue({}, { dependsOn: { pages: [page.id] } })
      yield* ShigotoTest.drain
      assert.deepStrictEqual((yield* get(id)).result, [[10], [80]])
    }).pipe(Effect.provide(world(BothLive)))
  })

  it.effect("ends a performed attempt with its children", () =>
    Effect.gen(function* () {
      const fork = yield* Effect.flip(ShigotoTest.perform(Book, { pages: [1, 2] }))
      assert.strictEqual(fork._tag, "Fork")
      assert.deepStrictEqual(
        fork._tag === "Fork" ? fork.children.map(({ args, worker }) => [worker, JSON.parse(args) as unknown]) : [],
        [
          ["page", { n: 1 }],
          ["page", { n: 2 }]
        ]
      )
      // Or goes on after them, with what a test makes up.
      const at = DateTime.makeUnsafe(0)
      assert.strictEqual(
        yield* ShigotoTest.perform(
          Book,
          { pages: [1, 2] },
          {
            fannedOut: {
              pages: ShigotoTest.children(
                Page,
                [1, 2].map((words) => ({ words, at }))
              ),
              index: ShigotoTest.children(Index, ["made up"])
            }
          }
        ),
        "made up: 1,2"
      )
    }).pipe(Effect.provide(Layer.provideMerge(BookLive, ShigotoTest.layerPerform)))
  )
})
