/** Queues, and what operators ask of them. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { states } from "../../JobRow.ts"
import { type QueueError, Queues } from "../../Queues.ts"
import { CurrentAccess, seesQueue } from "../Access.ts"
import { DashboardApi, Invalid, NotFound } from "../DashboardApi.ts"
import { Board } from "./board.ts"
import { Live } from "./live.ts"
import { answer, looked, unavailable } from "./viewing.ts"

/** Implements the endpoints. */
export const QueuesLive = HttpApiBuilder.group(
  DashboardApi,
  "queues",
  Effect.fnUntraced(function* (endpoints) {
    const { sample } = yield* Board
    const live = yield* Live
    const queues = yield* Queues

    const change = (
      queue: string,
      outcome: string,
      wish: Effect.Effect<void, QueueError>,
      detail: string | null = null
    ) =>
      Effect.gen(function* () {
        if (!seesQueue(yield* CurrentAccess, queue)) return yield* noQueue(queue)
        yield* Effect.mapError(wish, (error) =>
          error._tag === "InvalidQueueName" || error._tag === "InvalidConcurrency"
            ? new Invalid({ message: error.message })
            : unavailable
        )
        yield* live.changed(["queues", "overview"])
        return answer(outcome, detail)
      })
    const whatOf = ({ key, node }: { readonly key?: string | undefined; readonly node?: string | undefined }) =>
      key !== undefined && node !== undefined
        ? Effect.fail(new Invalid({ message: "A partition key is paused on all nodes: leave node out, or key." }))
        : Effect.succeed(key === undefined ? { node } : { partitionKey: key })

    return endpoints.handleAll({
      partitions: Effect.fnUntraced(function* ({ params }) {
        if (!seesQueue(yield* CurrentAccess, params.name)) return yield* noQueue(params.name)
        const { isComplete, partitions } = yield* looked(queues.partitions(params.name))
        return {
          partitions: partitions.map(({ oldestMillis, ...one }) => ({ ...one, oldestMillis: oldestMillis ?? null })),
          isComplete
        }
      }),
      queues: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        const { at, exit } = yield* sample.seen
        if (!Exit.isSuccess(exit)) return yield* unavailable
        const { health, queues: counted } = exit.value
        if (health.status === "down") return yield* unavailable
        const here = new Map((yield* queues.list).map((queue) => [queue.name, queue]))
        const heads = new Map(health.queues.map((queue) => [queue.queue, queue]))
        const live = health.nodes.filter((node) => node.live)
        const overviews = new Map((counted ?? []).map((queue) => [queue.name, queue]))
        const served = live.flatMap((node) => node.queues.map((queue) => queue.name))
        const names = [...new Set([...overviews.keys(), ...heads.keys(), ...here.keys(), ...served])].toSorted()
        return {
          sampledAt: DateTime.formatIso(DateTime.makeUnsafe(at)),
          queues: names
            .filter((name) => seesQueue(access, name))
            .map((name) => {
              const state = here.get(name)
              const overview = overviews.get(name)
              const head = heads.get(name)
              const serving = live.flatMap((node) =>
                node.queues
                  .filter((queue) => queue.name === name)
                  .map(({ concurrency }) => ({ node: node.name, concurrency }))
              )
              return {
                name,
                counts: overview?.counts ?? (head === undefined ? {} : { available: head.available }),
                atLeast: overview?.atLeast ?? (counted === undefined ? states : []),
                here: state === undefined ? null : { concurrency: state.concurrency, paused: state.paused },
                paused: overview?.paused ?? false,
                nodes: serving.length,
                slots: serving.reduce((sum, { concurrency }) => sum + concurrency, 0),
                oldestMillis: head === undefined ? null : Math.max(0, head.oldestMillis),
                wishes: (overview?.wishes ?? []).map(({ concurrency, node, paused, removed }) => ({
                  node: node ?? null,
                  concurrency: concurrency ?? null,
                  paused,
                  removed
                })),
                serving
              }
            })
        }
      }),
      pauseQueue: Effect.fnUntraced(function* ({ params, query }) {
        return yield* change(params.name, "Paused", queues.pause(params.name, yield* whatOf(query)))
      }),
      resumeQueue: Effect.fnUntraced(function* ({ params, query }) {
        return yield* change(params.name, "Resumed", queues.resume(params.name, yield* whatOf(query)))
      }),
      scaleQueue: ({ params, payload, query }) =>
        change(
          params.name,
          "Scaled",
          queues.scale(params.name, payload.concurrency, query),
          `To ${payload.concurrency} on each node.`
        )
    })
  })
)

// internal

const noQueue = (name: string) => new NotFound({ message: `There is no queue ${name}.` })
