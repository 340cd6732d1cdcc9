/** Flows in virtual time: what runs when, with what, and what becomes of the rest when a node fails. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Batch from "../src/Batch.ts"
import { Batches } from "../src/Batches.ts"
import * as Flow from "../src/Flow.ts"
import { Flows } from "../src/Flows.ts"
import * as Job from "../src/Job.ts"
import type { BatchId, JobId } from "../src/JobRow.ts"
import { Jobs } from "../src/Jobs.ts"
import { ShigotoTest } from "../src/testing/index.ts"
import type { Workers } from "../src/Workers.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { code: Schema.Int }) {}

/** What ran, and with what. */
const ran: Array<string> = []
/** The steps that fail for now. */
const failing = new Set<string>()

const Step = Job.make("step", {
  args: { name: Schema.String, n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(1))) },
  success: Schema.Int,
  error: Declined,
  maxAttempts: 1,
  queue: "steps",
  unique: {}
})
const Sum = Job.make("sum", {
  args: { label: Schema.String },
  success: Schema.Struct({ total: Schema.Int, at: Schema.DateTimeUtcFromString }),
  dependencies: { first: Step, others: [{ job: Step, onFailure: "run" }] },
  maxAttempts: 1
})

const workers = Layer.mergeAll(
  Step.toLayer(({ n, name }) =>
    Effect.suspend(() => {
      ran.push(`${name} ${n}`)
      return failing.has(name) ? Effect.fail(new Declined({ code: n })) : Effect.succeed(n * 10)
    })
  ),
  Sum.toLayer(({ label }, { dependencies: { first, others }, insertedAt }) =>
    Effect.sync(() => {
      const of = others.map((one) => (one._tag === "Completed" ? one.value : 0))
      ran.push(`${label} ${first}+${of.join("+")}`)
      return { total: of.reduce((sum, n) => sum + n, first), at: insertedAt }
    })
  )
)

const world = (more: Layer.Layer<never, never, Workers | Jobs>, options: ShigotoTest.Options = {}) =>
  Layer.mergeAll(workers, more, Layer.effectDiscard(Effect.sync(() => (ran.splice(0), failing.clear())))).pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(TestDatabase, (database) =>
          ShigotoTest.layer({ queues: { default: 10, steps: 10 }, client: database.clientConfig, ...options })
        )
      )
    ),
    Layer.provideMerge(TestDatabase.layerDatabase())
  )

/** A diamond whose sides multiply what the tip is given. */
const Diamond = Flow.make("diamond", { input: { n: Schema.Int, left: Schema.Int } }, (flow) => {
  const tip = flow.node("tip", Step, { args: ({ n }) => ({ name: "tip", n }) })
  const left = flow.node("left", Step, {
    after: { tip },
    args: ({ left }, { tip }) => ({ name: "left", n: tip * left })
  })
  const right = flow.node("right", Step, { after: { tip }, args: { name: "right" } })
  return flow.node("sum", Sum, { after: { first: tip, others: [right, left] }, args: { label: "sum" } })
})

const states = (id: BatchId) =>
  Effect.gen(function* () {
    const { nodes } = yield* (yield* Flows).status(id)
    return Object.fromEntries(nodes.map(({ state, step }) => [step, state]))
  })

describe("a flow", () => {
  it.effect("runs each node after those that it comes after, with their results", () =>
    Effect.gen(function* () {
      const flow = yield* Diamond.enqueue({ n: 2, left: 3 })
      assert.deepStrictEqual(Object.keys(flow.nodes), ["tip", "left", "right", "sum"])
      assert.deepStrictEqual(yield* states(flow.id), {
        tip: "available",
        left: "blocked",
        right: "blocked",
        sum: "blocked"
      })
      const before = yield* Diamond.status(flow.id)
      assert.isTrue(Option.isNone(before.output))
      assert.deepInclude(before, { total: 4, pending: 4, finished: false, name: "diamond" })
      assert.deepInclude(before.counts, { available: 1, blocked: 3, completed: 0 })
      yield* ShigotoTest.drain
      // What a list holds is read by its ids: those of the nodes in the order in which they were added.
      assert.deepStrictEqual(ran, ["tip 2", "left 60", "right 1", "sum 20+600+10"])
      const { output, ...status } = yield* Diamond.status(flow.id)
      assert.strictEqual(Option.getOrThrow(output).total, 630)
      assert.deepInclude(status, { pending: 0, completed: 4, finished: true, outcome: "completed" })
      assert.deepInclude(status.counts, { available: 0, blocked: 0, completed: 4 })
      assert.deepStrictEqual(
        status.nodes.map(({ after, attempt, id, result, step, worker }) => ({
          after,
          attempt,
          id,
          result,
          step,
          worker
        })),
        [
          { after: [], attempt: 1, id: flow.nodes["tip"], result: 20, step: "tip", worker: "step" },
          { after: [flow.nodes["tip"]], attempt: 1, id: flow.nodes["left"], result: 600, step: "left", worker: "step" },
          {
            after: [flow.nodes["tip"]],
            attempt: 1,
            id: flow.nodes["right"],
            result: 10,
            step: "right",
            worker: "step"
          },
          {
            after: [flow.nodes["tip"], flow.nodes["left"], flow.nodes["right"]],
            attempt: 1,
            id: flow.nodes["sum"],
            result: { total: 630, at: "2030-01-01T00:00:00.000Z" },
            step: "sum",
            worker: "sum"
          }
        ] as never
      )
    }).pipe(Effect.provide(world(Diamond.layer)))
  )

  it.effect("can be enqueued any number of times, in the caller's transaction, and vanishes with it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const flows = yield* Flows
      let lost: BatchId | undefined
      yield* Effect.flip(
        sql.withTransaction(
          Effect.flatMap(Diamond.enqueue({ n: 1, left: 1 }), ({ id }) => {
            lost = id
            return Effect.fail("no")
          })
        )
      )
      assert.strictEqual((yield* Effect.flip(flows.status(lost as BatchId)))._tag, "BatchNotFound")
      for (const table of ["jobs", "dependencies", "batches"]) {
        assert.strictEqual((yield* sql`SELECT FROM ${sql(`shigoto.${table}`)}`).length, 0, table)
      }
      const made = yield* sql.withTransaction(
        Effect.all([Diamond.enqueue({ n: 1, left: 1 }), Diamond.enqueue({ n: 2, left: 2 })])
      )
      yield* ShigotoTest.drain
      const outputs = yield* Effect.forEach(made, ({ id }) => Diamond.status(id))
      assert.deepStrictEqual(
        outputs.map(({ output }) => Option.getOrThrow(output).total),
        [120, 430]
      )
    }).pipe(Effect.provide(world(Diamond.layer)))
  )

  it.effect("cancels, runs or holds what comes after a failure; retry brings back what fell with it", () => {
    const Policies = Flow.make("policies", {}, (flow) => {
      const node = (name: string, after: Flow.After = {}) => flow.node(name, Step, { after, args: { name } })
      const tip = node("tip")
      const good = node("good")
      const falls = node("falls", { tip })
      node("falls too", { falls, good })
      node("held", { tip: { node: tip, onFailure: "hold" } })
      flow.node("told", Step, {
        after: { tip: { node: tip, onFailure: "run" }, falls: { node: falls, onFailure: "run" }, good },
        args: (_, { falls, good, tip }) => ({
          name: `told ${tip._tag} ${tip._tag === "Discarded" ? Option.getOrThrow(tip.error).code : ""} ${falls._tag}`,
          n: good
        })
      })
    })
    return Effect.gen(function* () {
      failing.add("tip")
      const { id } = yield* Policies.enqueue({})
      yield* ShigotoTest.drain
      assert.deepStrictEqual(yield* states(id), {
        tip: "discarded",
        good: "completed",
        falls: "cancelled",
        "falls too": "cancelled",
        held: "blocked",
        told: "completed"
      })
      assert.include(ran, "told Discarded 1 Cancelled 10")
      const flows = yield* Flows
      const status = yield* flows.status(id)
      assert.deepInclude(status, { pending: 1, finished: false, outcome: "discarded" })
      assert.deepInclude(status.counts, { discarded: 1, cancelled: 2, completed: 2, blocked: 1 })
      assert.strictEqual(status.nodes[0]?.failure?.tag, "Declined")
      assert.include(status.nodes[2]?.cancelReason, "which was discarded")

      failing.clear()
      assert.strictEqual(yield* flows.retry(id), 1)
      yield* ShigotoTest.drain
      assert.deepStrictEqual(new Set(Object.values(yield* states(id))), new Set(["completed"]))
      assert.deepInclude(yield* Policies.status(id), { completed: 6, finished: true, outcome: "completed" })
      // What was completed did not run again.
      assert.strictEqual(ran.filter((step) => step.startsWith("good")).length, 1)
    }).pipe(Effect.provide(world(Policies.layer)))
  })

  it.effect("comes back where what failed is retried one after the other, and each succeeds before the next", () => {
    const Join = Flow.make("join", {}, (flow) => {
      const a = flow.node("a", Step, { args: { name: "a" } })
      const b = flow.node("b", Step, { args: { name: "b" } })
      const both = flow.node("both", Step, { after: { a, b }, args: (_, { a, b }) => ({ name: "both", n: a + b }) })
      flow.node("last", Step, { after: { both }, args: { name: "last" } })
    })
    return Effect.gen(function* () {
      const jobs = yield* Jobs
      for (const first of ["a", "b"]) {
        failing.add("a").add("b")
        const { id, nodes } = yield* Join.enqueue({})
        yield* ShigotoTest.drain
        failing.clear()
        yield* jobs.retry(nodes[first] as JobId)
        yield* ShigotoTest.drain
        assert.deepInclude(yield* states(id), { [first]: "completed", both: "cancelled", last: "cancelled" })
        yield* jobs.retry(nodes[first === "a" ? "b" : "a"] as JobId)
        yield* ShigotoTest.drain
        assert.deepInclude(yield* states(id), { both: "completed", last: "completed" })
        assert.strictEqual(ran.at(-2), "both 20")
      }
    }).pipe(Effect.provide(world(Join.layer)))
  })

  it.effect("is cancelled as a whole, and comes back as a whole", () =>
    Effect.gen(function* () {
      const flows = yield* Flows
      const { id } = yield* Diamond.enqueue({ n: 1, left: 1 })
      assert.isAtLeast(yield* flows.cancel(id, "not today"), 1)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* flows.status(id), { cancelled: 4, finished: true, outcome: "cancelled" })
      assert.strictEqual((yield* flows.status(id)).nodes[0]?.cancelReason, "not today")
      assert.isAtLeast(yield* flows.retry(id), 1)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* flows.status(id), { completed: 4, finished: true })
    }).pipe(Effect.provide(world(Diamond.layer)))
  )

  it.effect("fails the attempt of a node whose args cannot be computed, and tells why", () => {
    const broken: { current: () => unknown } = { current: () => undefined }
    const Broken = Flow.make("broken", {}, (flow) => {
      const tip = flow.node("tip", Step, { args: { name: "tip" } })
      flow.node("next", Step, { after: { tip }, args: () => broken.current() as never, maxAttempts: 3 })
    })
    return Effect.gen(function* () {
      const flows = yield* Flows
      const why: Array<string> = []
      const wrongs: ReadonlyArray<() => unknown> = [
        () => {
          throw new Error("no idea")
        },
        () => ({ name: 7 }),
        () => undefined
      ]
      for (const wrong of wrongs) {
        broken.current = wrong
        const { id } = yield* Broken.enqueue({})
        yield* ShigotoTest.advance("1 hour")
        const [, next] = (yield* flows.status(id)).nodes
        assert.deepInclude(next, { state: "discarded", attempt: 3 })
        assert.strictEqual(next?.failure?.tag, "FlowArgsError")
        why.push(next?.failure?.message ?? "")
        assert.isTrue((yield* flows.status(id)).finished)
      }
      assert.match(why[0] ?? "", /The args of "next" in the flow "broken": computing them threw .*no idea/)
      assert.match(why[1] ?? "", /\$\.name/)
    }).pipe(Effect.provide(world(Broken.layer)))
  })

  it.effect("is left to other nodes for a while where a node does not have it, and then fails by its name", () =>
    Effect.gen(function* () {
      const flows = yield* Flows
      const waits = yield* Diamond.enqueue({ n: 1, left: 1 })
      yield* ShigotoTest.advance("3 minutes")
      assert.deepInclude((yield* flows.status(waits.id)).nodes[1], { state: "scheduled", attempt: 0 })
      // As a node that has it would by now.
      yield* Layer.build(Diamond.layer)
      yield* ShigotoTest.advance("1 minute")
      assert.isTrue((yield* flows.status(waits.id)).finished)
    }).pipe(Effect.scoped, Effect.provide(world(Layer.empty)))
  )

  it.effect("does not wait for ever for a node that has it", () =>
    Effect.gen(function* () {
      const { id } = yield* Diamond.enqueue({ n: 1, left: 1 })
      yield* ShigotoTest.advance("10 minutes")
      const status = yield* (yield* Flows).status(id)
      assert.isTrue(status.finished)
      assert.deepInclude(status.nodes[1], { state: "discarded", attempt: 1 })
      assert.include(status.nodes[1]?.failure?.message, `computed by the flow "diamond", which this node does not have`)
    }).pipe(Effect.provide(world(Layer.empty)))
  )

  it.effect("tells its status to its own id alone", () =>
    Effect.gen(function* () {
      const Other = Flow.make("other", {}, (flow) => flow.node("tip", Step, { args: { name: "tip" } }))
      const { id } = yield* Other.enqueue({})
      const error = yield* Effect.flip(Diamond.status(id))
      assert.strictEqual(error._tag, "BatchNotFound")
      assert.strictEqual((yield* Effect.flip(Diamond.status((id + 1) as BatchId)))._tag, "BatchNotFound")
      assert.strictEqual((yield* Effect.flip(Diamond.status("x" as never)))._tag, "BatchNotFound")
    }).pipe(Effect.provide(world(Layer.empty)))
  )

  it.effect("is refused whole, before anything is stored, where its input or the args of a node are wrong", () => {
    const Wrong = Flow.make("wrong", { input: { n: Schema.Int } }, (flow) => {
      flow.node("one", Step, { args: { name: "one" } })
      flow.node("two", Step, {
        args: ({ n }) => {
          if (n === 0) throw new Error("zero")
          return { name: "two", n: n / 2 }
        }
      })
    })
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const tags = yield* Effect.forEach([{ n: "x" as never }, { n: 1 }, { n: 0 }, null as never], (input) =>
        Effect.map(Effect.flip(Wrong.enqueue(input)), ({ _tag }) => _tag)
      )
      assert.deepStrictEqual(tags, ["InvalidArgs", "InvalidArgs", "FlowArgsError", "InvalidArgs"])
      const gone = yield* Effect.flip(Wrong.enqueue({ n: 2 }, { parent: 77 as BatchId }))
      assert.strictEqual(gone._tag, "BatchNotFound")
      assert.strictEqual((yield* sql`SELECT FROM shigoto.jobs`).length, 0)
      assert.strictEqual((yield* sql`SELECT FROM shigoto.batches`).length, 0)
    }).pipe(Effect.provide(world(Wrong.layer)))
  })

  it.effect("is a member of an open batch, and counts in it as one", () => {
    const Done = Job.make("done")
    return Effect.gen(function* () {
      const batches = yield* Batches
      const id = yield* Batch.make("all", { onFinished: Done.prepare({}) }).open()
      yield* Diamond.enqueue({ n: 1, left: 1 }, { parent: id })
      yield* batches.seal(id)
      yield* ShigotoTest.drain
      assert.deepInclude(yield* batches.get(id), { total: 1, completed: 1, finished: true })
      yield* ShigotoTest.assertEnqueued({ job: Done, count: 1 })
    }).pipe(Effect.provide(world(Diamond.layer)))
  })
})

describe("a nested flow", () => {
  const Outer = Flow.make("outer", { input: { n: Schema.Int } }, (flow) => {
    const before = flow.node("before", Step, { args: ({ n }) => ({ name: "before", n }) })
    const first = flow.nest("first", Diamond, {
      after: { before },
      input: ({ n }, { before }) => ({ n: before, left: n })
    })
    const fixed = flow.nest("fixed", Diamond, { after: { before }, input: { n: 7, left: 1 } })
    const free = flow.nest("free", Diamond, { input: ({ n }) => ({ n, left: 1 }) })
    const last = flow.node("last", Step, {
      after: { first, all: [fixed, before, free] },
      args: (_, { all: [fixed, before, free], first }) => ({
        name: `last ${first.total} ${(fixed as { total: number }).total} ${before as number} ${(free as { total: number }).total}`
      })
    })
    return { first, last }
  })
  const Deep = Flow.make("deep", {}, (flow) => {
    const outer = flow.nest("outer", Outer, { input: { n: 1 } })
    return flow.nest("again", Diamond, {
      after: { outer: { node: outer, onFailure: "run" } },
      input: (_, { outer: { first, last } }) => ({
        n: first._tag === "Completed" && last._tag === "Completed" ? first.value.total + last.value : -1,
        left: 2
      })
    })
  })

  it.effect("runs between what it comes after and what comes after it, and gives its result", () =>
    Effect.gen(function* () {
      const flow = yield* Outer.enqueue({ n: 2 })
      yield* ShigotoTest.drain
      assert.strictEqual(
        ran.findLast(() => true),
        "last 4210 780 20 230 1"
      )
      assert.isBelow(ran.indexOf("before 2"), ran.indexOf("tip 7"))
      const { output, finished } = yield* Outer.status(flow.id)
      assert.isTrue(finished)
      assert.deepStrictEqual(
        Option.map(output, ({ first, last }) => [first.total, last]),
        Option.some([4210, 10])
      )
      assert.includeMembers(Object.keys(flow.nodes), ["before", "first/tip", "fixed/sum", "last"])
    }).pipe(Effect.provide(world(Outer.layer)))
  )

  it.effect("may hold others, to any depth", () =>
    Effect.gen(function* () {
      const { id, nodes } = yield* Deep.enqueue({})
      assert.include(Object.keys(nodes), "outer/first/left")
      yield* ShigotoTest.drain
      const { output } = yield* Deep.status(id)
      // A diamond comes to 10·n·(1 + 10·left) + 10: 1110 of the first, with the last's 10 the n of that which comes again.
      assert.strictEqual(Option.getOrThrow(output).total, 10 * 1120 * 21 + 10)
    }).pipe(Effect.provide(world(Deep.layer)))
  )

  it.effect("falls and comes back with what it comes after; who tolerates that is told", () =>
    Effect.gen(function* () {
      failing.add("before")
      const { id } = yield* Deep.enqueue({})
      yield* ShigotoTest.drain
      const fallen = yield* states(id)
      assert.deepInclude(fallen, {
        "outer/before": "discarded",
        "outer/first/tip": "cancelled",
        "outer/first/sum": "cancelled",
        "outer/free/sum": "completed",
        "outer/last": "cancelled",
        "again/tip": "completed"
      })
      assert.include(ran, "tip -1")
      failing.clear()
      yield* (yield* Flows).retry(id)
      yield* ShigotoTest.drain
      assert.deepStrictEqual(new Set(Object.values(yield* states(id))), new Set(["completed"]))
    }).pipe(Effect.provide(world(Deep.layer)))
  )
})

describe("any flow", () => {
  interface Drawn {
    readonly after: ReadonlyArray<{ readonly on: number; readonly onFailure: "cancel" | "run" | "hold" }>
    readonly fails: boolean
  }
  /** Twelve nodes, each after some of those before it. */
  const draw = Effect.gen(function* () {
    const nodes: Array<Drawn> = []
    for (let i = 0; i < 12; i++) {
      const after: Array<Drawn["after"][number]> = []
      for (let on = 0; on < i; on++) {
        if ((yield* Random.next) > 0.25) continue
        const policy = yield* Random.nextIntBetween(0, 3)
        after.push({ on, onFailure: (["cancel", "run", "hold"] as const)[policy] ?? "cancel" })
      }
      nodes.push({ after, fails: (yield* Random.next) < 0.25 })
    }
    return nodes
  })
  /** What the policies say becomes of each. */
  const foretell = (nodes: ReadonlyArray<Drawn>): ReadonlyArray<string> => {
    const states: Array<string> = []
    for (const { after, fails } of nodes) {
      const failed = after.filter(({ on }) => states[on] === "discarded" || states[on] === "cancelled")
      const stays =
        after.some(({ on }) => states[on] === "blocked") || failed.some(({ onFailure }) => onFailure === "hold")
      states.push(
        failed.some(({ onFailure }) => onFailure === "cancel")
          ? "cancelled"
          : stays
            ? "blocked"
            : fails
              ? "discarded"
              : "completed"
      )
    }
    return states
  }

  it.effect("comes to what its policies say, and to its end once what failed is retried", () =>
    Effect.gen(function* () {
      const flows = yield* Flows
      const met = new Set<string>()
      for (let round = 0; round < 25; round++) {
        const drawn = yield* draw.pipe(Random.withSeed(`flow ${round}`))
        const name = `round-${round}`
        const Drawn = Flow.make(name, {}, (flow) => {
          const nodes: Array<Flow.Node<number>> = []
          for (const [i, { after }] of drawn.entries()) {
            nodes.push(
              flow.node(`n${i}`, Step, {
                after: Object.fromEntries(
                  after.map(({ on, onFailure }) => [`n${on}`, { node: nodes[on] as Flow.Node<number>, onFailure }])
                ),
                args: (_, results) => ({ name: `${name}/n${i}`, n: Object.keys(results).length })
              })
            )
          }
        })
        yield* Layer.build(Drawn.layer)
        for (const [i, { fails }] of drawn.entries()) if (fails) failing.add(`${name}/n${i}`)
        const { id } = yield* Drawn.enqueue({})
        yield* ShigotoTest.drain
        const first = yield* flows.status(id)
        const foretold = foretell(drawn)
        for (const state of foretold) met.add(state)
        assert.deepStrictEqual(
          first.nodes.map(({ state }) => state),
          foretold as never,
          `${name}: ${JSON.stringify(drawn)}`
        )
        assert.strictEqual(first.finished, !foretold.includes("blocked"))
        const counted = (state: string) => foretold.filter((one) => one === state).length
        assert.deepInclude(first, {
          completed: counted("completed"),
          cancelled: counted("cancelled"),
          discarded: counted("discarded")
        })

        failing.clear()
        assert.strictEqual(yield* flows.retry(id), counted("discarded"))
        yield* ShigotoTest.drain
        const last = yield* flows.status(id)
        assert.deepInclude(
          last,
          { completed: 12, finished: true, outcome: "completed" },
          `${name}: ${JSON.stringify(drawn)}`
        )
        // Each ran once, and once more where it had failed.
        for (const [i, state] of foretold.entries()) {
          const times = ran.filter((what) => what.startsWith(`${name}/n${i} `)).length
          assert.strictEqual(times, state === "discarded" ? 2 : 1, `${name}/n${i}`)
        }
      }
      assert.sameMembers([...met], ["completed", "discarded", "cancelled", "blocked"])
    }).pipe(Effect.scoped, Effect.provide(world(Layer.empty)))
  )
})

describe("Flow.make", () => {
  it("throws where the graph cannot be used", () => {
    const refused = (build: (flow: Flow.Builder<{}>) => void, why: RegExp) =>
      assert.throws(() => Flow.make("f", {}, build), why)
    const step = { args: { name: "x" } }
    refused(() => {}, /has no nodes/)
    refused((flow) => flow.node("a/b", Step, step), /slash/)
    refused((flow) => flow.node("", Step, step), /cannot be part/)
    refused((flow) => {
      flow.node("a", Step, step)
      flow.node("a", Step, step)
    }, /there is a node of this name/)
    refused((flow) => {
      const a = flow.node("a", Step, step)
      flow.node("b", Step, { after: { one: a, two: [a] }, ...step })
    }, /comes before it twice/)
    refused((flow) => {
      const nested = flow.nest("nested", Diamond, { input: { n: 1, left: 1 } })
      flow.node("b", Step, { after: { nested, again: nested }, ...step })
    }, /comes before it twice/)
    let stranger: Flow.Node<number> | undefined
    Flow.make("other", {}, (flow) => {
      stranger = flow.node("a", Step, step)
    })
    refused(
      (flow) => flow.node("b", Step, { after: { a: stranger as Flow.Node<number> }, ...step }),
      /is no node of this flow/
    )
    refused((flow) => flow.node("b", Step, { after: { a: 5 as never }, ...step }), /is no node of this flow/)
    refused(
      (flow) =>
        flow.node("b", Step, { after: { a: { node: flow.node("a", Step, step), onFailure: "x" as never } }, ...step }),
      /is no policy/
    )
    refused((flow) => flow.node("b", Sum, { args: { label: "" } } as never), /reads the result of "first"/)
    refused((flow) => {
      const a = flow.node("a", Step, step)
      flow.node("b", Sum, { after: { first: { node: a, onFailure: "run" }, others: [] }, args: { label: "" } } as never)
    }, /cannot run without one/)
    assert.throws(() => Flow.make("f", {}, () => stranger), /has no nodes/)
    assert.throws(
      () =>
        Flow.make("f", {}, (flow) => {
          flow.node("a", Step, step)
          return stranger
        }),
      /its result cannot be part/
    )
    assert.throws(() => Flow.make(" ", {}, () => {}), /cannot name a flow/)
  })

  it("tells its graph", () => {
    assert.deepStrictEqual(Diamond.nodes, [
      { path: "tip", worker: "step", after: [], computed: false },
      { path: "left", worker: "step", after: ["tip"], computed: true },
      { path: "right", worker: "step", after: ["tip"], computed: false },
      { path: "sum", worker: "sum", after: ["tip", "right", "left"], computed: false }
    ])
  })
})
