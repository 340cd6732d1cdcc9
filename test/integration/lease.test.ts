import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { onDatabase, startNode } from "./support.ts"

const Busy = Job.make("busy")

describe("the event loop", () => {
  onDatabase("a block of more than a quarter of the lease is warned about", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const node = yield* startNode({
        workers: Busy.toLayer(() =>
          Effect.sync(() => {
            const until = performance.now() + 2000
            while (performance.now() < until);
          })
        ),
        config: { leaseTtl: "3 seconds", leaseBeat: "100 millis" }
      }).pipe(Effect.provideContext(yield* Layer.build(logger)))
      const { id } = yield* node.run(Busy.enqueue({}))
      yield* node.event("Completed", id)
      const warned = yield* eventually(
        Effect.sync(() => lines),
        (all) => all.some((line) => line.includes("event loop was blocked"))
      )
      assert.isTrue(warned.some((line) => line.includes("3000 ms the node loses its lease")))
    })
  )
})

describe("a rescue", () => {
  onDatabase("that gives a job up tells its worker, with the failure", () =>
    Effect.gen(function* () {
      const Doomed = Job.make("doomed", { args: { n: Schema.Number }, maxAttempts: 1 })
      const told = yield* Deferred.make<readonly [Option.Option<{ readonly n: number }>, ReadonlyArray<string>]>()
      const node = yield* startNode({
        workers: Doomed.toLayer(() => Effect.void, {
          onDiscard: ({ args, errors }) =>
            Effect.asVoid(Deferred.succeed(told, [args, errors.map((error) => error.tag)] as const))
        })
      })
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* node.run(Doomed.enqueue({ n: 7 }, { queue: "elsewhere" }))
      // A node that died with the job in its hands.
      const [dead] = yield* sql<{ readonly id: number }>`
        INSERT INTO shigoto.nodes (name, started_at, beat_at, expires_at, ttl_millis)
        VALUES ('dead', now(), now(), now() - interval '1 second', 1000)
        RETURNING id`
      yield* sql`
        UPDATE shigoto.jobs
        SET state = 'executing', attempt = 1, epoch = 1, claimed_by = ${dead?.id ?? 0}, claimed_at = now()
        WHERE id = ${id}`
      assert.deepStrictEqual(yield* Deferred.await(told), [Option.some({ n: 7 }), ["LeaseExpired"]])
    })
  )
})
