/**
 * The dashboard's server: nobody sees or does what they may not, no secret leaves, and what is asked is done.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Access, Dashboard } from "../../src/dashboard/index.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import type { JobId } from "../../src/JobRow.ts"
import { isView, withBase } from "../../src/dashboard/internal/assets.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { jobCount } from "../setup/producer.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { endpoints, everyone, fixture, open, Pay, post, requestFor, Send, sendSchema, TestLive } from "./support.ts"

layer(TestLive)("access", (it) => {
  it.effect("answers at the root of a server too, on services that the handler builds itself", () =>
    Effect.gen(function* () {
      const { clientConfig } = yield* TestDatabase
      const services = Shigoto.layerProducer.pipe(
        Layer.provide(ShigotoConfig.layer({})),
        Layer.provide(PgClient.layer(clientConfig))
      )
      const handle = Dashboard.handler(services, { access: () => Effect.succeed(everyone) })
      const ask = (path: string) => Effect.promise(() => handle(new Request(`http://jobs.test${path}`)))
      assert.strictEqual((yield* ask("/api/me")).status, 200)
      yield* Effect.promise(() => handle.dispose())
      const below = Dashboard.handler(services, { path: "/jobs", access: () => Effect.succeed(everyone) })
      const outside = yield* Effect.promise(() => below(new Request("http://jobs.test/api/me")))
      assert.strictEqual(outside.status, 404)
      yield* Effect.promise(() => below.dispose())
    })
  )

  it.effect("shows nothing, and does nothing, until it is told who may see it", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const services = yield* Effect.context<Dashboard.Services>()
      const handle = Dashboard.handler(Layer.succeedContext(services))
      yield* Effect.addFinalizer(() => Effect.promise(() => handle.dispose()))
      const nobody = yield* open(undefined)
      for (const endpoint of endpoints) {
        const [path, init] = requestFor(endpoint, about)
        const closed = yield* Effect.promise(() => handle(new Request(`http://jobs.test${path}`, init)))
        assert.strictEqual(closed.status, 403, path)
        assert.strictEqual((yield* nobody(path, init)).status, 401, path)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("asks at every endpoint for its permission, and for no more", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const viewers = new Map<
        Access.Permission,
        Record<"others" | "allowed", Effect.Success<ReturnType<typeof open>>>
      >()
      for (const endpoint of endpoints) {
        const required = Context.getOrUndefined(
          endpoint.annotations as Context.Context<Access.Requires>,
          Access.Requires
        )
        assert.isDefined(required, endpoint.path)
        if (required === undefined) continue
        if (endpoint.method !== "GET") assert.notStrictEqual(required, "jobs:view", endpoint.path)
        const [path, init] = requestFor(endpoint, about)
        const pair = viewers.get(required) ?? {
          others: yield* open({ user: "x", can: Access.permissions.filter((known) => known !== required) }),
          allowed: yield* open({ user: "x", can: [required] })
        }
        viewers.set(required, pair)
        const { allowed, others } = pair
        assert.strictEqual((yield* others(path, init)).status, 403, path)
        const answer = yield* allowed(path, init)
        // A process without workers has no circuit to close, and nobody tells of a limit here.
        const isAbsent = /^\/api\/(breakers|limits)\//.test(path)
        assert.strictEqual(answer.status, isAbsent ? 404 : 200, `${path}: ${answer.text}`)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("lets a reader read everything but the audit trail, and change nothing", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const reader = yield* open({ user: "r", can: "readOnly" })
      const sql = yield* SqlClient.SqlClient
      const world = sql`
        SELECT (SELECT jsonb_agg(j ORDER BY id) FROM shigoto.jobs AS j) AS jobs,
          (SELECT jsonb_agg(c ORDER BY name) FROM shigoto.cron AS c) AS cron,
          (SELECT jsonb_agg(q ORDER BY name) FROM shigoto.queues AS q) AS queues,
          (SELECT jsonb_agg(b ORDER BY id) FROM shigoto.batches AS b) AS batches,
          (SELECT jsonb_agg(a ORDER BY id) FROM shigoto.audit AS a) AS audit`
      const before = yield* world
      for (const endpoint of endpoints) {
        const [path, init] = requestFor(endpoint, about)
        const answer = yield* reader(path, init)
        const isRead = endpoint.method === "GET" && endpoint.identifier !== "audit"
        assert.strictEqual(answer.status, isRead ? 200 : 403, `${path}: ${answer.text}`)
      }
      assert.deepStrictEqual(yield* world, before)
    }).pipe(Effect.scoped)
  )

  it.effect("changes nothing for who sees other queues, whatever they may do there", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const team = yield* open({ user: "payers", can: Access.permissions, queues: ["payments"] })
      for (const endpoint of endpoints.filter(({ method }) => method !== "GET")) {
        const [path, init] = requestFor(endpoint, about)
        // Of a selection, those that they see are meant.
        if (/operations\/[a-z]+(\/preview)?$/.test(path)) continue
        assert.strictEqual((yield* team(path, init)).status, 404, path)
      }
      assert.strictEqual((yield* (yield* Jobs).get(about.job)).state, "available")
    }).pipe(Effect.scoped)
  )

  it.effect("lets a viewer of all do everything but reveal, and a reader only read", () =>
    Effect.gen(function* () {
      const all = yield* open(everyone)
      assert.deepStrictEqual(
        (yield* all("/api/me")).json().can,
        Access.permissions.filter((permission) => permission !== "args:reveal")
      )
      const reader = yield* open({ user: "r", can: "readOnly" })
      assert.deepStrictEqual((yield* reader("/api/me")).json().can, ["jobs:view"])
    }).pipe(Effect.scoped)
  )

  it.effect("keeps other queues out of lists, counts, groups, lookups and writes", () =>
    Effect.gen(function* () {
      const mail = yield* Send.enqueue({})
      const payment = yield* Pay.enqueue({})
      const sql = yield* SqlClient.SqlClient
      for (const { id } of [mail, payment]) {
        yield* sql`UPDATE shigoto.jobs SET fingerprint = 'same', errors = ${JSON.stringify([
          { attempt: 1, at: "2026-01-01T00:00:00.000Z", node: "n", tag: "Broken", message: `failed ${id}` }
        ])}::jsonb, state = 'retryable' WHERE id = ${id}`
      }
      const viewer = yield* open({ user: "mail team", can: Access.permissions, queues: ["mails"] })
      const listed = (yield* viewer("/api/jobs")).json().jobs as ReadonlyArray<{ readonly queue: string }>
      assert.isAbove(listed.length, 0)
      assert.isTrue(listed.every((job) => job.queue === "mails"))
      assert.deepStrictEqual((yield* viewer("/api/jobs?q=queue:payments")).json().jobs, [])
      assert.deepStrictEqual((yield* viewer("/api/count?q=queue:payments")).json(), { count: 0, isExact: true })
      const [group] = (yield* viewer("/api/failures")).json()
      assert.deepInclude(group, { sample: mail.id, count: 1, queue: "mails" })
      const names = (yield* viewer("/api/queues")).json().queues.map((queue: { name: string }) => queue.name)
      assert.deepStrictEqual(names, ["mails"])
      for (const [path, init] of [
        [`/api/jobs/${payment.id}`, {}],
        [`/api/jobs/${payment.id}/cancel`, post()],
        [`/api/jobs/${payment.id}/retry`, post()],
        ["/api/queues/payments/pause", post()]
      ] as const) {
        assert.strictEqual((yield* viewer(path, init)).status, 404, path)
      }
      assert.strictEqual((yield* (yield* Jobs).get(payment.id)).state, "retryable")
    }).pipe(Effect.scoped)
  )

  it.effect("tells of other queues nowhere, not by name and not in a total", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      yield* (yield* CronJobs).upsert({ name: "payments-run", cron: "@daily", job: Pay, args: {} })
      const [parent] = yield* Pay.enqueueAll([{}])
      const child = yield* Send.enqueue({}, { dependsOn: [parent?.id ?? (0 as JobId)] })
      const viewer = yield* open({ user: "mail team", can: Access.permissions, queues: ["mails"] })
      for (const endpoint of endpoints.filter(({ method }) => method === "GET")) {
        const answer = yield* viewer(...requestFor(endpoint, { ...about, job: child.id }))
        assert.notMatch(answer.text, /payments|\bpay\b/, endpoint.path)
      }
      assert.deepStrictEqual((yield* viewer(`/api/jobs/${child.id}/dependencies`)).json().parents, [])
      const everybody = yield* open(everyone)
      const { parents } = (yield* everybody(`/api/jobs/${child.id}/dependencies`)).json()
      assert.deepInclude(parents[0], { id: parent?.id, worker: "pay", state: "available" })
      assert.strictEqual((yield* viewer(`/api/batches/${about.batch}`)).status, 404)
      const [mine, all] = [(yield* viewer("/api/overview")).json(), (yield* everybody("/api/overview")).json()]
      assert.isBelow(mine.waiting, all.waiting)
    }).pipe(Effect.scoped)
  )
})

layer(TestLive)("secrets", (it) => {
  it.effect("leave in no answer, wherever the job quotes them", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const { job: id } = about
      const sql = yield* SqlClient.SqlClient
      const errors = [
        {
          attempt: 1,
          at: "2026-01-01T00:00:00.000Z",
          node: "n",
          tag: "E",
          message: "bad canary-1",
          cause: "at canary-2"
        }
      ]
      yield* sql`UPDATE shigoto.jobs SET errors = ${JSON.stringify(errors)}::jsonb, fingerprint = 'f', state = 'retryable',
        meta = ${JSON.stringify({ Authorization: "canary-3", note: "canary-3 again" })}::jsonb WHERE id = ${id}`
      const viewer = yield* open(everyone)
      for (const endpoint of endpoints.filter(({ path }) => !path.endsWith("/delete"))) {
        const answer = yield* viewer(...requestFor(endpoint, about))
        assert.notInclude(answer.text, "canary", endpoint.path)
      }
      const revealed = yield* open({ user: "x", can: Access.permissions })
      assert.notInclude((yield* revealed(`/api/jobs/${id}`)).text, "canary")
      assert.include((yield* revealed(`/api/jobs/${id}?reveal=true`)).text, "canary-1")
      const refused = yield* viewer(`/api/jobs/${id}?reveal=true`)
      assert.strictEqual(refused.status, 403)
      assert.notInclude(refused.text, "canary")
    }).pipe(Effect.scoped)
  )

  it.effect("cannot be guessed by searching for them", () =>
    Effect.gen(function* () {
      yield* fixture
      const viewer = yield* open(everyone)
      for (const path of ["jobs", "count"]) {
        const answer = yield* viewer(`/api/${path}?q=${encodeURIComponent("args.nested.api_key:canary-2")}`)
        assert.strictEqual(answer.status, 400)
        assert.include(answer.text, "args:reveal")
      }
      assert.isAbove((yield* viewer("/api/jobs?q=args.to:a")).json().jobs.length, 0)
    }).pipe(Effect.scoped)
  )
})

layer(TestLive)("requests", (it) => {
  it.effect("are refused without a word to the database when another site sends them", () =>
    Effect.gen(function* () {
      const { id } = yield* Send.enqueue({})
      const viewer = yield* open(everyone)
      const from = (headers: Record<string, string>) =>
        Effect.map(viewer(`/api/jobs/${id}/cancel`, { method: "POST", headers }), ({ status }) => status)
      assert.strictEqual(yield* from({ "x-shigoto": "" }), 403)
      assert.strictEqual(yield* from({ "sec-fetch-site": "cross-site" }), 403)
      assert.strictEqual(yield* from({ "sec-fetch-site": "same-site" }), 403)
      assert.strictEqual(yield* from({ origin: "http://evil.test", host: "jobs.test" }), 403)
      assert.strictEqual(yield* from({ origin: "null", host: "jobs.test" }), 403)
      assert.strictEqual((yield* (yield* Jobs).get(id)).state, "available")
      assert.strictEqual(yield* from({ origin: "http://jobs.test", host: "jobs.test" }), 200)
      assert.strictEqual((yield* (yield* Jobs).get(id)).state, "cancelled")
    }).pipe(Effect.scoped)
  )

  it.effect("are answered under the same policy whatever the answer is", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      for (const path of [
        "/",
        "/api/jobs",
        "/api/jobs/999999",
        "/api/nothing",
        "/../package.json",
        "/api/jobs?q=x:y"
      ]) {
        const { headers } = yield* viewer(path)
        assert.include(headers.get("content-security-policy") ?? "", "default-src 'none'; script-src 'self'", path)
        assert.strictEqual(headers.get("x-content-type-options"), "nosniff")
      }
    }).pipe(Effect.scoped)
  )

  it.effect("that make no sense are refused with the reason", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      const misspelt = yield* viewer("/api/jobs?q=wroker:send")
      assert.strictEqual(misspelt.status, 400)
      assert.include(misspelt.text, "wroker")
      assert.strictEqual((yield* viewer("/api/queues/mails/scale", post({ concurrency: -1 }))).status, 400)
      assert.strictEqual((yield* viewer("/api/cron/none/run", post())).status, 404)
    }).pipe(Effect.scoped)
  )

  it.effect("page through all jobs, each once", () =>
    Effect.gen(function* () {
      yield* Send.enqueueAll(Array.from({ length: 25 }, (_, n) => ({ n })))
      const viewer = yield* open(everyone)
      const ids: Array<number> = []
      let after = ""
      do {
        const page = (yield* viewer(`/api/jobs?limit=7${after}`)).json()
        ids.push(...page.jobs.map((job: { id: number }) => job.id))
        after = page.next === null ? "" : `&after=${page.next}`
      } while (after !== "")
      assert.strictEqual(new Set(ids).size, ids.length)
      assert.strictEqual(ids.length, yield* jobCount)
    }).pipe(Effect.scoped)
  )

  it.effect("page through jobs by when they are due and when they ended", () =>
    Effect.gen(function* () {
      const jobs = yield* Jobs
      const viewer = yield* open(everyone)
      const ends = yield* Send.enqueueAll(
        Array.from({ length: 5 }, () => ({})),
        { tags: ["ends"] }
      )
      yield* Effect.forEach(ends, ({ id }) => jobs.cancel(id))
      yield* Send.enqueueAll(
        Array.from({ length: 5 }, () => ({})),
        { tags: ["due"], delay: "1 hour" }
      )
      for (const [order, tag] of [
        ["due", "due"],
        ["finished", "ends"]
      ] as const) {
        const ids: Array<number> = []
        let after = ""
        do {
          const page = (yield* viewer(`/api/jobs?q=tag:${tag}&order=${order}&limit=2${after}`)).json()
          ids.push(...page.jobs.map((job: { id: number }) => job.id))
          after = page.next === null ? "" : `&after=${page.next}`
        } while (after !== "")
        assert.strictEqual(new Set(ids).size, 5, order)
        assert.strictEqual(ids.length, 5, order)
      }
      assert.strictEqual((yield* viewer("/api/states?q=tag:ends")).json().counts.at(-1).count, 5)
      assert.strictEqual((yield* viewer("/api/jobs?after=x")).status, 400)
    }).pipe(Effect.scoped)
  )

  it.effect("show a flow, a batch and the schema of a worker, and change a batch", () =>
    Effect.gen(function* () {
      const { batch } = yield* fixture
      const viewer = yield* open(everyone)
      assert.include(
        (yield* viewer("/api/batches")).json().batches.map((one: { id: number }) => one.id),
        batch
      )
      const shown = (yield* viewer(`/api/batches/${batch}`)).json()
      assert.deepInclude(shown, { name: "import", total: 2, pending: 2, finished: false })
      assert.deepStrictEqual((yield* viewer("/api/workers/send")).json().schema, sendSchema)
      assert.strictEqual((yield* viewer(`/api/batches/${batch}/cancel`, post())).json().detail, "2 jobs.")
      assert.isTrue((yield* viewer(`/api/batches/${batch}`)).json().finished)
      assert.strictEqual((yield* viewer(`/api/batches/${batch}/retry`, post())).json().detail, "2 jobs.")
      assert.strictEqual((yield* viewer("/api/batches/999999/retry", post())).status, 404)
      const found = (yield* viewer(`/api/search?text=${batch}`)).json()
      assert.deepInclude(found, { kind: "batch", id: String(batch), label: "import" })
      assert.deepInclude((yield* viewer("/api/search?text=night")).json(), {
        kind: "cron",
        id: "nightly",
        label: "nightly"
      })
      assert.strictEqual((yield* viewer("/api/openapi.json")).json().openapi.slice(0, 2), "3.")
    }).pipe(Effect.scoped)
  )

  it.effect("enqueue what a worker takes, and nothing else", () =>
    Effect.gen(function* () {
      yield* fixture
      const jobs = yield* Jobs
      const viewer = yield* open(everyone)
      const put = (body: unknown, worker = "send") => viewer(`/api/workers/${worker}/enqueue`, post(body))
      const done = (yield* put({
        args: { to: "ada" },
        queue: "mails",
        tags: ["by-hand"],
        delayMillis: 3_600_000
      })).json()
      const [job] = yield* jobs.list({ tag: "by-hand" })
      assert.deepInclude(job, { worker: "send", queue: "mails", state: "scheduled", args: { to: "ada" } })
      assert.deepStrictEqual(done, { outcome: "Inserted", detail: `Job ${job?.id}.` })
      for (const [body, told] of [
        [{ args: { to: 7 }, tags: ["bad"] }, "to"],
        [{ args: {}, queue: "", tags: ["bad"] }, "queue"],
        [{ args: {}, priority: 100_000, tags: ["bad"] }, "priority"]
      ] as const) {
        const refused = yield* put(body)
        assert.strictEqual(refused.status, 400, refused.text)
        assert.include(refused.text, told)
      }
      assert.strictEqual((yield* put({ args: {} }, "nobody")).status, 404)
      assert.strictEqual((yield* jobs.count({ tag: "bad" })).count, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("pause one node or one partition key, and delete", () =>
    Effect.gen(function* () {
      const viewer = yield* open(everyone)
      assert.strictEqual((yield* viewer("/api/queues/mails/pause?node=web-1", post())).status, 200)
      const queue = (yield* viewer("/api/queues")).json().queues.find((one: { name: string }) => one.name === "mails")
      assert.isFalse(queue.paused)
      assert.deepInclude(queue.wishes, { node: "web-1", concurrency: null, paused: true, removed: false })
      const both = yield* viewer("/api/queues/mails/pause?node=web-1&key=a", post())
      assert.strictEqual(both.status, 400, both.text)
      const { id } = yield* Send.enqueue({})
      assert.deepStrictEqual((yield* viewer(`/api/jobs/${id}`)).json().can, {
        retry: false,
        cancel: true,
        delete: true
      })
      assert.strictEqual((yield* viewer(`/api/jobs/${id}/delete`, post())).json().outcome, "Deleted")
      assert.strictEqual((yield* viewer(`/api/jobs/${id}`)).status, 404)
    }).pipe(Effect.scoped)
  )

  it.effect("change what they ask for: cron and jobs", () =>
    Effect.gen(function* () {
      yield* fixture
      const viewer = yield* open(everyone)
      assert.strictEqual((yield* viewer("/api/cron/nightly/pause", post())).json().outcome, "Paused")
      assert.isTrue((yield* viewer("/api/cron")).json()[0].paused)
      const ran = (yield* viewer("/api/cron/nightly/run", post())).json()
      const id = Number(/\d+/.exec(ran.detail)?.[0])
      assert.strictEqual((yield* viewer(`/api/jobs/${id}/cancel`, post())).json().outcome, "Cancelled")
      assert.include((yield* viewer(`/api/jobs/${id}`)).json().cancelReason, "root")
      assert.strictEqual((yield* viewer(`/api/jobs/${id}/retry`, post())).json().outcome, "Retried")
      assert.strictEqual((yield* viewer(`/api/jobs/${id}/retry`, post())).json().outcome, "Unchanged")
    }).pipe(Effect.scoped)
  )

  it("for a view find the page, which finds its files from there", () => {
    const html = '<html><head><script src="assets/a.js"></script></head></html>'
    for (const [inside, base] of [
      ["/jobs", "./"],
      ["/jobs/12", "../"],
      ["/queues/mails/", "../../"]
    ] as const) {
      assert.include(withBase(html, inside), `<head><base href="${base}">`)
      // Wherever it is mounted, by whichever path the server sees.
      assert.strictEqual(new URL(base, `http://a.test/b/c${inside}`).pathname, "/b/c/")
    }
    const asked = (accept: string, method: "GET" | "POST" = "GET") => ({
      method,
      headers: Headers.fromInput({ accept })
    })
    assert.isTrue(isView(asked("text/html,*/*"), "/jobs/12"))
    assert.isFalse(isView(asked("text/html"), "/assets/none.js"))
    assert.isFalse(isView(asked("*/*"), "/jobs/12"))
    assert.isFalse(isView(asked("text/html", "POST"), "/jobs/12"))
  })

  it.effect("reach it under any path, and through node:http", () =>
    Effect.gen(function* () {
      const services = yield* Effect.context<Dashboard.Services>()
      const handle = Dashboard.handler(Layer.succeedContext(services), {
        path: "/admin/jobs",
        access: () => Effect.succeed(everyone)
      })
      const server = createServer(Dashboard.node(handle))
      yield* Effect.addFinalizer(() =>
        Effect.promise(async () => {
          await new Promise((resolve) => server.close(resolve))
          await handle.dispose()
        })
      )
      yield* Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)))
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // listens on TCP
      const fetched = (path: string, init?: RequestInit) =>
        Effect.promise(async () => {
          const response = await fetch(`${base}${path}`, { redirect: "manual", ...init })
          return { response, text: await response.text() }
        })
      const bare = yield* fetched("/admin/jobs")
      assert.strictEqual(bare.response.status, 302)
      assert.strictEqual(bare.response.headers.get("location"), "jobs/")
      assert.strictEqual((yield* fetched("/admin/jobs/api/me")).response.status, 200)
      assert.strictEqual((yield* fetched("/api/me")).response.status, 404)
      const scaled = yield* fetched("/admin/jobs/api/queues/mails/scale", {
        method: "POST",
        body: JSON.stringify({ concurrency: 7 }),
        headers: { "content-type": "application/json", "x-shigoto": "1" }
      })
      assert.deepStrictEqual(JSON.parse(scaled.text), { outcome: "Scaled", detail: "To 7 on each node." })
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly concurrency: number }>`
        SELECT concurrency FROM shigoto.queues WHERE name = 'mails' AND node = ''`
      assert.strictEqual(row?.concurrency, 7)
    }).pipe(Effect.scoped)
  )
})
