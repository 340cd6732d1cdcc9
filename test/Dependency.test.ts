/** Results that jobs read of those that they waited for. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Cipher from "../src/Cipher.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import * as ShigotoTest from "../src/testing/ShigotoTest.ts"
import { onDatabase, reaches, startNode, tally } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Int }) {}

const Charge = Job.make("charge", {
  args: { cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String, at: Schema.DateTimeUtcFromString }),
  error: Declined,
  maxAttempts: 1
})
const Log = Job.make("log")
const Maybe = Job.make("maybe", { success: Schema.NullOr(Schema.String) })

const Ship = Job.make("ship", {
  args: { to: Schema.String },
  success: Schema.String,
  dependencies: { charge: Charge, log: Log, maybe: Maybe, pages: [Charge] },
  maxAttempts: 1
})
const Report = Job.make("report", {
  success: Schema.Unknown,
  dependencies: { charge: { job: Charge, onFailure: "run" } }
})

const workers = Layer.mergeAll(
  Charge.toLayer(({ cents }, job) =>
    cents < 0
      ? Effect.fail(new Declined({ code: cents }))
      : Effect.succeed({ receipt: `r${cents}`, at: job.insertedAt })
  ),
  Log.toLayer(() => Effect.void),
  Maybe.toLayer(() => Effect.succeed(null)),
  Ship.toLayer(({ to }, { dependencies: { charge, log, maybe, pages } }) =>
    Effect.succeed(
      `${to} ${charge.receipt} ${charge.at.epochMilliseconds >= 0} ${String(log)} ${maybe} ${pages.map((page) => page.receipt).join()}`
    )
  ),
  Report.toLayer((_, { dependencies: { charge } }) =>
    Effect.succeed(
      charge._tag === "Discarded" && Option.isSome(charge.error)
        ? { ...charge, error: charge.error.value.code, failure: charge.failure?.tag }
        : charge._tag === "Completed"
          ? { ...charge, value: charge.value.receipt }
          : charge
    )
  )
)

const reads = Effect.fnUntraced(function* (config: Parameters<typeof startNode>[0]) {
  const node = yield* startNode({ workers, ...config })
  const charge = yield* node.run(Charge.enqueue({ cents: 7 }))
  const pages = yield* node.run(Charge.enqueueAll([{ cents: 1 }, { cents: 2 }]))
  const log = yield* node.run(Log.enqueue({}))
  const maybe = yield* node.run(Maybe.enqueue({}))
  const dependsOn = {
    charge: charge.id,
    log: log.id,
    maybe: maybe.id,
    pages: pages.map(({ id }) => id)
  }
  const ship = yield* node.run(Ship.enqueue({ to: "ada" }, { dependsOn }))
  const { result } = yield* reaches(node, ship.id, "completed", "discarded")
  assert.strictEqual(result, "ada r7 true undefined null r1,r2")
  return { node, dependsOn }
})

describe("results of jobs that a job waited for", () => {
  onDatabase("are decoded by the definitions that returned them", () => Effect.asVoid(reads({})))

  onDatabase("are there where nothing is kept of jobs that have ended, as long as the job waited", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ config: { retention: { completed: 0, discarded: "14 days", cancelled: 0 } } })
      const charge = yield* node.run(Charge.enqueue({ cents: 7 }))
      const log = yield* node.run(Log.enqueue({}))
      const maybe = yield* node.run(Maybe.enqueue({}))
      const dependsOn = { charge: charge.id, log: log.id, maybe: maybe.id, pages: [] }
      const ship = yield* node.run(Ship.execute({ to: "ada" }, { dependsOn })).pipe(Effect.forkScoped)
      yield* eventually(tally, (counts) => counts.blocked === 1)
      yield* node.add(workers)
      assert.strictEqual(yield* Fiber.join(ship), "ada r7 true undefined null ")
    })
  )

  onDatabase("are decrypted by the node that reads them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* TestDatabase
      const key: Cipher.Key = { id: "one", key: Redacted.make(new Uint8Array(32).fill(1)) }
      const client = Layer.mergeAll(database.layerClient({ maxConnections: 12 }), Cipher.layerAesGcm({ keys: [key] }))
      const { node, dependsOn } = yield* reads({ client })
      const [stored] = yield* sql<{ readonly result: unknown }>`
        SELECT result FROM shigoto.all_jobs WHERE id = ${dependsOn.charge}::bigint`
      assert.property(stored?.result, "$enc")
      const declined = yield* node.run(Charge.enqueue({ cents: -4 }))
      const report = yield* node.run(Report.enqueue({}, { dependsOn: { charge: declined.id } }))
      const { result } = yield* reaches(node, report.id, "completed")
      assert.deepInclude(result, { _tag: "Discarded", error: -4 })
    })
  )

  onDatabase("say how a job ended whose failure the definition tolerates", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ workers })
      const told = Effect.fnUntraced(function* (id: JobId) {
        const report = yield* node.run(Report.enqueue({}, { dependsOn: { charge: id } }))
        return (yield* reaches(node, report.id, "completed")).result
      })
      const good = yield* node.run(Charge.enqueue({ cents: 1 }))
      assert.deepStrictEqual(yield* told(good.id), { id: good.id, _tag: "Completed", value: "r1" })
      const declined = yield* node.run(Charge.enqueue({ cents: -5 }))
      assert.deepStrictEqual(yield* told(declined.id), {
        id: declined.id,
        _tag: "Discarded",
        error: -5,
        failure: "Declined"
      })
      const cancelled = yield* node.run(Charge.enqueue({ cents: 1 }, { delay: "1 hour" }))
      yield* node.jobs.cancel(cancelled.id, "no more")
      assert.deepStrictEqual(yield* told(cancelled.id), { id: cancelled.id, _tag: "Cancelled", reason: "no more" })
      yield* node.jobs.delete(good.id)
      assert.deepStrictEqual(yield* told(good.id), { id: good.id, _tag: "Pruned" })
    })
  )

  onDatabase("fail the attempt before its handler where they are missing, failed, gone, or of another job", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ workers })
      const sql = yield* SqlClient.SqlClient
      const Only = Job.make("ship", { args: { to: Schema.String }, maxAttempts: 1 })
      const other = yield* node.run(Maybe.enqueue({}))
      const declined = yield* node.run(Charge.enqueue({ cents: -1 }))
      const good = yield* node.run(Charge.enqueue({ cents: 1 }))
      for (const { id } of [other, declined, good]) yield* reaches(node, id, "completed", "discarded")
      const because = Effect.fnUntraced(function* (id: JobId) {
        const { errors } = yield* reaches(node, id, "discarded")
        assert.deepStrictEqual(
          errors.map(({ tag }) => tag),
          ["DependencyError"]
        )
        return errors[0]?.message ?? ""
      })
      // As another program may put it in.
      const bare = yield* node.run(Only.enqueue({ to: "ada" }))
      assert.include(yield* because(bare.id), `reads the result of "charge", and this job waited for none`)
      const named = (charge: JobId, onFailure: "cancel" | "run" = "cancel") =>
        node.run(Only.enqueue({ to: "ada" }, { dependsOn: { charge: { id: charge, onFailure } } }))
      assert.include(yield* because((yield* named(other.id)).id), `is one of "maybe", not of "charge"`)
      assert.include(yield* because((yield* named(declined.id, "run")).id), "was discarded")
      yield* sql`UPDATE shigoto.jobs_archive SET result = '{"receipt": 5}' WHERE id = ${good.id}::bigint`
      assert.include(yield* because((yield* named(good.id)).id), "has another one")
      yield* sql`DELETE FROM shigoto.jobs_archive WHERE id = ${good.id}::bigint`
      assert.include(yield* because((yield* named(good.id)).id), "is no longer kept")
    })
  )

  onDatabase("cannot be those of jobs to come, so that no circle is closed by ids that somebody guessed", () =>
    Effect.gen(function* () {
      const node = yield* startNode({ config: { queues: { unused: 1 } } })
      const refused = (ids: ReadonlyArray<number>) =>
        Effect.map(
          Effect.flip(node.run(Log.enqueueAll([{}, {}], () => ({ dependsOn: ids as ReadonlyArray<JobId> })))),
          (error) => assert.strictEqual(error._tag, "MissingDependencies", String(ids))
        )
      // The first is the job's own, on a database that has never had one.
      for (const ids of [[1], [2], [1, 2], [Number.MAX_SAFE_INTEGER]]) yield* refused(ids)
      const { id } = yield* node.run(Log.enqueue({}))
      for (const ids of [[id + 1], [id + 2, id], [id, id + 1]]) yield* refused(ids)
      assert.deepStrictEqual(yield* tally, { available: 1 })
    })
  )

  onDatabase("have to be named by an enqueue: each once, with a policy that its handler can do with", () =>
    Effect.gen(function* () {
      const node = yield* startNode()
      const { id } = yield* node.run(Charge.enqueue({ cents: 1 }))
      const wrong: ReadonlyArray<readonly [unknown, string]> = [
        [undefined, "charge"],
        [[id], "charge"],
        [{ charge: [] }, "charge"],
        [{ charge: { id, onFailure: "run" } }, "'run'"],
        [{ charge: "7" }, "'7'"],
        [{ charge: null }, "null"],
        [{ "": id }, "''"],
        [7, "7"]
      ]
      for (const [dependsOn] of wrong) {
        const error = yield* Effect.flip(node.run(Ship.enqueue({ to: "ada" }, { dependsOn } as never)))
        assert.strictEqual(error._tag, "InvalidDependencies", JSON.stringify(dependsOn))
      }
      assert.deepStrictEqual(yield* tally, { available: 1 })
      assert.throws(() => Job.make("j", { dependencies: { "": Charge } }), /cannot read the result of/)
      assert.throws(() => Job.make("j", { dependencies: { a: 5 as never } }), /names no definition/)
    })
  )
})

describe("perform", () => {
  it.effect("gives the handler results that a test makes up, through their schemas", () =>
    Effect.gen(function* () {
      const at = (yield* ShigotoTest.perform(Charge, { cents: 1 })).at
      const charge = { receipt: "made up", at }
      assert.strictEqual(
        yield* ShigotoTest.perform(
          Ship,
          { to: "ada" },
          { dependencies: { charge, log: undefined, maybe: null, pages: [charge] } }
        ),
        "ada made up true undefined null made up"
      )
      const report = (result: Job.DependencyResult<typeof charge, Declined>) =>
        ShigotoTest.perform(Report, {}, { dependencies: { charge: result } })
      const discarded = yield* report({
        _tag: "Discarded",
        id: 5 as JobId,
        error: Option.some(new Declined({ code: 3 })),
        failure: undefined
      })
      assert.deepInclude(discarded, { _tag: "Discarded", error: 3 })
      assert.deepInclude(yield* report({ _tag: "Cancelled", id: 5 as JobId, reason: "why" }), { reason: "why" })
      assert.deepInclude(yield* report({ _tag: "Pruned", id: 5 as JobId }), { _tag: "Pruned" })
      assert.deepInclude(yield* report({ _tag: "Completed", id: 5 as JobId, value: charge }), { value: "made up" })
    }).pipe(Effect.provide(Layer.provideMerge(workers, ShigotoTest.layerPerform)))
  )
})
