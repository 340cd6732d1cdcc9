/** The whole at one glance: as totals of what exists for the viewer. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Option from "effect/Option"
import { Batches } from "../../Batches.ts"
import { CronJobs } from "../../CronJobs.ts"
import { type Activity, type Chart, History } from "../../History.ts"
import type { BatchId } from "../../JobRow.ts"
import { Jobs } from "../../Jobs.ts"
import { plainSetting } from "../../Redaction.ts"
import type { Access } from "../Access.ts"
import { allows, CurrentAccess, Instance, permissions, seesQueue } from "../Access.ts"
import { DashboardApi, type Unavailable } from "../DashboardApi.ts"
import { Board, problems, type Sample, totalsOf } from "./board.ts"
import { keyed, shared } from "./sampler.ts"
import { looked, seesAll } from "./viewing.ts"

/** Implements the endpoints. */
export const OverviewLive = HttpApiBuilder.group(
  DashboardApi,
  "overview",
  Effect.fnUntraced(function* (endpoints) {
    const { environment, sample, viewing } = yield* Board
    const cron = yield* CronJobs
    const batches = yield* Batches
    const history = yield* History
    const jobs = yield* Jobs
    const active = keyed<ReadonlyArray<Activity>, Unavailable>(5000, 2)
    const tables = yield* shared(jobs.tables, 30_000)
    const looksAt = Effect.map(sample.seen, ({ at, exit }) => ({
      at,
      ...(Exit.isSuccess(exit) ? exit.value : nothing)
    }))
    /** Without what cannot be read, as where a role may not. */
    const tableViews = Effect.map(tables.seen, ({ exit }) =>
      Option.getOrElse(Exit.getSuccess(exit), () => []).map(({ vacuumedAt, ...table }) => ({
        ...table,
        vacuumedAt: vacuumedAt?.toISOString() ?? null
      }))
    )
    const settings = Object.fromEntries(
      Object.entries(jobs.settings).map(([name, value]) => [name, plainSetting(value)])
    )
    return endpoints.handleAll({
      me: () =>
        Effect.gen(function* () {
          const access = yield* CurrentAccess
          const instance = yield* Instance
          return {
            user: access.user,
            can: permissions.filter((permission) => allows(access, permission)),
            queues: access.queues ?? null,
            environment:
              environment === undefined ? null : { name: environment.name, tone: environment.tone ?? "calm" },
            instance: instance?.current ?? null,
            instances: instance?.all ?? []
          }
        }),
      overview: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        const { at, health, queues } = yield* looksAt
        const reasons = problems(access, health.reasons)
        const seen = queues?.filter((queue) => seesQueue(access, queue.name))
        return {
          ...totalsOf(access, { health, queues }),
          sampledAt: isoOf(at),
          status: statusFor(access, health.status, reasons.length),
          reasons,
          slots: seen === undefined ? null : seen.reduce((sum, queue) => sum + queue.slots, 0),
          nodes: {
            live: health.nodes.filter((node) => node.live).length,
            silent: health.nodes.filter((node) => !node.live).length
          }
        }
      }),
      history: Effect.fnUntraced(function* ({ query: { queue, span = "1h", worker } }) {
        const access = yield* CurrentAccess
        const asked = queue === undefined ? access.queues : [queue].filter((name) => seesQueue(access, name))
        const chart = yield* looked(history.read({ span, queues: asked, worker }))
        return {
          ...reachOf(chart),
          points: chart.points.map(({ at, depth, run, wait, ...counts }) => ({
            ...counts,
            at: DateTime.formatIso(at),
            run: run ?? null,
            wait: wait ?? null,
            depth: depth ?? null
          }))
        }
      }),
      historyBy: Effect.fnUntraced(function* ({ query: { by, span = "1h" } }) {
        const access = yield* CurrentAccess
        const chart = yield* looked(history.readBy(by, { span, queues: access.queues }))
        return {
          ...reachOf(chart),
          // To who sees some queues only, the names of workers do not exist.
          groups: (by === "worker" && !seesAll(access) ? [] : chart.groups).map(({ name, points }) => ({
            name: name ?? null,
            points: points.map(({ at, run, wait, ...counts }) => ({
              ...counts,
              at: DateTime.formatIso(at),
              run: run ?? null,
              wait: wait ?? null
            }))
          }))
        }
      }),
      activity: Effect.fnUntraced(function* ({ query: { by } }) {
        const access = yield* CurrentAccess
        if (by === "worker" && !seesAll(access)) return []
        const found = yield* active(by, looked(history.activity(by)))
        return found
          .filter(({ name }) => by === "worker" || seesQueue(access, name))
          .map(({ run, wait, ...activity }) => ({ ...activity, run: run ?? null, wait: wait ?? null }))
      }),
      system: Effect.fnUntraced(function* () {
        const access = yield* CurrentAccess
        const { health } = yield* looksAt
        const reasons = problems(access, health.reasons)
        return {
          status: statusFor(access, health.status, reasons.length),
          reasons,
          postgres: health.database.version ?? null,
          schema: { found: health.schema.found ?? null, expected: health.schema.expected },
          deadRows: health.deadRows ?? null,
          oldestTransactionSeconds: health.oldestTransactionSeconds ?? null,
          listening: health.notifications.listening,
          // Sizes tell of all queues together.
          tables: seesAll(access) ? yield* tableViews : [],
          // They name queues.
          settings: seesAll(access) ? settings : {}
        }
      }),
      search: Effect.fnUntraced(function* ({ query }) {
        const access = yield* CurrentAccess
        const text = query.text.trim()
        if (text === "") return []
        const hits: Array<Hit> = []
        const id = /^#?\d{1,15}$/.test(text) ? Number(text.replace("#", "")) : undefined
        if (id !== undefined) {
          const job = yield* Effect.catchTag(viewing.job(id), "NotFound", () => Effect.undefined)
          if (job !== undefined) hits.push({ kind: "job", id: String(id), label: `${job.worker} · ${job.state}` })
          if (seesAll(access)) {
            const batch = yield* looked(
              Effect.catchTag(batches.get(id as BatchId), "BatchNotFound", () => Effect.undefined) // an id, under its brand
            )
            if (batch !== undefined) hits.push({ kind: "batch", id: String(id), label: batch.name })
          }
        }
        const { health, queues } = yield* looksAt
        const add = (kind: Hit["kind"], names: Iterable<string>) => {
          const wanted = text.toLowerCase()
          for (const name of [...new Set(names)].toSorted()) {
            if (name.toLowerCase().includes(wanted)) hits.push({ kind, id: name, label: name })
          }
        }
        add(
          "queue",
          (queues ?? []).map((queue) => queue.name).filter((name) => seesQueue(access, name))
        )
        const entries = (yield* looked(cron.list)).filter((entry) => seesQueue(access, entry.queue))
        add(
          "cron",
          entries.map((entry) => entry.name)
        )
        if (seesAll(access)) {
          const live = health.nodes.filter((node) => node.live)
          add(
            "worker",
            live.flatMap((node) => node.workers)
          )
          add(
            "node",
            live.map((node) => node.name)
          )
        }
        return hits.slice(0, 20)
      }),
      openapi: () => Effect.sync(() => OpenApi.fromApi(DashboardApi))
    })
  })
)

// internal

interface Hit {
  readonly kind: "job" | "queue" | "worker" | "node" | "cron" | "batch"
  readonly id: string
  readonly label: string
}

/** A look never fails; one that was cut short shows nothing. */
const nothing: Sample = {
  health: {
    status: "down",
    reasons: [],
    database: { reachable: false, version: undefined },
    schema: { found: undefined, expected: 0 },
    counts: undefined,
    queues: [],
    nodes: [],
    oldestTransactionSeconds: undefined,
    deadRows: undefined,
    notifications: { listening: false, queueUsage: undefined }
  },
  queues: undefined
}

/** To who sees some queues only, the whole is as well as what they see. */
const statusFor = (access: Access, status: "ok" | "degraded" | "down", reasons: number) =>
  seesAll(access) || status === "down" ? status : reasons > 0 ? "degraded" : "ok"

const reachOf = (chart: Pick<Chart, "from" | "to" | "stepMillis">) => ({
  from: DateTime.formatIso(chart.from),
  to: DateTime.formatIso(chart.to),
  stepMillis: chart.stepMillis
})

const isoOf = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))
