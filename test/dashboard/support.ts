/** A dashboard over a database of its own, for viewers of any kind. */
import * as Effect from "effect/Effect"
import type * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { createHash } from "node:crypto"
import { Audit } from "../../src/Audit.ts"
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

/** The whole of an answer; of a stream, which never ends, its beginning. */
const textOf = async (response: Response): Promise<string> => {
  if (response.headers.get("content-type")?.startsWith("text/event-stream") !== true) return response.text()
  const reader = response.body?.getReader()
  const { value } = (await reader?.read()) ?? {}
  await reader?.cancel()
  return new TextDecoder().decode(value)
}

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
      const text = await textOf(response)
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

/** What a viewer was shown of an operation that would change nothing. */
const tokenFor = (action: string): string => {
  const asked = createHash("sha256").update("id:1").digest("base64url")
  return Buffer.from(JSON.stringify({ action, asked, newest: 1, count: 1, isExact: true })).toString("base64url")
}

/** One request for each endpoint, about things that exist. */
export const requestFor = (
  endpoint: HttpApiEndpoint.Top,
  about: Effect.Success<typeof fixture>
): readonly [string, Init] => {
  const { path } = endpoint
  const action = (["retry", "cancel", "delete"] as const).find((one) => path.includes(`/operations/${one}`))
  const id = path.includes("/batches/")
    ? about.batch
    : path.includes("/operations/")
      ? about.operations[action ?? "retry"]
      : about.job
  const name = path.includes("/cron/") ? "nightly" : path.includes("/queues/") ? "mails" : "send"
  const filled = path.replace(":id", String(id)).replace(":name", name)
  const body = /\/(scale|concurrency)$/.test(path)
    ? { concurrency: 3 }
    : path.endsWith("/rate")
      ? { rate: null }
      : path.endsWith("/enqueue")
        ? { args: {} }
        : action === undefined || path.endsWith("/stop")
          ? undefined
          : { q: "id:1", token: tokenFor(action), confirm: "1" }
  const query = path.endsWith("/search")
    ? "?text=s"
    : /\/(activity|history-by)$/.test(path)
      ? "?by=queue"
      : /events|pulse/.test(path)
        ? "?topics=jobs"
        : ""
  return [filled + query, endpoint.method === "POST" ? post(body) : {}]
}

/** What a node tells of the args of `send`. */
export const sendSchema = {
  dialect: "draft-2020-12",
  schema: { type: "object", properties: { to: { type: "string" } } },
  definitions: {}
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
    VALUES ('send', ${JSON.stringify(sendSchema)}::text::jsonb, now()) ON CONFLICT DO NOTHING`
  yield* sql`INSERT INTO shigoto.logs (job_id, stored_at, logged_at, line, epoch, attempt, level, message)
    VALUES (${id}, now(), now(), 1, 1, 1, 'Info', '"sent with canary-1"'::jsonb)`
  const audit = yield* Audit
  const begin = (action: string) => audit.begin({ actor: "x", action, subject: "state:discarded", expected: 0 })
  const operations = { retry: yield* begin("retry"), cancel: yield* begin("cancel"), delete: yield* begin("delete") }
  return { job: id, batch: batch.id, operations }
})

export const TestLive = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer({ queues: { mails: 2, payments: 2 } })),
  Layer.provideMerge(TestDatabase.layer()),
  Layer.orDie
)
