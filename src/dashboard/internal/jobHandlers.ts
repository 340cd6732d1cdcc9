/** Jobs: found, looked at, and changed one by one, each answer cut to what the viewer may see. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import { Audit } from "../../Audit.ts"
import { type Reason, tell } from "../../Explain.ts"
import type { Filter } from "../../Filter.ts"
import { type JobId, type JobRow, states } from "../../JobRow.ts"
import { type FailureGroup, type JobCount, Jobs, type StateCount } from "../../Jobs.ts"
import type { Carried } from "../../Redaction.ts"
import { type Access, allows, CurrentAccess, seesQueue } from "../Access.ts"
import { DashboardApi, Forbidden, Invalid, type Unavailable } from "../DashboardApi.ts"
import { Board } from "./board.ts"
import { Live } from "./live.ts"
import { keyed } from "./sampler.ts"
import { answer, isNothing, looked, moment, noJob, readable, seesAll, unavailable } from "./viewing.ts"

/** Implements the endpoints. */
export const JobsLive = HttpApiBuilder.group(
  DashboardApi,
  "jobs",
  Effect.fnUntraced(function* (endpoints) {
    const { failures, viewing } = yield* Board
    const live = yield* Live
    const jobs = yield* Jobs
    const audit = yield* Audit

    const counted = keyed<JobCount, Invalid | Unavailable>(2000, 200)
    const countedStates = keyed<ReadonlyArray<StateCount>, Invalid | Unavailable>(2000, 200)
    /** Counts once for all who ask at about the same time. */
    const countOf = (filter: Filter) => counted(JSON.stringify(filter), readable(jobs.count(filter)))
    /** What a group is within some queues: what it counts elsewhere is not told. */
    const within = Effect.fnUntraced(function* (queues: ReadonlyArray<string>, { fingerprint }: FailureGroup) {
      if (queues.length === 0) return { job: undefined, count: 0, isExact: true }
      const [job] = yield* looked(jobs.list({ fingerprint, queue: queues, limit: 1 }))
      return { job, ...(yield* looked(jobs.count({ fingerprint, queue: queues }))) }
    })
    const gone = (id: number) => (error: { readonly _tag: string }) =>
      error._tag === "JobNotFound" ? noJob(id) : unavailable

    const change = <A>(id: JobId, wish: Effect.Effect<A, { readonly _tag: string }>) =>
      wish.pipe(
        Effect.mapError(gone(id)),
        Effect.tap(() => live.changed([`job:${id}`, "jobs", "queues", "overview"]))
      )

    return endpoints.handleAll({
      jobs: Effect.fnUntraced(function* ({ query }) {
        const filter = yield* viewing.filterOf(query.q)
        const after = query.after === undefined ? undefined : readCursor(query.after)
        if (query.after !== undefined && after === undefined) {
          return yield* new Invalid({ message: "after is no cursor: pass `next` of the page before." })
        }
        if (isNothing(filter)) return { jobs: [], next: null }
        const { limit = 50, order = "newest" } = query
        const page = yield* readable(jobs.list({ ...filter, order, limit: limit + 1, after, brief: true }))
        const shown = page.slice(0, limit)
        const last = shown.at(-1)
        return {
          jobs: yield* Effect.forEach(shown, (job) =>
            Effect.map(viewing.carried(job), ({ args }) => summary(job, args))
          ),
          next: page.length > limit && last !== undefined ? cursor(last, order) : null
        }
      }),
      count: Effect.fnUntraced(function* ({ query }) {
        const filter = yield* viewing.filterOf(query.q)
        return isNothing(filter) ? { count: 0, isExact: true } : yield* countOf(filter)
      }),
      states: Effect.fnUntraced(function* ({ query }) {
        const filter = yield* viewing.filterOf(query.q)
        const counts = isNothing(filter)
          ? states.map((state) => ({ state, count: 0, isExact: true }))
          : yield* countedStates(JSON.stringify(filter), readable(jobs.countStates(filter)))
        return { counts: counts.map(({ count, ...one }) => ({ ...one, count: count ?? null })) }
      }),
      failures: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        const { exit } = yield* failures.seen
        const shown = yield* Effect.forEach(yield* looked(exit), ({ group, job }) =>
          Effect.gen(function* () {
            const here = seesAll(access) ? { ...group, job } : yield* within(access.queues ?? [], group)
            const last = here.job?.errors.at(-1)
            if (here.job === undefined || last === undefined) return []
            return [
              {
                fingerprint: group.fingerprint,
                worker: here.job.worker,
                queue: here.job.queue,
                sample: here.job.id,
                tag: last.tag,
                message: (yield* viewing.carried(here.job)).errors.at(-1)?.message ?? "",
                firstSeen: seesAll(access) ? DateTime.formatIso(group.firstSeen) : null,
                lastSeen: last.at,
                count: here.count,
                isExact: here.isExact
              }
            ]
          })
        )
        return shown.flat()
      }),
      job: Effect.fnUntraced(function* ({ params, query }) {
        const access = yield* CurrentAccess
        const job = yield* viewing.job(params.id)
        if (query.reveal === undefined) return detail(access, job, yield* viewing.carried(job))
        if (!allows(access, "args:reveal")) {
          return yield* new Forbidden({ message: "This needs the permission args:reveal." })
        }
        // Nothing is shown that was not noted before.
        yield* looked(
          audit.record({
            actor: access.user,
            action: "reveal",
            subject: `jobs/${job.id}`,
            outcome: "Shown",
            detail: undefined
          })
        )
        return detail(access, job, job)
      }),
      explain: Effect.fnUntraced(function* ({ params }) {
        const access = yield* CurrentAccess
        const { id } = yield* viewing.job(params.id)
        const { position, reasons, status } = yield* Effect.mapError(jobs.explain(id), gone(id))
        return {
          status,
          position: position ?? null,
          reasons: reasons.map((reason) => ({
            tag: reason._tag,
            message: seesAll(access) || !spansQueues.has(reason._tag) ? tell(reason) : "It waits for other jobs."
          }))
        }
      }),
      logs: Effect.fnUntraced(function* ({ params, query }) {
        const job = yield* viewing.job(params.id)
        const [, epoch, line] = /^(\d{1,9})\.(\d{1,9})$/.exec(query.after ?? "0.0") ?? []
        if (epoch === undefined || line === undefined) {
          return yield* new Invalid({ message: "after is no cursor: pass `next` of the page before." })
        }
        const inText = yield* viewing.textOf(job)
        const lines = yield* jobs
          .logs(job.id, { after: { epoch: Number(epoch), line: Number(line) }, limit: logPage })
          .pipe(Effect.mapError(gone(job.id)))
        const last = lines.at(-1)
        return {
          lines: lines.map(({ quotes, ...one }) => ({
            ...one,
            at: DateTime.formatIso(one.at),
            message: inText(one.message, quotes)
          })),
          next: lines.length === logPage && last !== undefined ? `${last.epoch}.${last.line}` : null
        }
      }),
      related: Effect.fnUntraced(function* ({ params }) {
        const access = yield* CurrentAccess
        const { id } = yield* viewing.job(params.id)
        const found = yield* Effect.mapError(jobs.related(id, { limit: relatedLimit + 1 }), gone(id))
        const shown = (side: typeof found.parents) =>
          side
            .slice(0, relatedLimit)
            .filter(({ queue }) => seesAll(access) || (queue !== undefined && seesQueue(access, queue)))
            .map(({ name, onFailure, state, worker, ...one }) => ({
              id: one.id as number, // without its brand
              worker: worker ?? null,
              state,
              name: name ?? null,
              onFailure
            }))
        return {
          parents: shown(found.parents),
          children: shown(found.children),
          isComplete: found.parents.length <= relatedLimit && found.children.length <= relatedLimit
        }
      }),
      copies: Effect.fnUntraced(function* ({ params }) {
        const { id } = yield* viewing.job(params.id)
        const copies = yield* Effect.mapError(jobs.copies(id), gone(id))
        return copies.map(({ attempt, id: copy, live: isLive, node, nodeName, state }) => ({
          id: copy,
          node,
          nodeName,
          live: isLive,
          state: state ?? null,
          attempt: attempt ?? null
        }))
      }),
      retryJob: Effect.fnUntraced(function* ({ params }) {
        const access = yield* CurrentAccess
        const { id } = yield* viewing.job(params.id)
        const result = yield* change(id, jobs.retry(id))
        if (result._tag !== "UniqueConflict") {
          return answer(result._tag, result._tag === "Unchanged" ? `The job is ${result.state} already.` : null)
        }
        const holder = yield* Effect.option(jobs.get(result.holder))
        const isSeen = Option.exists(holder, ({ queue }) => seesQueue(access, queue))
        return answer(
          result._tag,
          isSeen ? `Job ${result.holder} holds the same unique key.` : "Another job holds the same unique key."
        )
      }),
      cancelJob: Effect.fnUntraced(function* ({ params }) {
        const { user } = yield* CurrentAccess
        const { id } = yield* viewing.job(params.id)
        const result = yield* change(id, jobs.cancel(id, `by ${user} in the dashboard`))
        return answer(result._tag, result._tag === "Finished" ? `The job is ${result.state} already.` : null)
      }),
      deleteJob: Effect.fnUntraced(function* ({ params }) {
        const { id } = yield* viewing.job(params.id)
        const result = yield* change(id, jobs.delete(id))
        return answer(result._tag, result._tag === "Executing" ? "It runs: cancel it first." : null)
      })
    })
  })
)

/** A job in a list, with the beginning of its args as anybody may see them. */
export const summary = (job: JobRow, args: unknown) => ({
  id: job.id as number, // without its brand
  worker: job.worker,
  queue: job.queue,
  state: job.state,
  priority: job.priority,
  attempt: job.attempt,
  maxAttempts: job.maxAttempts,
  tags: job.tags,
  preview: args == null ? null : cut(JSON.stringify(args)),
  progress: job.progress ?? null,
  runAt: DateTime.formatIso(job.runAt),
  insertedAt: DateTime.formatIso(job.insertedAt),
  claimedAt: moment(job.claimedAt),
  finishedAt: moment(job.finishedAt)
})

// internal

const previewLength = 200

const cut = (text: string): string => (text.length > previewLength ? `${text.slice(0, previewLength - 1)}…` : text)

/** Lines of a page. */
const logPage = 500

/** Jobs that are shown on each side of one. */
const relatedLimit = 100

/** Reasons whose text names jobs, which may be in any queue. */
const spansQueues: ReadonlySet<Reason["_tag"]> = new Set<Reason["_tag"]>(["Blocked", "Held", "ConcurrencyLimited"])

/** What was asked for by time goes on by time and id. */
const cursor = (job: JobRow, order: "newest" | "due" | "finished"): string => {
  const at = order === "due" ? job.runAt : order === "finished" ? job.finishedAt : undefined
  return at === undefined ? String(job.id) : `${job.id}.${at.epochMilliseconds}`
}

const readCursor = (text: string) => {
  const [, id, at] = /^(\d{1,15})(?:\.(\d{1,15}))?$/.exec(text) ?? []
  if (id === undefined) return undefined
  const time = DateTime.makeUnsafe(Number(at ?? 0))
  return { id: Number(id) as JobId, runAt: time, finishedAt: at === undefined ? undefined : time } // an id, under its brand
}

const retryable: ReadonlySet<string> = new Set([
  "scheduled",
  "retryable",
  "blocked",
  "completed",
  "discarded",
  "cancelled"
])

const detail = (access: Access, job: JobRow, carried: Carried) => ({
  ...summary(job, undefined),
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
  batch: seesAll(access) ? (job.batch ?? null) : null,
  step: job.step ?? null,
  partitionKey: job.partitionKey ?? null,
  trace: job.trace ?? null,
  node: job.claimedBy ?? null,
  epoch: job.epoch,
  snoozes: job.snoozes,
  scheduledFor: DateTime.formatIso(job.scheduledFor),
  cancelRequestedAt: moment(job.cancelRequestedAt),
  cancelReason: carried.cancelReason ?? null,
  can: {
    retry: allows(access, "jobs:retry") && retryable.has(job.state),
    cancel: allows(access, "jobs:cancel") && job.finishedAt === undefined,
    delete: allows(access, "jobs:delete") && job.state !== "executing"
  }
})
