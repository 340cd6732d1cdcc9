/** A fail-over to a replica: what was acknowledged is there, and nodes go on without a restart. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Job from "../../src/Job.ts"
import type { JobId } from "../../src/JobRow.ts"
import { directory } from "../embedded/support.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, reaches, startNode } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number } })
const Long = Job.make("long")

/** A server and a replica of it that it waits for with each commit. */
const makePair = Effect.gen(function* () {
  const home = yield* directory
  const own = Path.join(home, "own")
  const copy = Path.join(home, "copy")
  yield* Effect.scoped(EmbeddedPostgres.make({ dataDir: own }))
  // A copy of a stopped server is a base backup; owners and rights go along.
  execFileSync("cp", ["-a", own, copy])
  Fs.writeFileSync(Path.join(copy, "standby.signal"), "")
  const scope = yield* Scope.fork(yield* Effect.scope)
  const primary = yield* EmbeddedPostgres.make({
    dataDir: own,
    durable: false,
    settings: { synchronous_commit: "on", synchronous_standby_names: "replica" }
  }).pipe(Scope.provide(scope))
  const replica = yield* EmbeddedPostgres.make({
    dataDir: copy,
    durable: false,
    settings: {
      synchronous_commit: "on",
      primary_conninfo: `host=${primary.host} port=${primary.port} user=postgres application_name=replica`
    }
  })
  return {
    primary,
    replica,
    /** The primary is gone between two instructions, and the replica is told. */
    failOver: Effect.gen(function* () {
      process.kill(yield* primary.pid, "SIGKILL")
      const context = yield* Layer.build(clientOf(Redacted.value(replica.url), { maxConnections: 1 }))
      const sql = yield* Effect.provideContext(SqlClient.SqlClient, context)
      const [row] = yield* sql<{ readonly done: boolean }>`SELECT pg_promote() AS done`
      assert.isTrue(row?.done)
    })
  }
})

/** Each server is there by its URL. */
const unused = {} as TestDatabase["Service"]

describe.skipIf(process.platform === "win32")("a fail-over to a synchronous replica", () => {
  it.live("loses no job that was acknowledged and no outcome, and nodes go on", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { failOver, primary, replica } = yield* makePair
        const proxy = yield* makeProxy(Redacted.value(primary.url))
        const release = yield* Deferred.make<void>()
        const node = yield* startNode({
          workers: Layer.mergeAll(
            Note.toLayer(() => Effect.void),
            Long.toLayer(() => Deferred.await(release))
          ),
          client: clientOf(proxy.url),
          config: { leaseTtl: "30 seconds", queryTimeout: "1 second" }
        }).pipe(Effect.provideService(TestDatabase, unused))
        const { id: long } = yield* node.run(Long.enqueue({}))
        yield* node.event("Started", long)
        const acknowledged: Array<JobId> = []
        const producer = yield* Effect.forkScoped(
          Effect.forever(
            Effect.gen(function* () {
              const exit = yield* Effect.exit(node.run(Note.enqueue({ n: acknowledged.length })))
              if (Exit.isSuccess(exit)) acknowledged.push(exit.value.id)
            })
          )
        )
        const reached = (count: number) =>
          eventually(
            Effect.sync(() => acknowledged.length),
            (length) => length >= count
          )
        yield* reached(40)
        yield* failOver
        const before = acknowledged.length
        proxy.leadTo(Redacted.value(replica.url))
        proxy.cut()
        yield* reached(before + 40)
        yield* Fiber.interrupt(producer)
        yield* Deferred.succeed(release, undefined)

        const job = yield* reaches(node, long, "completed")
        assert.deepStrictEqual([job.attempt, job.errors.length], [1, 0])
        for (const id of acknowledged) yield* reaches(node, id, "completed")
      })
    )
  )
})
