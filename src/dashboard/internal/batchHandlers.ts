/** Batches and flows; they span queues, and so exist for who sees all of these. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { Batches, toJson } from "../../Batches.ts"
import { Flows } from "../../Flows.ts"
import type { BatchId } from "../../JobRow.ts"
import { CurrentAccess } from "../Access.ts"
import { DashboardApi, NotFound } from "../DashboardApi.ts"
import { Live } from "./live.ts"
import { answer, readable, seesAll, unavailable } from "./viewing.ts"

/** Implements the endpoints. */
export const BatchesLive = HttpApiBuilder.group(
  DashboardApi,
  "batches",
  Effect.fnUntraced(function* (endpoints) {
    const batches = yield* Batches
    const flows = yield* Flows
    const live = yield* Live
    const visible = Effect.fnUntraced(function* (id: number) {
      if (!seesAll(yield* CurrentAccess)) return yield* noBatch(id)
      return id as BatchId // an id, under its brand
    })
    return endpoints.handleAll({
      batches: Effect.fnUntraced(function* ({ query }) {
        if (!seesAll(yield* CurrentAccess)) return { batches: [], next: null }
        const { limit = 50 } = query
        const page = yield* readable(
          batches.list({
            limit: limit + 1,
            after: query.after as BatchId | undefined, // an id, under its brand
            finished: query.finished === undefined ? undefined : query.finished === "true"
          })
        )
        const shown = page.slice(0, limit)
        return { batches: shown.map(toJson), next: page.length > limit ? (shown.at(-1)?.id ?? null) : null }
      }),
      batch: Effect.fnUntraced(function* ({ params }) {
        const id = yield* visible(params.id)
        const status = yield* Effect.mapError(batches.get(id), gone(id))
        const { counts, nodes } = yield* Effect.mapError(flows.status(id), gone(id))
        const remainingMillis = yield* Effect.mapError(batches.remaining(id), gone(id))
        return {
          ...toJson(status),
          remainingMillis: remainingMillis ?? null,
          counts,
          nodes: nodes.map((node) => ({
            id: node.id,
            step: node.step,
            worker: node.worker,
            state: node.state,
            attempt: node.attempt,
            maxAttempts: node.maxAttempts,
            progress: node.progress ?? null,
            after: node.after,
            children: node.children,
            failure: node.failure?.tag ?? null
          }))
        }
      }),
      retryBatch: Effect.fnUntraced(function* ({ params }) {
        const id = yield* visible(params.id)
        const count = yield* Effect.mapError(batches.retryFailed(id), gone(id))
        yield* live.changed(changed)
        return answer("Retried", `${count} jobs.`)
      }),
      cancelBatch: Effect.fnUntraced(function* ({ params }) {
        const { user } = yield* CurrentAccess
        const id = yield* visible(params.id)
        const count = yield* Effect.mapError(batches.cancel(id, `by ${user} in the dashboard`), gone(id))
        yield* live.changed(changed)
        return answer("Cancelled", `${count} jobs.`)
      })
    })
  })
)

// internal

const noBatch = (id: number) => new NotFound({ message: `There is no batch ${id}.` })

const changed = ["batches", "jobs", "queues", "overview"]

const gone = (id: number) => (error: { readonly _tag: string }) =>
  error._tag === "BatchNotFound" ? noBatch(id) : unavailable
