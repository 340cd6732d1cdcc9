import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
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
            const until = performance.now() + 1200
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
