/**
 * What the endpoints do: everything through the public services, each answer cut to what the viewer may see.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { CronJobs } from "../../CronJobs.ts"
import * as Filter from "../../Filter.ts"
import type { JobId, JobRow } from "../../JobRow.ts"
import { type FailureGroup, Jobs } from "../../Jobs.ts"
import { Queues } from "../../Queues.ts"
import { type Access, allows, CurrentAccess, permissions, Requires, seesQueue, Viewer } from "../Access.ts"
import { Authorization, DashboardApi, Forbidden, Invalid, NotFound, Unavailable } from "../DashboardApi.ts"
import { asksForSecret, type Carried, makeIsSecret, redact } from "../../Redaction.ts"

/** What the host decides about secrets. */
export interface Redaction {
  readonly keys: ReadonlyArray<string>
  readonly redact: ((job: JobRow) => Carried) | undefined
}

/** Checks each endpoint's permission. */
export const AuthorizationLive: Layer.Layer<Authorization> = Layer.succeed(
  Authorization,
  Authorization.of((respond, { endpoint }) =>
    Effect.gen(function* () {
      const access = yield* Viewer
      const required = endpoint.annotations.mapUnsafe.get(Requires.key) as Access["can"][number] | undefined
      const permission = permissions.find((known) => known === required)
      if (access === undefined || permission === undefined || !allows(access, permission)) {
        return yield* new Forbidden({ message: `This needs the permission ${permission ?? "that nobody has"}.` })
      }
      return yield* Effect.provideService(respond, CurrentAccess, access)
    })
  )
)

/** Implements the endpoints; `options` says what counts as a secret. */
export const handlers = (options: Redaction) =>
  HttpApiBuilder.group(
    DashboardApi,
    "dashboard",
    Effect.fnUntraced(function* (endpoints) {
      const jobs = yield* Jobs
      const queues = yield* Queues
      const cron = yield* CronJobs
      const isSecret = makeIsSecret(options.keys)
      // One look for all viewers, and only while somebody looks.
      const sample = yield* Effect.cachedWithTTL(
        Effect.all({ counts: Effect.exit(jobs.counts), at: DateTime.now }),
        "2 seconds"
      )
      const groups = yield* Effect.cachedWithTTL(
        Effect.exit(
          Effect.flatMap(jobs.failures({ limit: 50 }), (found) =>
            Effect.forEach(found, (group) =>
              Effect.map(Effect.option(jobs.get(group.sample)), (job) => ({ group, job: Option.getOrUndefined(job) }))
            )
          )
        ),
        "5 seconds"
      )

      /** What a group is within some queues: what it counts elsewhere is not told. */
      const within = Effect.fnUntraced(function* (queues: ReadonlyArray<string>, { fingerprint }: FailureGroup) {
        if (queues.length === 0) return { job: undefined, count: 0, isExact: true }
        const [job] = yield* looked(jobs.list({ fingerprint, queue: queues, limit: 1 }))
        return { job, ...(yield* looked(jobs.count({ fingerprint, queue: queues }))) }
      })
      const carriedFor = (access: Access, job: JobRow): Carried =>
        allows(access, "args:reveal") ? job : redact(options.redact?.(job) ?? job, isSecret)

      /** The filter that a viewer asked for, within what exists for them. */
      const filterOf = Effect.fnUntraced(function* (text: string | undefined) {
        const access = yield* CurrentAccess
        const parsed = Filter.parse(text ?? "")
        if (Result.isFailure(parsed)) return yield* new Invalid({ message: parsed.failure.message })
        const filter = parsed.success
        const mayReveal = allows(access, "args:reveal")
        if (!mayReveal && (options.redact !== undefined || asksForSecret([filter.args, filter.meta], isSecret))) {
          if (filter.args !== undefined || filter.meta !== undefined) {
            return yield* new Invalid({ message: "A search for what is hidden needs the permission args:reveal." })
          }
        }
        if (access.queues === undefined) return filter
        const asked = filter.queue === undefined ? undefined : [filter.queue].flat()
        return { ...filter, queue: access.queues.filter((queue) => asked?.includes(queue) ?? true) }
      })
      const isNothing = (filter: Filter.Filter) => Array.isArray(filter.queue) && filter.queue.length === 0

      /** A job that exists for the viewer. */
      const visible = Effect.fnUntraced(function* (id: number) {
        const access = yield* CurrentAccess
        const job = yield* Effect.catchTag(storage(jobs.get(id as JobId)), "JobNotFound", () => Effect.undefined)
        if (job === undefined || !seesQueue(access, job.queue)) return yield* noJob(id)
        return job
      })
      const visibleQueue = Effect.fnUntraced(function* (queue: string) {
        if (!seesQueue(yield* CurrentAccess, queue))
          return yield* new NotFound({ message: `There is no queue ${queue}.` })
      })
      const visibleCron = Effect.fnUntraced(function* (name: string) {
        const access = yield* CurrentAccess
        const entries = yield* storage(cron.list)
        const entry = entries.find((known) => known.name === name)
        if (entry === undefined || !seesQueue(access, entry.queue)) return yield* noCron(name)
      })
      const changeQueue = <E extends { readonly _tag: string; readonly message: string }>(
        queue: string,
        outcome: string,
        change: Effect.Effect<void, E>
      ) =>
        Effect.gen(function* () {
          yield* visibleQueue(queue)
          yield* Effect.mapError(change, (error) =>
            error._tag === "InvalidQueueName" || error._tag === "InvalidConcurrency"
              ? new Invalid({ message: error.message })
              : unavailable
          )
          return answer(outcome)
        })
      const changeCron = <A>(
        name: string,
        change: Effect.Effect<A, { readonly _tag: string }>,
        told: (value: A) => ReturnType<typeof answer>
      ) =>
        Effect.gen(function* () {
          yield* visibleCron(name)
          const value = yield* Effect.mapError(change, (error) =>
            error._tag === "CronNotFound" ? noCron(name) : unavailable
          )
          return told(value)
        })

      return endpoints.handleAll({
        me: () =>
          Effect.map(CurrentAccess, (access) => ({
            user: access.user,
            can: permissions.filter((permission) => allows(access, permission))
          })),
        jobs: Effect.fnUntraced(function* ({ query }) {
          const filter = yield* filterOf(query.q)
          if (isNothing(filter)) return { jobs: [], next: null }
          const limit = query.limit ?? 50
          const after =
            query.after === undefined
              ? undefined
              : { id: query.after as JobId, runAt: DateTime.makeUnsafe(0), finishedAt: undefined }
          const page = yield* readable(jobs.list({ ...filter, limit: limit + 1, after }))
          const shown = page.slice(0, limit)
          return { jobs: shown.map(summary), next: page.length > limit ? (shown.at(-1)?.id ?? null) : null }
        }),
        count: Effect.fnUntraced(function* ({ query }) {
          const filter = yield* filterOf(query.q)
          return isNothing(filter) ? { count: 0, isExact: true } : yield* readable(jobs.count(filter))
        }),
        job: Effect.fnUntraced(function* ({ params }) {
          const access = yield* CurrentAccess
          const job = yield* visible(params.id)
          return detail(job, carriedFor(access, job))
        }),
        retryJob: Effect.fnUntraced(function* ({ params }) {
          const { id } = yield* visible(params.id)
          const result = yield* Effect.mapError(jobs.retry(id), (error) =>
            error._tag === "JobNotFound" ? noJob(id) : unavailable
          )
          return answer(
            result._tag,
            result._tag === "Unchanged"
              ? `The job is ${result.state} already.`
              : result._tag === "UniqueConflict"
                ? `Job ${result.holder} holds the same unique key.`
                : null
          )
        }),
        cancelJob: Effect.fnUntraced(function* ({ params }) {
          const { user } = yield* CurrentAccess
          const { id } = yield* visible(params.id)
          const result = yield* Effect.mapError(jobs.cancel(id, `by ${user} in the dashboard`), (error) =>
            error._tag === "JobNotFound" ? noJob(id) : unavailable
          )
          return answer(result._tag, result._tag === "Finished" ? `The job is ${result.state} already.` : null)
        }),
        queues: Effect.fnUntraced(function* () {
          const access = yield* CurrentAccess
          const sampled = yield* sample
          const counts = yield* storage(sampled.counts)
          const here = new Map((yield* queues.list).map((queue) => [queue.name, queue]))
          const names = [...new Set([...counts.map((row) => row.queue), ...here.keys()])].toSorted()
          return {
            sampledAt: DateTime.formatIso(sampled.at),
            queues: names
              .filter((name) => seesQueue(access, name))
              .map((name) => {
                const state = here.get(name)
                return {
                  name,
                  counts: Object.fromEntries(
                    counts.filter((row) => row.queue === name).map((row) => [row.state, row.count])
                  ),
                  here: state === undefined ? null : { concurrency: state.concurrency, paused: state.paused }
                }
              })
          }
        }),
        pauseQueue: ({ params }) => changeQueue(params.name, "Paused", queues.pause(params.name)),
        resumeQueue: ({ params }) => changeQueue(params.name, "Resumed", queues.resume(params.name)),
        scaleQueue: ({ params, payload }) =>
          changeQueue(params.name, "Scaled", queues.scale(params.name, payload.concurrency)),
        cron: Effect.fnUntraced(function* () {
          const access = yield* CurrentAccess
          const entries = yield* storage(cron.list)
          return entries
            .filter((entry) => seesQueue(access, entry.queue))
            .map((entry) => ({
              name: entry.name,
              source: entry.source,
              cron: entry.cron,
              timezone: entry.timezone,
              worker: entry.worker,
              queue: entry.queue,
              paused: entry.paused,
              nextTick: moment(entry.nextTick),
              workerKnown: entry.workerKnown,
              problem: entry.problem ?? null
            }))
        }),
        runCron: ({ params }) =>
          changeCron(params.name, cron.runNow(params.name), (id) => answer("Inserted", `Job ${id}.`)),
        pauseCron: ({ params }) => changeCron(params.name, cron.pause(params.name), () => answer("Paused")),
        resumeCron: ({ params }) => changeCron(params.name, cron.resume(params.name), () => answer("Resumed")),
        failures: Effect.fnUntraced(function* () {
          const access = yield* CurrentAccess
          const found = yield* looked(Effect.flatten(groups))
          const shown = yield* Effect.forEach(found, ({ group, job }) =>
            Effect.gen(function* () {
              const here = access.queues === undefined ? { ...group, job } : yield* within(access.queues, group)
              const last = here.job?.errors.at(-1)
              if (here.job === undefined || last === undefined) return []
              return [
                {
                  fingerprint: group.fingerprint,
                  worker: here.job.worker,
                  queue: here.job.queue,
                  sample: here.job.id,
                  tag: last.tag,
                  message: carriedFor(access, here.job).errors.at(-1)?.message ?? "",
                  lastSeen: last.at,
                  count: here.count,
                  isExact: here.isExact
                }
              ]
            })
          )
          return shown.flat()
        })
      })
    })
  )

// internal

const unavailable = new Unavailable({ message: "The database did not answer in time. Narrow the filter or try again." })
const noJob = (id: number) => new NotFound({ message: `There is no job ${id}.` })
const noCron = (name: string) => new NotFound({ message: `There is no cron entry ${name}.` })
const answer = (outcome: string, detail: string | null = null) => ({ outcome, detail })

/** Tells that the database did not answer, and keeps what a lookup did not find. */
const storage = <A, E extends { readonly _tag: string }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Unavailable | Extract<E, { readonly _tag: "JobNotFound" }>, R> =>
  Effect.mapError(effect, (error) =>
    error._tag === "JobNotFound" ? (error as Extract<E, { readonly _tag: "JobNotFound" }>) : unavailable
  )

const looked = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Unavailable, R> =>
  Effect.mapError(effect, () => unavailable)

const readable = <A, E extends { readonly _tag: string; readonly message: string }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Invalid | Unavailable, R> =>
  Effect.mapError(effect, (error) =>
    error._tag === "InvalidFilter" ? new Invalid({ message: error.message }) : unavailable
  )

const moment = (at: DateTime.Utc | undefined): string | null => (at === undefined ? null : DateTime.formatIso(at))

const summary = (job: JobRow) => ({
  id: job.id as number,
  worker: job.worker,
  queue: job.queue,
  state: job.state,
  priority: job.priority,
  attempt: job.attempt,
  maxAttempts: job.maxAttempts,
  tags: job.tags,
  progress: job.progress ?? null,
  runAt: DateTime.formatIso(job.runAt),
  insertedAt: DateTime.formatIso(job.insertedAt),
  claimedAt: moment(job.claimedAt),
  finishedAt: moment(job.finishedAt)
})

const detail = (job: JobRow, carried: Carried) => ({
  ...summary(job),
  args: carried.args ?? null,
  result: carried.result ?? null,
  meta: carried.meta,
  errors: carried.errors.map(({ attempt, at, node, tag, message, cause }) => ({
    attempt,
    at,
    node,
    tag,
    message,
    cause: cause ?? null
  })),
  fingerprint: job.fingerprint ?? null,
  batch: job.batch ?? null,
  step: job.step ?? null,
  snoozes: job.snoozes,
  scheduledFor: DateTime.formatIso(job.scheduledFor),
  cancelReason: carried.cancelReason ?? null
})
