/** Cron entries: those of the queues that exist for the viewer. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { type CronEntry, CronJobs, toJson } from "../../CronJobs.ts"
import { Jobs } from "../../Jobs.ts"
import { CurrentAccess, seesQueue } from "../Access.ts"
import { DashboardApi, NotFound } from "../DashboardApi.ts"
import { Board } from "./board.ts"
import { Live } from "./live.ts"
import { shared } from "./sampler.ts"
import { answer, looked, unavailable } from "./viewing.ts"

/** Implements the endpoints. */
export const CronLive = HttpApiBuilder.group(
  DashboardApi,
  "cron",
  Effect.fnUntraced(function* (endpoints) {
    const { viewing } = yield* Board
    const live = yield* Live
    const cron = yield* CronJobs
    const jobs = yield* Jobs

    const visible = Effect.gen(function* () {
      const access = yield* CurrentAccess
      return (yield* looked(cron.list)).filter((entry) => seesQueue(access, entry.queue))
    })
    const find = Effect.fnUntraced(function* (name: string) {
      return (yield* visible).find((entry) => entry.name === name) ?? (yield* noCron(name))
    })
    const change = <A>(
      name: string,
      wish: Effect.Effect<A, { readonly _tag: string }>,
      told: (value: A) => ReturnType<typeof answer>
    ) =>
      Effect.gen(function* () {
        yield* find(name)
        const value = yield* Effect.mapError(wish, gone(name))
        yield* live.changed(["cron", "jobs", "queues", "overview"])
        return told(value)
      })
    const viewOf = (entry: CronEntry) =>
      Effect.map(viewing.args(entry.worker, entry.args), (args) => toJson({ ...entry, args }))
    /** The last jobs of each entry: one look for all viewers, and of the first hundred alone. */
    const runs = yield* shared(
      Effect.flatMap(cron.list, (entries) =>
        Effect.forEach(
          entries.slice(0, 100),
          ({ name }) =>
            Effect.map(jobs.list({ cron: name, limit: 30, brief: true }), (found) => [name, found] as const),
          { concurrency: 2 }
        )
      ),
      10_000
    )
    return endpoints.handleAll({
      cron: () => Effect.flatMap(visible, (entries) => Effect.forEach(entries, viewOf)),
      cronRuns: Effect.fnUntraced(function* () {
        const names = new Set((yield* visible).map(({ name }) => name))
        const access = yield* CurrentAccess
        const { exit } = yield* runs.seen
        return (yield* looked(exit))
          .filter(([name]) => names.has(name))
          .map(([name, found]) => ({
            name,
            jobs: found.filter(({ queue }) => seesQueue(access, queue)).map(({ id, state }) => ({ id, state }))
          }))
      }),
      cronEntry: Effect.fnUntraced(function* ({ params }) {
        const entry = yield* find(params.name)
        const next = yield* Effect.mapError(cron.preview(entry.name, 5), gone(entry.name))
        return { ...(yield* viewOf(entry)), next: next.map(DateTime.formatIso) }
      }),
      runCron: ({ params }) => change(params.name, cron.runNow(params.name), (id) => answer("Inserted", `Job ${id}.`)),
      pauseCron: ({ params }) => change(params.name, cron.pause(params.name), () => answer("Paused")),
      resumeCron: ({ params }) => change(params.name, cron.resume(params.name), () => answer("Resumed"))
    })
  })
)

// internal

const noCron = (name: string) => new NotFound({ message: `There is no cron entry ${name}.` })

const gone = (name: string) => (error: { readonly _tag: string }) =>
  error._tag === "CronNotFound" ? noCron(name) : unavailable
