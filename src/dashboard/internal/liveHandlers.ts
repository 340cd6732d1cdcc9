/** What is new: as a stream, or asked for now and then. */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { CurrentAccess } from "../Access.ts"
import { DashboardApi, Invalid } from "../DashboardApi.ts"
import { Board } from "./board.ts"
import { Live, pollMillis, topics } from "./live.ts"
import { seesAll } from "./viewing.ts"

/** Implements the endpoints. */
export const LiveLive = HttpApiBuilder.group(
  DashboardApi,
  "live",
  Effect.fnUntraced(function* (endpoints) {
    const { viewing } = yield* Board
    const live = yield* Live

    /** The topics that were asked for, without those that do not exist for the viewer. */
    const wanted = Effect.fnUntraced(function* (text: string) {
      const access = yield* CurrentAccess
      const asked = [...new Set(text.split(",").map((topic) => topic.trim()))]
      if (asked.length > maxTopics) {
        return yield* new Invalid({ message: `At most ${maxTopics} topics can be watched at once.` })
      }
      const seen: Array<string> = []
      for (const topic of asked) {
        const [, id] = /^job:(\d{1,15})$/.exec(topic) ?? []
        if (id !== undefined) {
          const job = yield* Effect.catchTag(viewing.job(Number(id)), "NotFound", () => Effect.undefined)
          if (job !== undefined) seen.push(`job:${job.id}`)
        } else if (!topics.some((known) => known === topic)) {
          return yield* new Invalid({
            message: `There is no topic ${JSON.stringify(topic)}: the topics are ${topics.join(", ")} and job:<id>.`
          })
        } else if (seesAll(access) || !spansQueues.has(topic)) seen.push(topic)
      }
      return seen
    })
    return endpoints.handleAll({
      events: Effect.fnUntraced(function* ({ query }) {
        return yield* live.watch(yield* CurrentAccess, yield* wanted(query.topics))
      }),
      pulse: Effect.fnUntraced(function* ({ query }) {
        return { digests: yield* live.digests(yield* wanted(query.topics)), pollMillis }
      })
    })
  })
)

// internal

const maxTopics = 20

const spansQueues: ReadonlySet<string> = new Set(["batches", "limits", "breakers", "audit"])
