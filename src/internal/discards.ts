/** Tells workers of the jobs that were given up. */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Semaphore from "effect/Semaphore"
import type { Heartbeat } from "../Heartbeat.ts"
import type { JobRow } from "../JobRow.ts"
import type { JobStore } from "../JobStore.ts"
import type { Worker, Workers } from "../Workers.ts"
import { CurrentAttempt } from "./attempt.ts"
import { pause } from "./loop.ts"
import { tellLimit } from "./sql/discard.ts"

/** Builds what tells the workers of this node; what has not been told as the scope closes, another node tells. */
export const makeDiscards = Effect.fnUntraced(function* (
  store: JobStore["Service"],
  heartbeat: Heartbeat["Service"],
  workers: Workers["Service"]
) {
  const fibers = yield* FiberSet.make()
  const turn = yield* Semaphore.make(1)
  const telling = new Set<JobRow>()
  let noticed = false
  /** Whether a reply was lost, so that discards may be this node's that it does not know of. */
  let uncertain = false

  // A worker that has been told is not told again, by this node at least, however long the database is away.
  const forget = (job: JobRow, failures: number): Effect.Effect<void> =>
    Effect.catchCause(store.discards.told(job), () =>
      Effect.andThen(
        pause(failures),
        Effect.suspend(() => forget(job, failures + 1))
      )
    )
  const tell = (worker: Worker, job: JobRow): Effect.Effect<void> => {
    const attempt = new CurrentAttempt(job, job.scheduledFor, job.insertedAt, job.startBefore, [])
    return Effect.ensuring(
      Effect.andThen(worker.discarded(job.args, attempt, job.errors), forget(job, 0)),
      Effect.sync(() => telling.delete(job))
    )
  }
  const round = (leaving?: Worker) =>
    turn.withPermits(1)(
      Effect.gen(function* () {
        const node = heartbeat.current()
        const able = new Map(
          [...workers.all(), ...(leaving === undefined ? [] : [leaving])].map((worker) => [worker.name, worker])
        )
        if (node === undefined || able.size === 0) return false
        noticed = false
        uncertain = true
        const jobs = yield* store.discards.take({ node, workers: [...able.keys()], telling: [...telling] })
        uncertain = false
        for (const job of jobs) {
          const worker = able.get(job.worker)
          if (worker === undefined) continue
          telling.add(job)
          yield* FiberSet.run(fibers, tell(worker, job))
        }
        return jobs.length === tellLimit
      })
    )

  return {
    /** Says that a job of a worker that wants to be told was discarded. */
    notice: () => {
      noticed = true
    },
    isUncertain: () => uncertain,
    /**
     * Takes what there is to tell the workers of this node, and one that is leaving it, and begins with it; says whether
     * there may be more.
     */
    round,
    /** Waits until all that was noticed has been told. */
    finish: (leaving?: Worker) =>
      Effect.suspend(() =>
        Effect.andThen(
          // A round that is under way may be cut off with what it took.
          noticed || uncertain ? Effect.ignore(round(leaving)) : Effect.void,
          FiberSet.awaitEmpty(fibers)
        )
      )
  }
})
