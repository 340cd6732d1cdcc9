/**
 * The checker of `npm run chaos` can see: for each invariant a history that breaks it is found, one that is in order
 * passes, and outcomes of a real settle without its fence are noticed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { check, invariants } from "./chaos/check.ts"
import { removeFence } from "./chaos/fence.ts"
import * as RowLog from "./chaos/rowLog.ts"
import * as Truth from "./chaos/truth.ts"
import { History } from "./fixtures/history.ts"
import { onDatabase } from "./integration/support.ts"
import * as Run from "./setup/run.ts"
import { makeProxy } from "./setup/proxy.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"
import * as JobStore from "../src/JobStore.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"

/** What breaks each invariant, on top of a history that is in order. */
const offences: ReadonlyArray<readonly [id: string, what: string, commit: (history: History) => unknown]> = [
  ["I1", "a job that never ends", (h) => h.enqueue(2)],
  ["I1", "an acknowledged job without a row", (h) => h.client({ op: "one", phase: "ack", key: "gone", job: 9 })],
  ["I2", "a row that nobody meant", (h) => h.step(2, {}, { state: "available" }, { key: "nobody's" })],
  ["I2b", "two rows of one enqueue", (h) => h.live(2).step(3, {}, { state: "available" }, { key: "key 2" })],
  ["I3", "a job that completes unclaimed", (h) => h.enqueue(2).step(2, { state: "available" }, { state: "completed" })],
  ["I3", "a claim that keeps its epoch", (h) => h.enqueue(2).claim(2, { epoch: 0 })],
  ["I3a", "a second end of one life", (h) => h.live(2).step(2, { state: "executing" }, { state: "discarded" })],
  ["I3a", "a retry that nobody asked for", (h) => h.live(2).retry(2)],
  ["I3b", "a completion without an end", (h) => h.enqueue(2).claim(2).start(2).settle(2, "completed")],
  ["I3b", "a completion before its end", (h) => h.enqueue(2).claim(2).start(2).settle(2, "completed").end(2, "ok")],
  ["I3c", "a discard with attempts left", (h) => h.enqueue(2).claim(2).start(2).end(2, "fail").settle(2, "discarded")],
  [
    "I3c",
    "a cancellation that nobody asked for",
    (h) => h.enqueue(2).step(2, { state: "available" }, { state: "cancelled" })
  ],
  ["I4", "two attempts at a time", (h) => h.enqueue(2).claim(2).start(2).claim(2, { epoch: 2 }).start(2, { epoch: 2 })],
  ["I4a", "a claim that starts twice", (h) => h.enqueue(2).claim(2).start(2).start(2)],
  ["I4a", "a start on a node that did not claim", (h) => h.enqueue(2).claim(2).start(2, { process: "worker-2-1" })],
  ["I5", "an attempt too many", (h) => h.enqueue(2, { max_attempts: 1 }).claim(2).claim(2, { attempt: 2 })],
  ["I5", "an attempt that is not counted", (h) => h.live(2).final(2, { attempt: 0 })],
  ["I6", "a batch without its callback", (h) => h.batch({ id: 7 })],
  ["I6", "two callbacks", (h) => h.batch({ id: 7 }).live(2, { callback_of: 7 }).live(3, { callback_of: 7 })],
  [
    "I6",
    "a callback before its batch's end",
    (h) => h.batch({ id: 7, total: 1, completed: 1 }).enqueue(2, { batch: 7 }).live(3, { callback_of: 7 })
  ],
  [
    "I6",
    "counts that are not those of the members",
    (h) => h.batch({ id: 7, total: 1, discarded: 1 }).live(2, { batch: 7 }).live(3, { callback_of: 7 })
  ],
  [
    "I7",
    "a tick left out",
    (h) => h.live(2, { worker: "tick", scheduled_for: h.at(0) }).live(3, { worker: "tick", scheduled_for: h.at(2000) })
  ],
  [
    "I7",
    "a tick twice",
    (h) => h.live(2, { worker: "tick", scheduled_for: h.at(0) }).live(3, { worker: "tick", scheduled_for: h.at(0) })
  ],
  ["I8", "a start before what it waits for", (h) => h.enqueue(2).live(3).edge(3, 2, "run")],
  [
    "I8",
    "a start after what it minds ended badly",
    (h) => h.enqueue(2).step(2, { state: "available" }, { state: "cancelled" }).live(3).edge(3, 2, "cancel")
  ],
  [
    "I8b",
    "a wait for what has ended",
    (h) =>
      h
        .live(2)
        .edge(3, 2, "run")
        .step(3, {}, { state: "blocked" })
        .pass(31_000)
        .step(3, { state: "blocked" }, { state: "available" })
  ],
  ["I8a", "a part of nothing", (h) => h.live(2, { worker: "part", key: "key 1/0" })],
  ["I8a", "a fan-out without its parts", (h) => h.enqueue(2).claim(2).fork(2).edge(2, 9, "run")],
  ["I9", "one too many at once", (h) => [2, 3, 4, 5].forEach((id) => h.enqueue(id, { worker: "bounded" }).claim(id))],
  [
    "I9",
    "one too many of a key",
    (h) => [2, 3, 4].forEach((id) => h.enqueue(id, { worker: "tenant", queue: "sites", part: "ada" }).claim(id))
  ],
  [
    "I10",
    "one too many in a second",
    (h) => Array.from({ length: 11 }, (_, i) => h.live(i + 2, { worker: "metered" }))
  ],
  ["I11", "two of one key", (h) => h.enqueue(2, { slot: "a" }).enqueue(3, { slot: "a" })],
  ["I12", "a row that was rolled back", (h) => h.live(2, {}, "rollback")],
  [
    "I12b",
    "an acknowledged job of another key",
    (h) => h.live(2).client({ op: "one", phase: "ack", key: "other", job: 2 })
  ],
  ["I13", "a job left executing by a stop", (h) => h.enqueue(2).claim(2).fleet("term").fleet("exit", { code: 0 })],
  [
    "I14",
    "an outcome of somebody else",
    (h) => h.enqueue(2).claim(2).start(2).end(2, "ok").settle(2, "completed", { app: "worker-2-1" })
  ],
  [
    "I15",
    "a job that stays with the dead",
    (h) => h.enqueue(2).claim(2).fleet("kill").fleet("exit", { signal: "SIGKILL" })
  ],
  [
    "I16",
    "a claim from a paused queue",
    (h) => h.client({ op: "pause", phase: "ack" }).pass(5000).enqueue(2, { queue: "pausable" }).claim(2)
  ],
  [
    "I17",
    "a job that is passed over again and again",
    (h) => {
      h.enqueue(2)
      for (const id of [3, 4]) h.pass(1500).enqueue(id).claim(id)
      h.enqueue(5).pass(1500).claim(5).pass(1500).claim(2)
    }
  ],
  [
    "I17",
    "a job that is passed over after the transaction that held it",
    (h) => {
      h.enqueue(2)
      for (const id of [3, 4]) h.pass(5000).enqueue(id).claim(id)
      h.open(6000, { locks_jobs: true })
      for (const id of [5, 6]) h.pass(5000).enqueue(id).claim(id)
      h.pass(5000).claim(2)
    }
  ],
  [
    "I18",
    "a tenant that starves",
    (h) => {
      const fair = (part: string) => ({ worker: "tenant", queue: "fair", part })
      for (let id = 2; id < 62; id++) h.enqueue(id, fair(id < 32 ? "ada" : "bob"))
      h.pass(5000)
      for (let id = 2; id < 22; id++) h.claim(id)
    }
  ],
  ["I19", "a process that ends by itself", (h) => h.fleet("exit", { code: 1 })],
  ["I19a", "a process that does not stop", (h) => h.fleet("term").fleet("deaf")],
  ["I19b", "a heap that grows", (h) => h.grow({ heap: 1_000_000 })],
  ["I19b", "timers that pile up", (h) => h.grow({ handles: 1 })],
  [
    "I20",
    "a connection too many",
    (h) => [0, 550, 550].forEach((millis) => h.pass(millis).sample({ connections: 50 }))
  ],
  ["I20", "a lock left behind", (h) => h.sample({ advisory: 1 })],
  ["I20a", "a transaction left open", (h) => h.beat(2000).open(1100)],
  [
    "I20a",
    "a transaction left open beyond what a blocked event loop explains",
    (h) => h.beat(1000).pass(2000).beat(100).open(3200)
  ],
  ["I21", "a claim before its time", (h) => h.enqueue(2, { run_at: h.at(60_000) }, "one", { delay: 60_000 }).claim(2)],
  ["I21", "a start before the delay asked for", (h) => h.live(2, {}, "one", { delay: 60_000 })],
  [
    "I22",
    "args that changed",
    (h) =>
      h
        .enqueue(2)
        .claim(2)
        .start(2, { args: { key: "else" } })
  ],
  ["I23", "a job that the history lost", (h) => h.live(2).forget(2)],
  ["I23", "a job that ended otherwise", (h) => h.live(2).final(2, { state: "discarded" })],
  [
    "I25",
    "a discard that nobody hears of",
    (h) => h.enqueue(2).claim(2).start(2).end(2, "discard").settle(2, "discarded")
  ],
  ["I24", "a report of what is not so", (h) => h.told({ tag: "Discarded", job: 1, attempt: 1 })]
]

/** What looks like an offence and is none. */
const excused: ReadonlyArray<readonly [id: string, what: string, commit: (history: History) => unknown]> = [
  [
    "I4",
    "a start whose record waited in a process that was stopped, while the job was rescued and began elsewhere",
    (h) => {
      const began = h.enqueue(2).claim(2).now()
      h.pass(3000).rescue(2).retry(2).claim(2).start(2)
      h.start(2, { epoch: 1, began })
    }
  ],
  [
    "I8b",
    "a wait for one that lives",
    (h) =>
      h
        .enqueue(2)
        .edge(3, 2, "run")
        .step(3, {}, { state: "blocked" })
        .pass(60_000)
        .step(3, { state: "blocked" }, { state: "available" })
  ],
  [
    "I13",
    "a job that a stop could not give back, since nothing could be written",
    (h) =>
      h
        .enqueue(2)
        .claim(2)
        .fault("disk-full", "begin", null)
        .fleet("term")
        .fault("disk-full", "end", null)
        .fleet("exit", { code: 0 })
  ],
  [
    "I17",
    "a job that a transaction holds for all that time",
    (h) => {
      h.enqueue(2)
      for (const id of [3, 4, 5]) h.pass(5000).enqueue(id).claim(id)
      h.open(16_000, { locks_jobs: true }).pass(5000).claim(2)
    }
  ],
  ["I17", "a job that is passed over once", (h) => h.enqueue(2).enqueue(3).pass(5000).claim(3).pass(5000).claim(2)],
  [
    "I20",
    "one connection more for less than a second, twice",
    (h) => {
      for (const _ of [1, 2]) h.sample({ connections: 50 }).pass(900).sample({ connections: 50 }).pass(900).sample({})
    }
  ],
  [
    "I20",
    "one connection more while the event loop is blocked",
    (h) => h.beat(1000).sample({ connections: 50 }).pass(1500).sample({ connections: 50 }).beat(100)
  ],
  [
    "I20",
    "one connection more on a network that is bad",
    (h) =>
      h
        .fault("latency", "begin")
        .sample({ connections: 50 })
        .pass(1500)
        .sample({ connections: 50 })
        .fault("latency", "end")
  ],
  ["I20", "one connection more as its process dies", (h) => h.sample({ connections: 50 })],
  ["I20a", "a transaction whose event loop is blocked", (h) => h.beat(1000).pass(2000).beat(100).open(2500)],
  [
    "I20a",
    "a transaction whose process died with its event loop blocked",
    (h) => h.beat(1000).pass(2000).open(2500).fleet("exit")
  ],
  [
    "I20a",
    "a transaction on a network that is bad",
    (h) => h.beat(1000).fault("latency", "begin").beat(2000).open(2500).fault("latency", "end")
  ]
]

/** What the checker finds in a history. */
const judge = Effect.fnUntraced(function* (history: History) {
  const { sql } = yield* Truth.Truth
  yield* sql`DROP SCHEMA public CASCADE`
  yield* sql`CREATE SCHEMA public`
  yield* Truth.createTables
  yield* RowLog.createTables
  yield* history.write(sql)
  yield* RowLog.derive
  return yield* check
})

const onTruth = (name: string, body: () => Effect.Effect<void, unknown, Truth.Truth>) =>
  onDatabase(
    name,
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* Effect.provide(body(), Truth.layer(Redacted.value(url)))
      }),
    { empty: true }
  )

describe("the checker", () => {
  onTruth("finds nothing in a history that is in order", () =>
    Effect.gen(function* () {
      const findings = yield* judge(new History())
      assert.deepStrictEqual(
        findings.filter(({ offenders }) => offenders.length > 0).map(({ invariant }) => invariant.id),
        []
      )
    })
  )

  it("has an offence for each invariant", () => {
    assert.sameMembers(
      [...new Set(offences.map(([id]) => id))],
      invariants.map(({ id }) => id)
    )
  })

  onTruth("excuses what a process could not help, and nothing after it", () =>
    Effect.gen(function* () {
      for (const [id, what, commit] of excused) {
        const history = new History()
        commit(history)
        const finding = (yield* judge(history)).find(({ invariant }) => invariant.id === id)
        assert.deepStrictEqual(finding?.offenders, [], `${id} sees ${what}`)
      }
    })
  )

  onTruth("finds each offence, and counts it among the cases", () =>
    Effect.gen(function* () {
      for (const [id, what, commit] of offences) {
        const history = new History()
        commit(history)
        const finding = (yield* judge(history)).find(({ invariant }) => invariant.id === id)
        assert.isAbove(finding?.offenders.length ?? 0, 0, `${id} does not see ${what}`)
        assert.isAbove(finding?.cases ?? 0, 0, `${id} does not count ${what}`)
      }
    })
  )
})

/** Two nodes; the first has lost its job to the second and settles it all the same. What the checker then finds. */
const late = Effect.fnUntraced(function* (rewrite: ((chunk: Buffer) => Buffer) | undefined) {
  const { url } = yield* TestDatabase
  const direct = Redacted.value(url)
  const config = yield* ShigotoConfig.make({ queryTimeout: "30 seconds" })
  const open = Effect.fnUntraced(function* (name: string, through: string) {
    const client = yield* Layer.build(Run.layerClient(through, { applicationName: name, prepare: false }))
    const store = yield* JobStore.make.pipe(
      Effect.provide(client),
      Effect.provideService(ShigotoConfig.ShigotoConfig, config)
    )
    const node = yield* store.register({ name, ttlMillis: 600_000 })
    const claim = store.claim({
      node,
      nodeName: name,
      queue: "default",
      limit: 1,
      workers: [{ name: "work", room: Infinity }]
    })
    return { store, node, claim }
  })
  const sql = yield* PgClient.PgClient
  const truth = yield* Truth.Truth
  yield* Truth.createTables
  yield* RowLog.install(sql)
  const first = yield* open("worker-1-1", (yield* makeProxy(direct, rewrite)).url)
  const second = yield* open("worker-2-1", direct)
  yield* sql`SELECT shigoto.enqueue('work', '{}'::jsonb, queue => 'default')`
  const [job] = yield* first.claim
  if (job === undefined) return yield* Effect.die("nothing was claimed")
  const began = new Date().toISOString()
  yield* truth.write("handler", { kind: "start", process: "worker-1-1", job: job.id, epoch: job.epoch, began })
  yield* truth.write("handler", { kind: "end", process: "worker-1-1", job: job.id, epoch: job.epoch, outcome: "ok" })
  yield* sql`UPDATE shigoto.nodes SET expires_at = '-infinity' WHERE id = ${first.node}`
  yield* second.store.rescue("worker-2-1")
  yield* sql`UPDATE shigoto.jobs SET state = 'available', run_at = now() - interval '1 second'`
  assert.lengthOf(yield* second.claim, 1)
  yield* first.store.settle([{ id: job.id, epoch: job.epoch, outcome: { _tag: "Completed", result: undefined } }])
  yield* RowLog.collect(sql)
  const findings = yield* check
  return findings.filter(({ offenders }) => offenders.length > 0).map(({ invariant }) => invariant.id)
})

describe("a late outcome", () => {
  const fences = [
    ["is refused", undefined, false],
    ["without the fence is taken, and noticed", removeFence, true]
  ] as const
  for (const [what, rewrite, noticed] of fences) {
    onDatabase(what, () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const broken = yield* Effect.provide(late(rewrite), Truth.layer(Redacted.value(url)))
        for (const id of ["I3b", "I14"]) assert.strictEqual(broken.includes(id), noticed, `${id} of ${broken.join()}`)
      })
    )
  }
})
