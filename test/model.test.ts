/**
 * P1: any sequence of operations leaves the database where a pure model of the state machine says.
 *
 * Runs for some seconds; SHIGOTO_MODEL_RUNS asks for a number of sequences instead, SHIGOTO_MODEL_SEED for those of
 * an earlier run, and SHIGOTO_MODEL_REPLAY for the one that a failure named.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import type { AttemptFailure, JobId } from "../src/JobRow.ts"
import { nothing } from "../src/internal/newJob.ts"
import * as JobStore from "../src/JobStore.ts"
import { decide, type Ending } from "../src/Outcome.ts"
import * as ShigotoConfig from "../src/ShigotoConfig.ts"
import * as Model from "./model/model.ts"
import { Operation } from "./model/operation.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const hour = 3_600_000
const queues = ["x", "y"]

type Store = JobStore.JobStore["Service"]

interface ClaimMade {
  readonly node: number
  readonly id: number
  readonly epoch: number
  readonly attempt: number
  readonly maxAttempts: number
}

const storeWith = (cancelled: number) =>
  Effect.provide(
    JobStore.make,
    ShigotoConfig.layer({ timeSource: "clock", retention: { completed: 2 * hour, discarded: 5 * hour, cancelled } })
  )

const endingOf = (name: Ending["_tag"], attempt: number): Ending => {
  const failure: AttemptFailure = { attempt, at: "2026-01-01T00:00:00.000Z", node: "model", tag: name, message: name }
  switch (name) {
    case "Succeeded":
      return { _tag: name, result: "1" }
    case "Failed":
      return { _tag: name, failure, delayMillis: 1000 * attempt }
    case "Snoozed":
      return { _tag: name, delayMillis: 700 }
    case "DiscardAsked":
      return { _tag: name, failure }
    case "Forked":
      return { _tag: name, name: "fork", onFailure: "run", children: [] }
    case "CancelAsked":
      return { _tag: name, reason: "asked" }
    case "Interrupted":
      return { _tag: name }
  }
}

/** The jobs as the database has them, in the words of the model. */
const readJobs = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<Record<string, unknown> & { readonly id: bigint; readonly run_at: Date }>`
    SELECT id, state, attempt, max_attempts, epoch, claimed_by, coalesce(snoozes, 0) AS snoozes, run_at,
      cancel_requested_at IS NOT NULL AS cancel_requested,
      ARRAY(
        SELECT (error ->> 'tag') || ' ' || (error ->> 'attempt')
        FROM jsonb_array_elements(errors) AS error
      ) AS failures
    FROM shigoto.all_jobs
    ORDER BY id`
  return rows.map((row) => ({ ...row, id: Number(row.id), run_at: row.run_at.getTime() }))
})

const asColumns = (model: Model.Model) =>
  [...model.jobs.values()]
    .toSorted((a, b) => a.id - b.id)
    .map((job) => ({
      id: job.id,
      state: job.state,
      attempt: job.attempt,
      max_attempts: job.maxAttempts,
      epoch: job.epoch,
      claimed_by: job.claimedBy,
      snoozes: job.snoozes,
      run_at: job.runAt,
      cancel_requested: job.cancelRequested,
      failures: job.failures.map(({ attempt, tag }) => `${tag} ${attempt}`)
    }))

/** Does one sequence to the database and to the model, and compares after each operation. */
const follow = Effect.fnUntraced(function* (store: Store, keptCancelled: number, operations: ReadonlyArray<Operation>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DELETE FROM shigoto.jobs`
  yield* sql`DELETE FROM shigoto.jobs_archive`
  yield* sql`DELETE FROM shigoto.nodes`
  // Partitions begin with hours: each sequence starts at the same place among them.
  const today = yield* Clock.currentTimeMillis
  yield* TestClock.adjust(24 * hour - (today % (24 * hour)))

  let model = Model.empty(yield* Clock.currentTimeMillis, {
    completed: 2 * hour,
    discarded: 5 * hour,
    cancelled: keptCancelled
  })
  const ids: Array<number> = []
  const claims: Array<ClaimMade> = []
  const incarnations = [0, 0]
  for (const node of [0, 1]) {
    const registered = yield* store.register({ name: "model", ttlMillis: Model.ttl })
    incarnations[node] = registered
    model = Model.lease(model, registered)
  }
  const expectSame = (actual: unknown, expected: unknown, what: string) => assert.deepEqual(actual, expected, what)

  const apply = Effect.fnUntraced(function* (operation: Operation) {
    switch (operation._tag) {
      case "Nothing":
        return
      case "Advance": {
        yield* TestClock.adjust(operation.millis)
        model = { ...model, now: model.now + operation.millis }
        return
      }
      case "Enqueue": {
        const { delay, maxAttempts, priority, queue, worker } = operation
        const [inserted] = yield* store.insert([
          {
            worker,
            queue,
            args: "{}",
            priority,
            maxAttempts,
            due: { delayMillis: delay },
            tags: undefined,
            meta: undefined,
            partitionKey: undefined
          }
        ])
        const id: number = inserted?._tag === "Inserted" ? inserted.inserted.id : 0
        ids.push(id)
        model = Model.enqueue(model, { id, worker, queue, priority, maxAttempts, delay })
        return
      }
      case "Claim": {
        const node = incarnations[operation.node] ?? 0
        const names = operation.workers === "both" ? ["a", "b"] : [operation.workers]
        const workers = names.map((name) => ({ name, room: operation.room }))
        const request = { node, queue: operation.queue, limit: operation.limit, workers }
        const claimed = yield* store.claim({ ...request, nodeName: "model" })
        const [after, expected] = Model.claim(model, request)
        const actual = claimed.map(({ attempt, epoch, id, maxAttempts }) => ({ id, epoch, attempt, maxAttempts }))
        expectSame(actual, expected, "claimed")
        for (const claim of expected) claims.push({ node, ...claim })
        model = after
        return
      }
      case "Settle": {
        const chosen = new Map<number, { readonly claim: ClaimMade; readonly ending: Ending["_tag"] }>()
        for (const { claim: index, ending } of operation.claims) {
          const claim = claims[claims.length - 1 - (index % Math.max(claims.length, 1))]
          if (claim !== undefined) chosen.set(claim.id, { claim, ending })
        }
        const settlements = [...chosen.values()].map(({ claim, ending }) => ({
          id: claim.id as JobId,
          epoch: claim.epoch,
          outcome: decide(endingOf(ending, claim.attempt), { ...claim, cancel: undefined })
        }))
        const { verdicts } = yield* store.settle(settlements)
        const expected = settlements.map(({ epoch, id, outcome }) => {
          const [after, verdict] = Model.settle(model, id, epoch, outcome)
          model = after
          return verdict
        })
        expectSame(verdicts, expected, "verdicts")
        return
      }
      case "Look": {
        const node = incarnations[operation.node] ?? 0
        const look = yield* store.promote({
          id: node,
          queues: queues.map((name) => ({ name, isBusy: false })),
          workers: []
        })
        const [after, expected] = Model.promote(model, node, queues)
        expectSame(look, { ...expected, discards: false, queues: [] }, "look")
        model = after
        return
      }
      case "Rescue": {
        const { rescued } = yield* store.rescue("model")
        const runAt = new Map((yield* readJobs).map((row) => [row.id, row.run_at]))
        const [after, expected] = Model.rescue(model, (id) => runAt.get(id))
        const actual = rescued.map(({ attempt, id, state }) => ({ id, attempt, state }))
        expectSame(
          actual.toSorted((a, b) => a.id - b.id),
          expected,
          "rescued"
        )
        yield* store.sweep
        model = Model.sweep(after)
        return
      }
      case "Beat": {
        const node = incarnations[operation.node] ?? 0
        const { isLive } = yield* store.renew({
          id: node,
          workers: [],
          queues: [],
          limits: [],
          broken: [],
          lagMillis: 0,
          listening: false
        })
        const [after, expected] = Model.renew(model, node)
        expectSame(isLive, expected, "renewed")
        model = after
        if (isLive) return
        const registered = yield* store.register({ name: "model", ttlMillis: Model.ttl })
        incarnations[operation.node] = registered
        model = Model.lease(model, registered)
        return
      }
      case "Retire": {
        const node = incarnations[operation.node] ?? 0
        yield* store.retire(node)
        model = Model.retire(model, node)
        return
      }
      case "Reconcile": {
        const node = incarnations[operation.node] ?? 0
        const known = operation.knows ? claims.filter((claim) => claim.node === node).map(({ id }) => id) : []
        const { cancelled, given } = yield* store.reconcile({ id: node, known, graceMillis: operation.grace })
        const [after, back, ended] = Model.reconcile(model, node, known, operation.grace)
        const inOrder = (numbers: ReadonlyArray<number>) => numbers.toSorted((a, b) => a - b)
        expectSame(inOrder(given), back, "given back")
        expectSame(inOrder(cancelled.map(({ id }) => id)), ended, "cancelled instead")
        model = after
        return
      }
      case "Cancel":
      case "Retry": {
        const id = ids[operation.job % Math.max(ids.length, 1)]
        if (id === undefined) return
        const isCancel = operation._tag === "Cancel"
        const answer = yield* isCancel ? store.cancel(id as JobId, "model") : store.retry(id as JobId)
        const [after, expected] = isCancel ? Model.cancel(model, id) : Model.retry(model, id)
        // No job of the model is tied to another.
        const alone = "aftermath" in answer ? { aftermath: nothing } : {}
        expectSame(answer, { ...expected, ...alone }, operation._tag)
        model = after
        return
      }
      case "Prune": {
        yield* store.prune(operation.state)
        const there = new Set((yield* readJobs).map((row) => row.id))
        model = Model.prune(model, operation.state, (id) => there.has(id))
        return
      }
    }
  })

  for (const [i, operation] of operations.entries()) {
    const before = model
    yield* apply(operation)
    const where = `after operation ${i}, ${JSON.stringify(operation)}`
    expectSame(yield* readJobs, asColumns(model), where)
    for (const job of model.jobs.values()) {
      assert.isAtMost(job.attempt, job.maxAttempts, `attempts ${where}`)
      assert.isAtLeast(job.epoch, before.jobs.get(job.id)?.epoch ?? 0, `epoch ${where}`)
    }
  }
  return true
})

const Sequence = Schema.Struct({
  keepsCancelled: Schema.Boolean,
  operations: Schema.Array(Operation).check(Schema.isMinLength(40), Schema.isMaxLength(60))
})

describe("the life of a job", () => {
  it.effect(
    "follows the model, whatever is done in whatever order",
    () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(Date.UTC(2026, 0, 1))
        const stores = { kept: yield* storeWith(3 * hour), dropped: yield* storeWith(0) }
        const check = (options: Arbitrary.CheckOptions) =>
          Arbitrary.checkEffect(
            Arbitrary.schema(Sequence),
            ({ keepsCancelled, operations }) =>
              // A failed assertion is a defect; as a failure it is shrunk and told with its replay.
              Effect.catchCause(
                keepsCancelled ? follow(stores.kept, 3 * hour, operations) : follow(stores.dropped, 0, operations),
                (cause) => Effect.fail(cause)
              ),
            { size: 60, maxShrinks: 200, ...options }
          )
        const replay = process.env["SHIGOTO_MODEL_REPLAY"]
        const wanted = Number(process.env["SHIGOTO_MODEL_RUNS"] ?? 0)
        const seed = process.env["SHIGOTO_MODEL_SEED"] ?? String(performance.timeOrigin)
        const started = performance.now()
        for (let runs = 0; runs === 0 || (wanted > 0 ? runs < wanted : performance.now() - started < 15_000); runs++) {
          const result = yield* check(replay === undefined ? { runs: 1, seed: `${seed}/${runs}` } : { replay })
          const failure = Arbitrary.formatCheckFailure(result)
          if (failure !== undefined) return assert.fail(`SHIGOTO_MODEL_SEED=${seed}, sequence ${runs}\n${failure}`)
        }
      }).pipe(Effect.provide(TestDatabase.layer({ maxConnections: 2 }))),
    { timeout: 3_600_000 }
  )
})
