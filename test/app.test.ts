/** The example application, driven over HTTP as its users would: three programs, signals, a bank and a mail server. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { createServer, type Server } from "node:http"
import { type AddressInfo, connect } from "node:net"
import * as Path from "node:path"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const folder = Path.join(import.meta.dirname, "..", "examples", "app")

const isGone = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null

/** A program of the application; killed with the scope, whatever the test did. */
const start = Effect.fnUntraced(function* (name: string, environment: Readonly<Record<string, string>>) {
  let output = ""
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--conditions=source", Path.join(folder, name)], {
        env: { ...process.env, NO_COLOR: "1", ADMIN_PASSWORD: "secret", ...environment }
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  // Waits have no bound of their own: a slow machine takes long to start three programs.
  const waiting = new Set<() => void>()
  const look = () => {
    for (const again of waiting) again()
  }
  const collect = (chunk: Buffer) => {
    output += chunk.toString()
    look()
  }
  child.stdout.on("data", collect)
  child.stderr.on("data", collect)
  child.on("close", look)
  const until = <A>(find: () => A | null): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const again = () => {
        const found = find()
        if (found !== null) resume(Effect.succeed(found))
        else if (isGone(child)) resume(Effect.die(new Error(`${name} has ended: ${output}`)))
      }
      waiting.add(again)
      again()
      return Effect.sync(() => waiting.delete(again))
    })
  const ended = until(() => child.exitCode ?? child.signalCode)
  const says = (what: RegExp) => until(() => what.exec(output))
  const base = Effect.map(says(/Listening on http:\/\/[^\s]*:(\d+)/), ([, port]) => `http://127.0.0.1:${port}`)
  return { child, ended, says, base, output: () => output }
})

const request = (url: string, options: RequestInit = {}) =>
  Effect.promise(async () => {
    const response = await fetch(url, { ...options, signal: AbortSignal.timeout(30_000) })
    const text = await response.text()
    const isJson = response.headers.get("content-type")?.startsWith("application/json") === true
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined }
  })

const post = (url: string, body: unknown) =>
  request(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })

const as = (user: string, password = "secret") => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
  "x-shigoto": "1"
})

/** A bank that declines one card, fails once for another, and a mail server that may be held. */
const startOutside = Effect.gen(function* () {
  const charges: Array<{ readonly key: string; readonly card: string }> = []
  const mails: Array<{ readonly key: string; readonly to: string; readonly subject: string }> = []
  const held = { to: "" as string, arrived: yield* Deferred.make<void>(), release: yield* Deferred.make<void>() }
  const server = yield* Effect.acquireRelease(
    Effect.callback<Server>((resume) => {
      const server = createServer((incoming, outgoing) => {
        let text = ""
        incoming.on("data", (chunk: Buffer) => (text += chunk.toString()))
        incoming.on("end", () => {
          const key = String(incoming.headers["idempotency-key"])
          const body = JSON.parse(text)
          if (incoming.url === "/charges") {
            charges.push({ key, card: body.card })
            const isFirst = charges.filter((charge) => charge.key === key).length === 1
            outgoing.writeHead(body.card === "declined" ? 402 : body.card === "flaky" && isFirst ? 503 : 200).end()
            return
          }
          mails.push({ key, ...body })
          if (body.to !== held.to) return void outgoing.writeHead(200).end()
          Effect.runSync(Deferred.succeed(held.arrived, undefined))
          Effect.runFork(
            Effect.andThen(
              Deferred.await(held.release),
              Effect.sync(() => outgoing.writeHead(200).end())
            )
          )
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const { port } = server.address() as AddressInfo // it listens on a port
  return { charges, mails, held, url: `http://127.0.0.1:${port}` }
})

/** The application's database after its first deployment step, and what its programs are told. */
const deploy = Effect.gen(function* () {
  const database = yield* TestDatabase
  const outside = yield* startOutside
  const environment = { DATABASE_URL: Redacted.value(database.url), OUTSIDE_URL: outside.url, PORT: "0" }
  const migration = yield* start("migrate.ts", environment)
  assert.strictEqual(yield* migration.ended, 0, migration.output())
  return { outside, environment }
})

const paid = (api: string, order: number) =>
  eventually(request(`${api}/orders/${order}`), ({ json }) => json.status === "paid")

const onApp = (name: string, body: Effect.Effect<void, unknown, TestDatabase | Scope.Scope>) =>
  it.live(name, () => body.pipe(Effect.scoped, Effect.provide(TestDatabase.layerDatabase({ empty: true }))), 240_000)

/** Waits until nobody listens there any more; a request would keep its connection, and the server with it. */
const closes = (base: string) =>
  eventually(
    Effect.callback<boolean>((resume) => {
      const socket = connect(Number(new URL(base).port), "127.0.0.1")
      socket.once("connect", () => {
        socket.destroy()
        resume(Effect.succeed(true))
      })
      socket.once("error", () => resume(Effect.succeed(false)))
    }),
    (isOpen) => !isOpen
  )

describe("the example application", () => {
  onApp(
    "takes orders, runs campaigns, and shows its operators what happens",
    Effect.gen(function* () {
      const { environment, outside } = yield* deploy
      const server = yield* start("server.ts", environment)
      const worker = yield* start("worker.ts", environment)
      const api = yield* server.base

      // An order and its job commit together; the job charges, once, and mails.
      const placed = yield* post(`${api}/orders`, { email: "ada@example.com", item: "teapot", card: "flaky" })
      assert.strictEqual(placed.status, 200, placed.text)
      assert.strictEqual(placed.json.status, "new")
      const { json: order } = yield* paid(api, placed.json.id)
      assert.match(order.receipt, /^R-\d+$/)
      yield* eventually(
        Effect.sync(() => outside.mails),
        (mails) => mails.some(({ to }) => to === "ada@example.com")
      )
      assert.strictEqual(new Set(outside.charges.map(({ key }) => key)).size, 1)
      assert.strictEqual(outside.charges.length, 2)

      // A refused order leaves no job behind.
      const dashboard = `${api}/admin/jobs`
      const count = (filter: string) =>
        Effect.map(
          request(`${dashboard}/api/count?q=${encodeURIComponent(filter)}`, { headers: as("viewer") }),
          ({ json }) => json.count
        )
      const refused = yield* post(`${api}/orders`, { email: "bob@example.com", item: "unicorn", card: "good" })
      assert.strictEqual(refused.status, 409)
      assert.strictEqual(refused.json._tag, "OutOfStock")
      assert.strictEqual(yield* count("worker:charge"), 1)
      assert.strictEqual((yield* request(`${api}/orders/99`)).status, 404)
      assert.strictEqual((yield* post(`${api}/orders`, { email: "bob@example.com" })).status, 400)

      // A declined card ends its job at once, whatever attempts are left.
      const declined = yield* post(`${api}/orders`, { email: "eve@example.com", item: "teapot", card: "declined" })
      yield* eventually(request(`${api}/orders/${declined.json.id}`), ({ json }) => json.status === "declined")
      yield* eventually(count(`tag:order:${declined.json.id} state:discarded`), (jobs) => jobs === 1)

      // A campaign is a batch: one mail each, and one job after the last.
      const to = Array.from({ length: 25 }, (_, n) => `reader${n}@example.com`)
      const campaign = yield* post(`${api}/campaigns`, { subject: "News", to })
      const closed = yield* eventually(
        request(`${api}/campaigns/${campaign.json.id}`),
        ({ json }) => json.sent !== null
      )
      assert.deepStrictEqual(closed.json, { id: campaign.json.id, subject: "News", sent: 25, failed: 0 })
      assert.sameMembers(
        outside.mails.filter(({ subject }) => subject === "News").map((mail) => mail.to),
        to
      )

      // The dashboard knows whom it lets in; who only looks changes nothing.
      const stranger = yield* request(`${dashboard}/`)
      assert.strictEqual(stranger.status, 401)
      assert.strictEqual(stranger.headers.get("www-authenticate"), 'Basic realm="jobs"')
      assert.strictEqual((yield* request(`${dashboard}/`, { headers: as("ops", "guessed") })).status, 401)
      assert.strictEqual((yield* request(`${dashboard}/api/me`, { headers: as("ops") })).json.user, "ops")
      const listed = yield* request(`${dashboard}/api/jobs?q=worker:charge`, { headers: as("ops") })
      const charge = yield* request(`${dashboard}/api/jobs/${listed.json.jobs.at(-1).id}`, { headers: as("ops") })
      assert.include(charge.text, "••••••")
      assert.notInclude(charge.text, "flaky")

      // The schedule is there, and what would run tomorrow morning runs now.
      const run = (user: string) =>
        request(`${dashboard}/api/cron/every-morning/run`, { method: "POST", headers: as(user) })
      yield* eventually(
        request(`${dashboard}/api/cron/every-morning`, { headers: as("ops") }),
        ({ status }) => status === 200
      )
      assert.strictEqual((yield* run("viewer")).status, 403)
      assert.strictEqual((yield* run("ops")).status, 200)
      const reports = yield* eventually(request(`${api}/reports`), ({ json }) => json.length === 1)
      assert.deepStrictEqual(reports.json, [{ paid: 1, declined: 1 }])

      // Both processes answer probes and Prometheus.
      const probes = yield* worker.base
      for (const base of [api, probes]) {
        assert.strictEqual((yield* request(`${base}/health/ready`)).text, '{"status":"ready"}')
      }
      yield* eventually(request(`${probes}/metrics`), ({ text }) =>
        /^shigoto_attempts_total\{(?=.*outcome="completed")(?=.*worker="send-mail").*\} 26$/m.test(text)
      )
      assert.match((yield* request(`${api}/metrics`)).text, /^shigoto_jobs_inserted_total/m)

      for (const { child, ended } of [server, worker]) {
        child.kill("SIGTERM")
        yield* ended
      }
      assert.isTrue(isGone(server.child) && isGone(worker.child))
    })
  )

  onApp(
    "lets a worker finish what it runs on SIGTERM, and another one do the rest",
    Effect.gen(function* () {
      const { environment, outside } = yield* deploy
      outside.held.to = "slow@example.com"
      const server = yield* start("server.ts", environment)
      const first = yield* start("worker.ts", environment)
      const api = yield* server.base
      yield* first.says(/Working/)
      yield* post(`${api}/campaigns`, { subject: "Slow", to: ["slow@example.com"] })
      yield* Deferred.await(outside.held.arrived)

      first.child.kill("SIGTERM")
      yield* first.says(/Stopping/)
      assert.isFalse(isGone(first.child))
      yield* Deferred.succeed(outside.held.release, undefined)
      yield* first.ended
      const mails = () => outside.mails.filter(({ to }) => to === "slow@example.com").length
      assert.strictEqual(mails(), 1)

      // The API takes orders all the while; they wait for the next worker.
      const placed = yield* post(`${api}/orders`, { email: "ada@example.com", item: "teapot", card: "good" })
      assert.strictEqual((yield* request(`${api}/orders/${placed.json.id}`)).json.status, "new")
      const second = yield* start("worker.ts", environment)
      yield* paid(api, placed.json.id)
      yield* eventually(request(`${api}/campaigns/1`), ({ json }) => json.sent === 1)
      assert.strictEqual(mails(), 1)
      second.child.kill("SIGINT")
      yield* second.ended
    })
  )

  onApp(
    "starts as a whole on a PostgreSQL of its own, and stops as a whole",
    Effect.gen(function* () {
      const app = yield* start("start.ts", { DATABASE_URL: "", PORT: "0", WORKER_PORT: "0" })
      const base = yield* app.base
      yield* eventually(request(`${base}/health/ready`), ({ status }) => status === 200)
      yield* app.says(/dashboard: http/)
      app.child.kill("SIGINT")
      yield* app.ended
      yield* closes(base)
    })
  )
})
