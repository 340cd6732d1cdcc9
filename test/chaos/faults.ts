/** How each fault of the plan is brought about, and taken back. */
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Schedule, type Scope, Semaphore } from "effect"
import type { Queues } from "effect-shigoto"
import type { EmbeddedPostgres } from "effect-shigoto/embedded"
import type { Pooler } from "../setup/pooler.ts"
import type { Fleet, Member } from "./fleet.ts"
import type { Fault } from "./plan.ts"
import * as Refusals from "./refusals.ts"
import { burialDelay, longestDelay } from "./settings.ts"
import { Truth } from "./truth.ts"

/** Statements whose reply may be lost, each by a piece of its text that no other has. */
const markers = {
  worker: [
    ["settle", "WITH outcome AS ("],
    ["claim", "WITH candidate AS MATERIALIZED"],
    ["renew", "SET beat_at"],
    ["promote", "WITH due AS MATERIALIZED"],
    ["rescue or reconcile", "WITH lost AS MATERIALIZED"],
    ["begin", "BEGIN ISOLATION LEVEL"]
  ],
  producer: [
    ["enqueue", "inserted_at, tags, meta, partition_key"],
    ["begin", "BEGIN ISOLATION LEVEL"],
    // The whole of it: READ COMMITTED holds the word, too.
    ["commit", "COMMIT\0"],
    ["cancel", "WITH gone AS"],
    ["retry", "WITH finished AS"]
  ]
} as const

export const makeFaults = Effect.fnUntraced(function* (
  fleet: Fleet,
  server: EmbeddedPostgres.Server,
  queues: Queues["Service"],
  pooler: Pooler | undefined
) {
  const truth = yield* Truth
  const sql = yield* PgClient.PgClient
  // Somebody must be left to rescue the others.
  const impairments = yield* Semaphore.make(Math.max(fleet.workers.length - 1, 1))
  // Server-wide settings are set and taken back by one fault at a time.
  const settings = yield* Semaphore.make(1)
  const mortals = fleet.workers.filter(({ isSpared }) => !isSpared)
  const everybody = [...fleet.workers, ...fleet.producers]

  const within = (
    fault: Fault,
    target: Member | undefined,
    effect: Effect.Effect<unknown, unknown, Scope.Scope>
  ): Effect.Effect<void> => {
    const row = { id: fault.id, kind: fault.kind, target: target?.current().name }
    const detail = JSON.stringify({ millis: fault.millis })
    return Effect.acquireUseRelease(
      truth.write("fault", { ...row, phase: "begin", detail }),
      () => Effect.scoped(effect).pipe(Effect.ignore({ log: "Debug" })),
      () => truth.write("fault", { ...row, phase: "end", detail: "{}" })
    )
  }
  /** Whatever a fault changed is taken back, however long the database is away. */
  const surely = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.orDie(Effect.retry(effect, { schedule: Schedule.spaced("100 millis"), times: 300 }))
  const setting = (name: string, value: string) =>
    Effect.acquireRelease(
      surely(Effect.andThen(sql.unsafe(`ALTER SYSTEM SET ${name} = ${value}`), sql`SELECT pg_reload_conf()`)),
      () => surely(Effect.andThen(sql.unsafe(`ALTER SYSTEM RESET ${name}`), sql`SELECT pg_reload_conf()`))
    )
  const lockJobs = (millis: number) =>
    sql.withTransaction(Effect.andThen(sql`LOCK TABLE shigoto.jobs IN ACCESS EXCLUSIVE MODE`, Effect.sleep(millis)))

  return (fault: Fault): Effect.Effect<void> => {
    const { choice, millis } = fault
    const worker = fleet.workers[choice % fleet.workers.length] as Member
    const member = everybody[choice % everybody.length] as Member
    const mortal = mortals[choice % mortals.length] as Member
    const { proxy } = member
    switch (fault.kind) {
      case "kill":
        return within(fault, mortal, fleet.kill(mortal))
      case "term":
        return within(fault, mortal, fleet.term(mortal))
      case "deploy":
        return within(
          fault,
          undefined,
          Effect.forEach(mortals, (each) =>
            Effect.gen(function* () {
              each.version = each.version === 1 ? 2 : 1
              yield* fleet.term(each)
              yield* Effect.timeoutOption(Deferred.await(each.current().ready), "10 seconds")
            })
          )
        )
      case "stop":
        return impairments.withPermits(1)(
          within(
            fault,
            worker,
            Effect.gen(function* () {
              const { child } = worker.current()
              yield* Effect.acquireRelease(
                Effect.sync(() => child.kill("SIGSTOP")),
                () => Effect.sync(() => child.kill("SIGCONT"))
              )
              yield* Effect.sleep(millis)
            })
          )
        )
      case "restart":
        return within(fault, undefined, server.restart("immediate"))
      case "terminate":
        return within(
          fault,
          undefined,
          sql`SELECT pg_terminate_backend(pid)
            FROM pg_stat_activity
            WHERE application_name ~ 'worker|producer'
            ORDER BY hashint8(pid + ${choice}::bigint)
            LIMIT 3`
        )
      case "lost-reply":
        return within(
          fault,
          member,
          Effect.gen(function* () {
            const choices = markers[member.role]
            const [statement, marker] = choices[(choice >> 4) % choices.length] as (typeof choices)[number]
            const before = proxy.dropped()
            yield* Effect.acquireRelease(
              Effect.sync(() => proxy.dropReplyOf(marker)),
              () => Effect.sync(() => proxy.dropReplyOf(undefined))
            )
            yield* Effect.sleep("20 millis").pipe(
              Effect.repeat({ while: () => proxy.dropped() === before }),
              Effect.andThen(
                truth.write("fault", { id: fault.id, kind: statement, target: member.current().name, phase: "lost" })
              ),
              Effect.timeoutOption(millis)
            )
          })
        )
      case "blackhole":
        return impairments
          .withPermits(1)(
            within(
              fault,
              member,
              Effect.andThen(
                Effect.acquireRelease(
                  Effect.sync(() => proxy.blackhole()),
                  () => Effect.sync(() => proxy.heal())
                ),
                Effect.sleep(millis)
              )
            )
          )
          .pipe(Effect.andThen(bury(member)))
      case "freeze":
        return within(
          fault,
          member,
          Effect.andThen(
            Effect.sync(() => proxy.freeze()),
            Effect.sleep(millis)
          )
        ).pipe(Effect.andThen(bury(member)))
      case "latency":
        return within(
          fault,
          member,
          Effect.andThen(
            Effect.acquireRelease(
              Effect.sync(() => proxy.delay(50 + (choice % (longestDelay / 1.5 - 50)))),
              () => Effect.sync(() => proxy.delay(0))
            ),
            Effect.sleep(millis)
          )
        )
      case "reset":
        return within(
          fault,
          member,
          Effect.sync(() => proxy.cut())
        )
      case "lock":
        return within(fault, undefined, lockJobs(millis))
      case "timeouts":
        return settings.withPermits(1)(
          within(
            fault,
            undefined,
            Effect.gen(function* () {
              yield* setting(choice % 2 === 0 ? "statement_timeout" : "lock_timeout", "'100ms'")
              yield* lockJobs(millis / 3)
              yield* Effect.sleep(millis / 3)
              yield* lockJobs(millis / 3)
            })
          )
        )
      case "read-only":
        return settings.withPermits(1)(
          within(fault, undefined, Effect.andThen(setting("default_transaction_read_only", "on"), Effect.sleep(millis)))
        )
      case "disk-full":
      case "race":
        return settings.withPermits(1)(
          within(
            fault,
            undefined,
            Effect.andThen(
              Effect.acquireRelease(surely(fault.kind === "race" ? Refusals.race(sql) : Refusals.fillDisk(sql)), () =>
                surely(Refusals.clear(sql))
              ),
              Effect.sleep(millis)
            )
          )
        )
      case "pooler":
        return within(fault, undefined, pooler?.restart ?? Effect.void)
      case "snapshot":
        return within(
          fault,
          undefined,
          sql.withTransaction(
            Effect.gen(function* () {
              yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
              yield* sql`SELECT count(*) FROM shigoto.jobs`
              yield* Effect.sleep(millis)
            })
          )
        )
      case "pause":
        return within(fault, undefined, pause(truth, queues, millis))
    }
  }
})

// internal

/** The server hears of half-open connections in the end. */
const bury = (member: Member) =>
  Effect.delay(
    Effect.sync(() => member.proxy.bury()),
    burialDelay
  )

const pause = (truth: Truth["Service"], queues: Queues["Service"], millis: number) => {
  const record = (op: string, phase: string) => truth.write("client", { process: "chaos", op, phase })
  return Effect.acquireUseRelease(
    Effect.andThen(queues.pause("pausable"), record("pause", "ack")),
    () => Effect.sleep(millis),
    () =>
      Effect.andThen(
        record("resume", "intent"),
        Effect.retry(queues.resume("pausable"), Schedule.spaced("100 millis")).pipe(Effect.orDie)
      )
  )
}
