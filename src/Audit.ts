/**
 * Who did what: what operators asked for through the dashboard, and how far their bulk operations have come.
 *
 * Entries are kept in the database for 90 days, so that every process tells the same. They hold no args: a subject is
 * the name of what was changed, or the filter that chose it.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { sanitize } from "./internal/json.ts"
import type { AuditColumns, Progress } from "./internal/sql/audit.ts"
import { shown } from "./internal/names.ts"
import { JobStore } from "./JobStore.ts"
import { InvalidFilter, type StorageFailure } from "./ShigotoError.ts"

export type { Progress } from "./internal/sql/audit.ts"

/**
 * What somebody did.
 *
 * @category models
 */
export interface Entry {
  readonly id: number
  readonly at: DateTime.Utc
  /** Who, as the host of the dashboard names them. */
  readonly actor: string
  readonly action: string
  /** What it was done to. */
  readonly subject: string
  /** What became of it; undefined for a bulk operation that has not ended. */
  readonly outcome: string | undefined
  readonly detail: string | undefined
}

/**
 * A bulk operation: it goes on in the process that began it, and every process tells how far it has come.
 *
 * **Details**
 *
 * `lost` says that its process has not been heard of for a minute. What it changed stays changed; it may be begun again.
 *
 * @category models
 */
export interface Operation extends Omit<Entry, "outcome">, Progress {
  readonly state: "running" | "done" | "stopped" | "failed" | "lost"
  readonly finishedAt: DateTime.Utc | undefined
}

/**
 * Which entries to read.
 *
 * @category models
 */
export interface PageOptions {
  /** Only entries after this one: the last of the page before. Defaults to the newest. */
  readonly after?: number | undefined
  /** How many, from 1 to 1,000. Defaults to 100. */
  readonly limit?: number | undefined
}

/**
 * Who did what.
 *
 * @category services
 */
export class Audit extends Context.Service<
  Audit,
  {
    /** Notes what was done. */
    readonly record: (
      entry: Pick<Entry, "actor" | "action" | "subject" | "detail"> & { readonly outcome: string }
    ) => Effect.Effect<void, StorageFailure>
    /** A page of entries, the newest first. */
    readonly list: (options?: PageOptions) => Effect.Effect<ReadonlyArray<Entry>, InvalidFilter | StorageFailure>
    /** A page of bulk operations, the newest first. */
    readonly operations: (
      options?: PageOptions
    ) => Effect.Effect<ReadonlyArray<Operation>, InvalidFilter | StorageFailure>
    /** One bulk operation, where it is still known. */
    readonly operation: (id: number) => Effect.Effect<Operation | undefined, StorageFailure>
    /** Notes that a bulk operation begins, and returns its id. */
    readonly begin: (
      operation: Pick<Entry, "actor" | "action" | "subject"> & { readonly expected: number }
    ) => Effect.Effect<number, StorageFailure>
    /** Notes how far a bulk operation has come; says whether it may go on. */
    readonly advance: (id: number, progress: Progress) => Effect.Effect<boolean, StorageFailure>
    /** Notes the end of a bulk operation. */
    readonly finish: (
      id: number,
      outcome: "done" | "stopped" | "failed",
      detail?: string
    ) => Effect.Effect<void, StorageFailure>
    /** Has a bulk operation end before its next portion, wherever it runs; false where it has ended. */
    readonly stop: (id: number) => Effect.Effect<boolean, StorageFailure>
  }
>()("effect-shigoto/Audit") {}

/**
 * Provides it over the store.
 *
 * @category layers
 */
export const layer: Layer.Layer<Audit, never, JobStore> = Layer.effect(
  Audit,
  Effect.map(JobStore, ({ audit }) => {
    const page = Effect.fnUntraced(function* ({ after, limit = 100 }: PageOptions, operations: boolean) {
      if (!Number.isInteger(limit) || limit < 1 || limit > 1000) return yield* unfit("limit", limit, "1 to 1000")
      if (after !== undefined && !isId(after)) return yield* unfit("after", after, "1 up")
      return yield* audit.list({ before: after ?? Number.MAX_SAFE_INTEGER, limit, operations })
    })
    return Audit.of({
      record: (entry) => audit.record({ ...named(entry), outcome: entry.outcome, detail: cut(entry.detail) }),
      list: Effect.fn("Audit.list")((options = {}) => Effect.map(page(options, false), (rows) => rows.map(entryOf))),
      operations: Effect.fn("Audit.operations")((options = {}) =>
        Effect.map(page(options, true), (rows) => rows.flatMap(operationOf))
      ),
      operation: Effect.fn("Audit.operation")(function* (id) {
        if (!isId(id)) return undefined
        const rows = yield* audit.list({ before: id + 1, limit: 1, operations: true })
        return rows.flatMap(operationOf).find((operation) => operation.id === id)
      }),
      begin: ({ expected, ...entry }) => audit.begin({ ...named(entry), progress: { ...nothingYet, expected } }),
      advance: audit.advance,
      finish: (id, outcome, detail) => audit.finish(id, { outcome, detail: cut(detail) }),
      stop: (id) => (isId(id) ? audit.stop(id) : Effect.succeed(false))
    })
  })
)

// internal

const nothingYet = { matched: 0, changed: 0, requested: 0, skipped: 0, failed: 0 }

/** The most bytes of a text. */
const maxBytes = 2000

const cut = (text: string | undefined): string | undefined =>
  text === undefined ? undefined : sanitize(text, maxBytes)

const named = ({ action, actor, subject }: Pick<Entry, "actor" | "action" | "subject">) => ({
  actor: sanitize(actor, maxBytes),
  action,
  subject: sanitize(subject, maxBytes)
})

const isId = (id: number): boolean => Number.isSafeInteger(id) && id > 0 && id < Number.MAX_SAFE_INTEGER

const unfit = (field: string, value: unknown, range: string): InvalidFilter =>
  new InvalidFilter({
    field,
    value: shown(value),
    message: `${field} cannot be ${shown(value)}: it is an integer from ${range}.`
  })

const entryOf = (row: AuditColumns): Entry => ({
  id: Number(row.id),
  at: DateTime.fromDateUnsafe(row.at),
  actor: row.actor,
  action: row.action,
  subject: row.subject,
  outcome: row.outcome ?? undefined,
  detail: row.detail ?? undefined
})

const ends = { done: "done", stopped: "stopped", failed: "failed" } as const

const operationOf = (row: AuditColumns): ReadonlyArray<Operation> => {
  if (row.progress === null) return []
  const { outcome, ...entry } = entryOf(row)
  return [
    {
      ...entry,
      ...row.progress,
      state: outcome === undefined ? (row.lost ? "lost" : "running") : (ends[outcome as keyof typeof ends] ?? "failed"), // as finish writes it
      finishedAt: row.finished_at === null ? undefined : DateTime.fromDateUnsafe(row.finished_at)
    }
  ]
}
