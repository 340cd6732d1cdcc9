/** The processes that run jobs, the kinds of jobs that they run, and what holds these back. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type * as JsonSchema from "effect/JsonSchema"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { fromJsonSchemaDocument } from "effect/SchemaRepresentation"
import * as Job from "../../Job.ts"
import { Jobs } from "../../Jobs.ts"
import * as Limit from "../../Limit.ts"
import { Limits, type LimitStanding } from "../../Limits.ts"
import type { NodeRow } from "../../Nodes.ts"
import { Resilience } from "../../Resilience.ts"
import type { InvalidConfig, StorageFailure } from "../../ShigotoError.ts"
import { type Access, CurrentAccess, seesQueue } from "../Access.ts"
import { DashboardApi, Invalid, NotFound } from "../DashboardApi.ts"
import { Live } from "./live.ts"
import { answer, looked, moment, seesAll, unavailable } from "./viewing.ts"

/** Implements the endpoints. */
export const FleetLive = HttpApiBuilder.group(
  DashboardApi,
  "fleet",
  Effect.fnUntraced(function* (endpoints) {
    const jobs = yield* Jobs
    const limits = yield* Limits
    const live = yield* Live
    // Only a process that runs jobs has circuits.
    const resilience = Option.getOrUndefined(yield* Effect.serviceOption(Resilience))

    /** The kinds of jobs that live nodes run; which queues these go to is not known. */
    const workers = Effect.gen(function* () {
      if (!seesAll(yield* CurrentAccess)) return []
      const live = (yield* looked(jobs.nodes)).filter((node) => node.live)
      const names = [...new Set(live.flatMap((node) => node.workers))].toSorted()
      return names.map((name) => ({
        name,
        nodes: [...new Set(live.filter((node) => node.workers.includes(name)).map((node) => node.name))]
      }))
    })
    /** What a limit that exists for the viewer says. */
    const standing = Effect.fnUntraced(function* <A>(name: string, wanted: (one: LimitStanding) => A | undefined) {
      const all = seesAll(yield* CurrentAccess) ? yield* looked(limits.list) : []
      const found = all.map(wanted).find((one) => one !== undefined && one !== false)
      return found ?? (yield* new NotFound({ message: `No live node tells of a limit of ${name}.` }))
    })
    return endpoints.handleAll({
      nodes: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        return (yield* looked(jobs.nodes)).map((node) => nodeOf(access, node))
      }),
      workers: () => workers,
      worker: Effect.fnUntraced(function* ({ params }) {
        const access = yield* CurrentAccess
        const known = (yield* workers).find((worker) => worker.name === params.name)
        const schema = seesAll(access) ? yield* looked(jobs.argsSchema(params.name)) : undefined
        if (known === undefined && schema === undefined) return yield* noWorker(params.name)
        return { name: params.name, nodes: known?.nodes ?? [], schema: schema ?? null }
      }),
      enqueue: Effect.fnUntraced(function* ({ params, payload: { args, delayMillis, ...options } }) {
        // The worker says nothing of its queue here, and so not whether it exists for who sees some only.
        const published = seesAll(yield* CurrentAccess) ? yield* looked(jobs.argsSchema(params.name)) : undefined
        if (published === undefined) return yield* noWorker(params.name)
        yield* check(params.name, published, args)
        const result = yield* Job.make(params.name, { args: Schema.Json })
          .enqueue(args, { ...options, delay: delayMillis })
          .pipe(
            Effect.provideService(Jobs, jobs),
            Effect.mapError((error) =>
              error._tag === "StorageError" || error._tag === "StorageUnavailable"
                ? unavailable
                : new Invalid({ message: error.message })
            )
          )
        yield* live.changed(["jobs", "queues", "overview"])
        return answer(result._tag, `Job ${result.id}.`)
      }),
      limits: Effect.fnUntraced(function* () {
        if (!seesAll(yield* CurrentAccess)) return []
        const standings = yield* looked(limits.list)
        return standings.map(({ concurrency, queue, rate, running, worker }) => ({
          worker: worker === "" ? null : worker,
          queue: queue ?? null,
          running,
          concurrency: concurrency ?? null,
          rate:
            rate === undefined
              ? null
              : {
                  ...rate,
                  heldUntil: rate.heldUntil?.toISOString() ?? null,
                  keys: rate.keys.map((key) => ({ ...key, heldUntil: key.heldUntil?.toISOString() ?? null }))
                }
        }))
      }),
      changePlaces: Effect.fnUntraced(function* ({ params: { name }, payload: { concurrency } }) {
        yield* standing(name, ({ worker }) => worker === name)
        yield* limits.changeConcurrency(name, concurrency ?? undefined).pipe(Effect.mapError(refused))
        yield* live.changed(["limits"])
        return answer(concurrency === null ? "As in the code" : "Changed")
      }),
      changeRate: Effect.fnUntraced(function* ({ params: { name }, payload: { rate } }) {
        const { algorithm, limit, perKey, windowMillis } = yield* standing(name, (one) =>
          one.rate?.name === name ? one.rate : undefined
        )
        const options = { algorithm: algorithm as Limit.Algorithm, limit, window: windowMillis } // as a node told it
        yield* limits
          .change(
            Limit.make(name, { ...options, perKey }),
            rate === null ? undefined : { ...options, limit: rate.limit, window: rate.windowMillis }
          )
          .pipe(Effect.mapError(refused))
        yield* live.changed(["limits"])
        return answer(rate === null ? "As in the code" : "Changed")
      }),
      breakers: Effect.fnUntraced(function* () {
        if (!seesAll(yield* CurrentAccess) || resilience === undefined) return []
        const circuits = yield* looked(resilience.circuits)
        return circuits.map(({ shared, since, state, worker }) => ({ worker, shared, state, since: moment(since) }))
      }),
      closeBreaker: Effect.fnUntraced(function* ({ params }) {
        if (!seesAll(yield* CurrentAccess) || resilience === undefined) return yield* noBreaker(params.name)
        if (!(yield* looked(resilience.close(params.name)))) return yield* noBreaker(params.name)
        return answer("Closed")
      })
    })
  })
)

// internal

/** Checks args by what a node has told of its worker; patterns could take for ever and are left out. */
const check = Effect.fnUntraced(function* (worker: string, published: unknown, args: Schema.Json) {
  const schema = yield* Effect.try({
    try: () => fromJsonSchemaDocument(published as JsonSchema.Document<"draft-2020-12">, { patterns: "ignore" }), // as it was told
    catch: () => new Invalid({ message: `What a node told of the args of ${worker} cannot be read.` })
  })
  // The services of such a schema are none.
  yield* (Schema.decodeUnknownEffect(schema)(args) as Effect.Effect<unknown, Schema.SchemaError>).pipe(
    // needs no services
    Effect.mapError(({ message }) => new Invalid({ message: `The args do not match what ${worker} takes: ${message}` }))
  )
})

const refused = (error: InvalidConfig | StorageFailure) =>
  error._tag === "InvalidConfig" ? new Invalid({ message: error.message }) : unavailable

const noWorker = (name: string) => new NotFound({ message: `There is no worker ${name}.` })

const noBreaker = (name: string) => new NotFound({ message: `This process knows no circuit of ${name}.` })

const nodeOf = (access: Access, node: NodeRow) => ({
  id: node.id,
  name: node.name,
  startedAt: DateTime.formatIso(node.startedAt),
  beatAt: DateTime.formatIso(node.beatAt),
  live: node.live,
  silentMillis: node.silentMillis,
  lagMillis: node.lagMillis,
  listening: node.listening,
  executing: seesAll(access) ? node.executing : null,
  workers: seesAll(access) ? node.workers : [],
  queues: node.queues.filter(({ name }) => seesQueue(access, name))
})
