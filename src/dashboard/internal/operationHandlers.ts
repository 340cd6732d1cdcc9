/** What is done to all jobs that match, and who did what. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { Audit, type Operation } from "../../Audit.ts"
import { type Access, CurrentAccess } from "../Access.ts"
import { DashboardApi, Invalid, NotFound } from "../DashboardApi.ts"
import { Board } from "./board.ts"
import { summary } from "./jobHandlers.ts"
import { Live } from "./live.ts"
import { type Action, Operations } from "./operations.ts"
import { answer, isNothing, looked, moment, readable, seesAll } from "./viewing.ts"

/** Implements the endpoints. */
export const OperationsLive = HttpApiBuilder.group(
  DashboardApi,
  "operations",
  Effect.fnUntraced(function* (endpoints) {
    const { viewing } = yield* Board
    const audit = yield* Audit
    const live = yield* Live
    const operations = yield* Operations

    const wishOf = Effect.fnUntraced(function* (action: Action, q: string | undefined) {
      const { user } = yield* CurrentAccess
      const filter = yield* viewing.filterOf(q)
      if (isNothing(filter)) return yield* new Invalid({ message: "No queue that you see is in the filter." })
      return { action, filter, user, q: q ?? "", text: viewing.text(q ?? "") }
    })
    const preview =
      (action: Action) =>
      ({ payload }: { readonly payload: { readonly q?: string | undefined } }) =>
        Effect.gen(function* () {
          const shown = yield* operations.preview(yield* wishOf(action, payload.q))
          return { ...shown, sample: shown.sample.map((job) => summary(job, undefined)) }
        })
    const start =
      (action: Action) =>
      ({
        payload
      }: {
        readonly payload: {
          readonly q?: string | undefined
          readonly token: string
          readonly confirm?: string | undefined
        }
      }) =>
        Effect.gen(function* () {
          const wish = yield* wishOf(action, payload.q)
          const id = yield* operations.start(wish, payload.token, payload.confirm)
          yield* live.changed(["operations", "audit"])
          return viewOf(yield* find(id))
        })
    const stop =
      (action: Action) =>
      ({ params }: { readonly params: { readonly id: number } }) =>
        Effect.gen(function* () {
          const operation = yield* find(params.id)
          if (operation.action !== action) return yield* noOperation(params.id)
          const stopped = yield* looked(audit.stop(operation.id))
          return stopped ? answer("Stopping") : answer("Finished", `It is ${operation.state} already.`)
        })
    /** An operation that exists for the viewer: who sees some queues only sees their own. */
    const find = Effect.fnUntraced(function* (id: number) {
      const access = yield* CurrentAccess
      const operation = yield* looked(audit.operation(id))
      if (operation === undefined || !isSeen(access, operation)) return yield* noOperation(id)
      return operation
    })
    return endpoints.handleAll({
      retryPreview: preview("retry"),
      cancelPreview: preview("cancel"),
      deletePreview: preview("delete"),
      retryAll: start("retry"),
      cancelAll: start("cancel"),
      deleteAll: start("delete"),
      retryStop: stop("retry"),
      cancelStop: stop("cancel"),
      deleteStop: stop("delete"),
      operations: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        const found = yield* looked(audit.operations({ limit: 20 }))
        return found.filter((operation) => isSeen(access, operation)).map(viewOf)
      }),
      operation: ({ params }) => Effect.map(find(params.id), viewOf),
      audit: Effect.fnUntraced(function* ({ query }) {
        if (!seesAll(yield* CurrentAccess)) return { entries: [], next: null }
        const { limit = 50 } = query
        const page = yield* readable(audit.list({ after: query.after, limit: limit + 1 }))
        const shown = page.slice(0, limit)
        return {
          entries: shown.map(({ action, actor, at, detail, id, outcome, subject }) => ({
            id,
            at: DateTime.formatIso(at),
            user: actor,
            action,
            subject,
            outcome: outcome ?? null,
            detail: detail ?? null
          })),
          next: page.length > limit ? (shown.at(-1)?.id ?? null) : null
        }
      })
    })
  })
)

// internal

const noOperation = (id: number) => new NotFound({ message: `There is no operation ${id}.` })

const isSeen = (access: Access, operation: Operation): boolean => seesAll(access) || operation.actor === access.user

const viewOf = ({ actor, at, detail, finishedAt, subject, ...operation }: Operation) => ({
  ...operation,
  user: actor,
  q: subject,
  at: DateTime.formatIso(at),
  detail: detail ?? null,
  finishedAt: moment(finishedAt)
})
