/** A claim under limits whose process freezes in the midst of it. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy, type Proxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, reaches, startNode } from "./support.ts"

const Note = Job.make("note", { args: { n: Schema.Number }, success: Schema.Number })

describe("a claim under limits", () => {
  onDatabase("whose process freezes with the limit locked does not keep the others waiting", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      let state: "passing" | "armed" | "locking" | "frozen" = "passing"
      let proxy: Proxy | undefined
      // The lock is taken; what comes after it never arrives, and nobody hears that the connection is of no use any more.
      const rewrite = (chunk: Buffer): Buffer => {
        if (state === "locking" || state === "frozen") {
          state = "frozen"
          proxy?.blackhole()
          return Buffer.alloc(0)
        }
        if (state === "armed" && chunk.includes("held_until, rule, places") && chunk.includes("FOR UPDATE"))
          state = "locking"
        return chunk
      }
      proxy = yield* makeProxy(Redacted.value(url), rewrite)
      const workers = Note.toLayer(({ n }) => Effect.succeed(n), { globalConcurrency: 1 })
      const config = { listen: false, shutdownGrace: "0 millis" } as const
      const freezing = yield* startNode({
        workers,
        client: clientOf(proxy.url),
        config: { nodeName: "frozen", ...config }
      })
      const producer = yield* startNode({ config: { queues: {} } })
      // The row of the limit is there from now on.
      yield* reaches(producer, (yield* producer.run(Note.enqueue({ n: 0 }))).id, "completed")
      yield* freezing.event("Completed")
      state = "armed"
      const jobs = yield* producer.run(Note.enqueueAll([{ n: 1 }, { n: 2 }, { n: 3 }]))
      yield* eventually(
        Effect.sync(() => state),
        (now) => now === "frozen"
      )
      const other = yield* startNode({ workers, config: { nodeName: "other" } })
      for (const { id } of jobs) assert.strictEqual((yield* reaches(other, id, "completed")).state, "completed")
    })
  )
})
