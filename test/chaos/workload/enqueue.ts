/** A producer's enqueues: one, many, in a transaction that commits, in one that rolls back. */
import { PgClient } from "@effect/sql-pg"
import { type Cause, Effect } from "effect"
import type { Batches, JobId, Jobs } from "effect-shigoto"
import type { Random } from "../random.ts"
import { Truth } from "../truth.ts"
import { crowd, type Draft, draw } from "./draw.ts"
import { type Args, batchOf, Bounded, callbackKey, Hang, Late, Metered, Once, Tenant, tickArgs, Work } from "./jobs.ts"

/** What is known of the jobs that this producer enqueued; for whoever cancels and retries them. */
export interface Known {
  readonly ids: Array<number>
}

export const makeEnqueue = Effect.fnUntraced(function* (process: string, known: Known) {
  const truth = yield* Truth
  const sql = yield* PgClient.PgClient
  let keys = 0
  const nextKey = (): string => `${process}-${++keys}`

  const intend = (op: string, drafts: ReadonlyArray<Draft>) =>
    truth.writeAll(
      "client",
      drafts.map(({ args, definition, options }) => ({
        process,
        op,
        phase: "intent",
        key: args.key,
        detail: JSON.stringify({ definition, args, ...options })
      }))
    )
  const acknowledge = (op: string, drafts: ReadonlyArray<Draft>, ids: ReadonlyArray<number>) => {
    known.ids.push(...ids)
    known.ids.splice(0, known.ids.length - 500)
    return truth.writeAll(
      "client",
      drafts.map(({ args }, i) => ({ process, op, phase: "ack", key: args.key, job: ids[i] }))
    )
  }
  const refuse = (op: string, drafts: ReadonlyArray<Draft>, cause: Cause.Cause<{ readonly _tag: string }>) =>
    truth.writeAll(
      "client",
      drafts.map(({ args }) => ({
        process,
        op,
        phase: "error",
        key: args.key,
        detail: JSON.stringify({
          error: cause.reasons.map((reason) => (reason._tag === "Fail" ? reason.error._tag : reason._tag))
        })
      }))
    )
  const record = <E extends { readonly _tag: string }>(
    op: string,
    drafts: ReadonlyArray<Draft>,
    call: Effect.Effect<ReadonlyArray<number>, E, Jobs | Batches>
  ) =>
    Effect.andThen(
      intend(op, drafts),
      // A connection lost inside of a transaction comes back as a defect.
      Effect.matchCauseEffect(call, {
        onFailure: (cause) => refuse(op, drafts, cause),
        onSuccess: (ids) => acknowledge(op, drafts, ids)
      })
    )

  /** Does one thing and returns how many jobs it was about. */
  return Effect.fnUntraced(function* (random: Random) {
    const op = random.weighted([
      [70, "one"],
      [8, "many"],
      [10, "transaction"],
      [6, "rollback"],
      [12, "unique"],
      [4, "diamond"],
      [4, "batch"],
      [2, "crowd"]
    ] as const)
    if (op === "one") {
      const draft = draw(random, nextKey())
      yield* record(
        op,
        [draft],
        Effect.map(enqueue(draft), (id) => [id])
      )
      return 1
    }
    if (op === "unique") {
      const draft = draw(random, nextKey())
      const args = { ...calm(draft.args), slot: `slot ${random.int(1, 40)}` }
      yield* record(
        op,
        [{ ...draft, definition: "once", args }],
        Effect.map(Once.enqueue(args, draft.options), ({ id }) => [Number(id)])
      )
      return 1
    }
    if (op === "diamond") {
      const drafts = Array.from({ length: 4 }, () => draw(random, nextKey()))
      const onFailure = random.pick(["cancel", "run"] as const)
      yield* record(op, drafts, sql.withTransaction(diamond(drafts, onFailure)))
      return drafts.length
    }
    if (op === "batch") {
      const key = nextKey()
      const drafts = Array.from({ length: random.int(1, 12) }, () => draw(random, nextKey()))
      const options = { queue: "fast", priority: 0, delay: 0, maxAttempts: 20 }
      yield* intend("callback", [{ definition: "work", args: { ...tickArgs, key: callbackKey(key) }, options }])
      yield* record(
        op,
        drafts,
        batchOf(key)
          .enqueue(drafts.map(({ args, definition, options }) => definitions[definition].prepare(args, options)))
          .pipe(Effect.map(({ jobs }) => jobs.map(({ id }) => Number(id))))
      )
      return drafts.length
    }
    if (op === "crowd") {
      const drafts = crowd(random, nextKey)
      yield* record(
        op,
        drafts,
        (drafts[0]?.definition === "bounded" ? Bounded : drafts[0]?.definition === "metered" ? Metered : Tenant)
          .enqueueAll(
            drafts.map(({ args }) => args),
            (_, i) => (drafts[i] as Draft).options
          )
          .pipe(Effect.map((results) => results.map((result) => result.id)))
      )
      return drafts.length
    }
    const drafts = Array.from({ length: op === "many" ? random.int(2, 150) : random.int(2, 20) }, () =>
      draw(random, nextKey())
    )
    if (op === "many") {
      // One call, one definition.
      const works = drafts.map((draft): Draft => ({ ...draft, definition: "work", args: calm(draft.args) }))
      yield* record(
        op,
        works,
        Work.enqueueAll(
          works.map((draft) => draft.args),
          (_, i) => (works[i] as Draft).options
        ).pipe(Effect.map((results) => results.map((result) => result.id)))
      )
      return works.length
    }
    const all = Effect.forEach(drafts, (draft) => enqueue(draft))
    const transaction = sql.withTransaction(op === "rollback" ? Effect.andThen(all, Effect.fail(rolledBack)) : all)
    yield* record(op, drafts, transaction)
    return op === "rollback" ? 0 : drafts.length
  })
})

// internal

const rolledBack = { _tag: "RolledBack" } as const

/** Only one definition has a timeout short enough for those that hang. */
const calm = (args: Args): Args => (args.kind === "hang" ? { ...args, kind: "ok" } : args)

const definitions = {
  work: Work,
  hang: Hang,
  late: Late,
  once: Once,
  bounded: Bounded,
  metered: Metered,
  tenant: Tenant
} as const

const enqueue = ({ args, definition, options }: Draft, extra: Parameters<typeof Work.enqueue>[1] = {}) =>
  Effect.map(definitions[definition].enqueue(args, { ...options, ...extra }), ({ id }) => Number(id))

/** One job, two that wait for it, and one that waits for both. */
const diamond = Effect.fnUntraced(function* (drafts: ReadonlyArray<Draft>, onFailure: "cancel" | "run") {
  const after = (...parents: ReadonlyArray<number>) => ({
    dependsOn: parents.map((id) => ({ id: id as JobId, onFailure })) // ids come back as numbers
  })
  const [top, left, right, bottom] = drafts as [Draft, Draft, Draft, Draft]
  const a = yield* enqueue(top)
  const b = yield* enqueue(left, after(a))
  const c = yield* enqueue(right, after(a))
  return [a, b, c, yield* enqueue(bottom, after(b, c))]
})
