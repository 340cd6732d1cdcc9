/** A dashboard over a database of its own, for viewers of any kind. */
import * as Effect from "effect/Effect"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { Batches } from "../../src/Batches.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import { type Access, Dashboard, DashboardApi } from "../../src/dashboard/index.ts"
import * as Job from "../../src/Job.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"

export const Send = Job.make("send", { args: Schema.Unknown, queue: "mails" })
export const Pay = Job.make("pay", { args: Schema.Unknown, queue: "payments" })

export type Init = Omit<RequestInit, "headers"> & { readonly headers?: Readonly<Record<string, string>> }

export interface Answered {
  readonly status: number
  readonly headers: { readonly get: (name: string) => string | null }
  readonly text: string
  readonly json: () => ReturnType<typeof JSON.parse>
}

export const everyone: Access.Access = { user: "root", can: "all" }

/** A dashboard for one viewer, on the services of the test. */
export const open = Effect.fnUntraced(function* (access: Access.Access | undefined, options: Dashboard.Options = {}) {
  const services = yield* Effect.context<Dashboard.Services>()
  const handle = Dashboard.handler(Layer.succeedContext(services), { access: () => Effect.succeed(access), ...options })
  yield* Effect.addFinalizer(() => Effect.promise(() => handle.dispose()))
  return (path: string, init: Init = {}) =>
    Effect.promise(async (): Promise<Answered> => {
      const response = await handle(
        new Request(`http://jobs.test${path}`, { ...init, headers: { "x-shigoto": "1", ...init.headers } })
      )
      const text = await response.text()
      return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) }
    })
})
export const post = (body?: unknown): Init => ({
  method: "POST",
  ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } })
})

export const endpoints = Object.values(DashboardApi.DashboardApi.groups).flatMap(
  (group) => Object.values(group.endpoints) as ReadonlyArray<HttpApiEndpoint.Top>
)

/** One request for each endpoint, about things that exist. */
export const requestFor = (
  endpoint: HttpApiEndpoint.Top,
  about: { readonly job: number; readonly batch: number }
): readonly [string, Init] => {
  const { path } = endpoint
  const id = path.includes("/batches/") ? about.batch : about.job
  const name = path.includes("/cron/") ? "nightly" : path.includes("/queues/") ? "mails" : "send"
  const filled = path.replace(":id", String(id)).replace(":name", name)
  return [
    path.endsWith("/search") ? `${filled}?text=s` : filled,
    endpoint.method === "POST" ? post(path.endsWith("/scale") ? { concurrency: 3 } : undefined) : {}
  ]
}

/** Things for every endpoint to be about, with secrets in them. */
export const fixture = Effect.gen(function* () {
  const carried = { to: "a", password: "canary-1", nested: { api_key: "canary-2", text: "x canary-1" } }
  const { id } = yield* Send.enqueue(carried)
  yield* (yield* CronJobs).upsert({ name: "nightly", cron: "@daily", job: Send, args: carried })
  const batch = yield* (yield* Batches).create({
    name: "import",
    members: [yield* Send.prepare(carried), yield* Pay.prepare(carried)],
    sealed: true
  })
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO shigoto.workers (name, args, published_at)
    VALUES ('send', '{"type":"object"}'::jsonb, now()) ON CONFLICT DO NOTHING`
  yield* sql`INSERT INTO shigoto.logs (job_id, stored_at, logged_at, line, epoch, attempt, level, message)
    VALUES (${id}, now(), now(), 1, 1, 1, 'Info', '"sent with canary-1"'::jsonb)`
  return { job: id, batch: batch.id }
})

export const TestLive = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer({ queues: { mails: 2, payments: 2 } })),
  Layer.provideMerge(TestDatabase.layer()),
  Layer.orDie
)
