/**
 * Bulk operations: shown before they begin, never more than was shown, run in the background, told of in the audit trail.
 *
 * What was shown is bounded by the newest job that matched then, so jobs that come later are never met. An operation
 * that would meet more jobs than were shown is refused, and so is one of many jobs, or that deletes, without the number
 * typed.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { Audit } from "../../Audit.ts"
import type { Filter } from "../../Filter.ts"
import type { JobId, JobRow, JobState } from "../../JobRow.ts"
import { type BulkProgress, type JobCount, Jobs } from "../../Jobs.ts"
import type { InvalidFilter, StorageFailure } from "../../ShigotoError.ts"
import { Conflict, Invalid, type Unavailable } from "../DashboardApi.ts"
import { Live } from "./live.ts"
import { looked, readable } from "./viewing.ts"

/** What is done to all jobs that match. */
export type Action = "retry" | "cancel" | "delete"

/** What an operation would change. */
export interface Preview extends JobCount {
  readonly sample: ReadonlyArray<JobRow>
  readonly token: string
  readonly confirm: string | null
}

/** What was asked for. */
export interface Wish {
  readonly action: Action
  /** As it was asked for. */
  readonly q: string
  /** The same with secrets hidden, for the audit trail. */
  readonly text: string
  /** Within what exists for who asks. */
  readonly filter: Filter
  readonly user: string
}

/** Bulk operations. */
export class Operations extends Context.Service<
  Operations,
  {
    readonly preview: (wish: Wish) => Effect.Effect<Preview, Invalid | Unavailable>
    /** Begins what was shown under the token and returns the operation's id. */
    readonly start: (
      wish: Wish,
      token: string,
      confirm: string | undefined
    ) => Effect.Effect<number, Conflict | Invalid | Unavailable>
  }
>()("effect-shigoto/dashboard/internal/Operations") {}

/** The most operations that a process runs at once. */
export const maxRunning = 3

/** From this many jobs on, the number has to be typed. */
export const confirmFrom = 1000

/** Provides them; `limit` is the most jobs of one operation. Operations that run end with the layer. */
export const layer = (limit: number | undefined): Layer.Layer<Operations, never, Audit | Jobs | Live> =>
  Layer.effect(
    Operations,
    Effect.gen(function* () {
      const audit = yield* Audit
      const jobs = yield* Jobs
      const live = yield* Live
      const scope = yield* Effect.scope
      let running = 0

      const run = Effect.fnUntraced(function* (id: number, { action, filter, user }: Wish, expected: number) {
        const work: Readonly<Record<Action, () => Stream.Stream<BulkProgress, InvalidFilter | StorageFailure>>> = {
          retry: () => jobs.retryBy(filter, { all: true }),
          cancel: () => jobs.cancelBy(filter, { all: true, reason: `by ${user} in the dashboard` }),
          delete: () => jobs.deleteBy(filter, { all: true })
        }
        let mayGoOn = true
        let problem: string | undefined
        const note = Effect.fnUntraced(function* (progress: BulkProgress) {
          const [first] = progress.problems
          if (first !== undefined) problem = `Job ${first.id}: ${first.message}`
          const { changed, failed, matched, requested, skipped } = progress
          // What was done is done, whether it can be told or not.
          mayGoOn = yield* Effect.orElseSucceed(
            audit.advance(id, { expected, matched, changed, requested, skipped, failed }),
            () => true
          )
          yield* live.changed(topics)
        })
        yield* work[action]().pipe(
          Stream.tap(note),
          Stream.takeWhile(() => mayGoOn),
          Stream.runDrain,
          Effect.tapError((error) => Effect.logError("A bulk operation of the dashboard failed", error)),
          Effect.onExit((exit) =>
            Effect.ignore(
              Exit.isSuccess(exit)
                ? audit.finish(id, mayGoOn ? "done" : "stopped", problem)
                : Cause.hasInterruptsOnly(exit.cause)
                  ? audit.finish(id, "stopped", "The process that ran it ended.")
                  : audit.finish(id, "failed", "The log of the process that ran it tells why.")
            )
          ),
          Effect.ignore,
          Effect.andThen(live.changed(topics))
        )
      })
      const limited = (counted: JobCount) =>
        limit !== undefined && (counted.count > limit || !counted.isExact)
          ? Effect.fail(
              new Invalid({
                message: `${told(counted)} jobs match, and one operation may change ${limit} at most: narrow the filter.`
              })
            )
          : Effect.void

      return Operations.of({
        preview: Effect.fnUntraced(function* ({ action, filter, q }) {
          const wanted = withStates(action, filter)
          const sample = yield* readable(jobs.list({ ...wanted, limit: 5 }))
          const newest = sample[0]?.id ?? 0
          const counted = sample.length === 0 ? { count: 0, isExact: true } : yield* readable(jobs.count(wanted))
          yield* limited(counted)
          return {
            ...counted,
            sample,
            token: writeToken({ action, asked: digest(q), newest, ...counted }),
            confirm: confirmation(action, filter, counted)
          }
        }),
        start: Effect.fnUntraced(function* (wish, token, confirm) {
          const shown = readToken(token)
          if (shown === undefined || shown.action !== wish.action || shown.asked !== digest(wish.q)) {
            return yield* new Invalid({ message: "The token belongs to another operation: preview this one." })
          }
          const wanted = upTo(withStates(wish.action, wish.filter), shown.newest)
          const counted = yield* readable(jobs.count(wanted))
          yield* limited(counted)
          if (shown.isExact && (counted.count > shown.count || !counted.isExact)) {
            return yield* new Conflict({
              message: `${told(counted)} jobs match now, more than the ${shown.count} that were shown: look again.`
            })
          }
          const typed = confirmation(wish.action, wish.filter, shown)
          if (typed !== null && confirm !== typed) {
            return yield* new Invalid({ message: `Type ${typed} as confirmation that so many jobs are meant.` })
          }
          if (running >= maxRunning) {
            return yield* new Conflict({ message: `${maxRunning} operations run already: wait for one to end.` })
          }
          running++
          const entry = { actor: wish.user, action: wish.action, subject: wish.text, expected: shown.count }
          return yield* looked(audit.begin(entry)).pipe(
            Effect.tap((id) =>
              run(id, { ...wish, filter: wanted }, shown.count).pipe(
                Effect.ensuring(Effect.sync(() => running--)),
                Effect.interruptible,
                Effect.forkIn(scope)
              )
            ),
            Effect.onError(() => Effect.sync(() => running--)),
            // Who asked may have left by now; what is noted as begun begins.
            Effect.uninterruptible
          )
        })
      })
    })
  )

// internal

const topics = ["operations", "jobs", "queues", "overview", "failures", "batches"]

/** What each does where the filter names no state; so that the preview counts what is met. */
const meant: Readonly<Record<Action, ReadonlyArray<JobState>>> = {
  retry: ["retryable", "discarded"],
  cancel: ["scheduled", "blocked", "available", "executing", "retryable"],
  delete: ["scheduled", "blocked", "available", "retryable", "completed", "discarded", "cancelled"]
}

const withStates = (action: Action, filter: Filter): Filter => ({ ...filter, state: filter.state ?? meant[action] })

/** The same without jobs that are newer. */
const upTo = (filter: Filter, newest: number): Filter => {
  const { id } = filter
  const max = newest as JobId // an id, under its brand
  if (id === undefined) return { ...filter, id: { max } }
  if (typeof id === "number") return id <= newest ? filter : { ...filter, id: [] }
  if ("length" in id) return { ...filter, id: id.filter((one) => one <= newest) }
  return { ...filter, id: { ...id, max: id.max === undefined || id.max > newest ? max : id.max } }
}

const told = ({ count, isExact }: JobCount): string => (isExact ? String(count) : `${count} or more`)

const confirmation = (action: Action, filter: Filter, { count, isExact }: JobCount): string | null => {
  const isWide = Object.values(filter).every((value) => value === undefined)
  if (!isExact) return `${count}+`
  return count >= confirmFrom || (count > 0 && (action === "delete" || isWide)) ? String(count) : null
}

const digest = (q: string): string => createHash("sha256").update(q).digest("base64url")

/** What was shown: no secret, and no permission either. */
const Shown = Schema.fromJsonString(
  Schema.Struct({
    action: Schema.Literals(["retry", "cancel", "delete"]),
    asked: Schema.String,
    newest: Schema.Int,
    count: Schema.Int,
    isExact: Schema.Boolean
  })
)

const writeToken = (shown: (typeof Shown)["Type"]): string =>
  Buffer.from(Schema.encodeSync(Shown)(shown)).toString("base64url")

const readToken = (token: string): (typeof Shown)["Type"] | undefined => {
  const decoded = Schema.decodeUnknownOption(Shown)(Buffer.from(token, "base64url").toString("utf8"))
  return decoded._tag === "Some" ? decoded.value : undefined
}
