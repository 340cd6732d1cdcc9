/** What a process takes, as it says itself. */
import { Effect } from "effect"
import { Truth } from "./truth.ts"

/** Records the heap that is left after a collection of garbage, and the sockets, timers and such, every ten seconds. */
export const recordUsage = (name: string) =>
  Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        Effect.flatMap(Truth, (truth) => {
          globalThis.gc?.()
          const { external, heapUsed } = process.memoryUsage()
          const handles = process.getActiveResourcesInfo().length
          return truth.write("used", { process: name, heap: heapUsed + external, handles })
        }),
        Effect.sleep("10 seconds")
      )
    )
  )
