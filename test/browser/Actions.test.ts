/**
 * Everything that can be done on the page, done by clicking, and its effect seen in the database; and nothing of it for
 * who may only read.
 */
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import type { Page } from "playwright-core"
import { Batches } from "../../src/Batches.ts"
import { CronJobs } from "../../src/CronJobs.ts"
import { Dashboard } from "../../src/dashboard/index.ts"
import { type BulkProgress, Jobs } from "../../src/Jobs.ts"
import type { JobId } from "../../src/JobRow.ts"
import { Limits } from "../../src/Limits.ts"
import { Queues } from "../../src/Queues.ts"
import { eventually } from "../setup/eventually.ts"
import { everything, isMissing, limit, listen, look, portOf, rig, Shop, TestLive } from "./rig.ts"
import * as Seed from "./seed.ts"

/** A page for a viewer, and what is done on it. */
const hands = Effect.fnUntraced(function* (access = everything) {
  const { base, open, problems } = yield* rig(access)
  const page = yield* open()
  return {
    page,
    problems,
    go: (view: string) => Effect.promise(() => look(page, base, view)),
    click: (name: string | RegExp) =>
      Effect.promise(() => page.getByRole("button", { name, exact: true }).first().click()),
    see: (text: string | RegExp) => Effect.promise(() => page.getByText(text).first().waitFor()),
    with: (act: (page: Page) => Promise<unknown>) => Effect.promise(() => act(page))
  }
})

const queueOf = (queue: string) =>
  Effect.gen(function* () {
    return (yield* (yield* Queues).overview).find(({ name }) => name === queue)
  })

const isPausedOn = (node: string) =>
  Effect.map(queueOf("mails"), (queue) => queue?.wishes.find((wish) => wish.node === node)?.paused ?? false)

layer(TestLive, { timeout: "3 minutes", excludeTestServices: true })("by clicking", (it) => {
  it.effect.skipIf(isMissing)(
    "a job is retried, cancelled, spared, deleted, and what is hidden revealed",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const { click, go, page, problems, see } = yield* hands({
          user: "root",
          can: ["jobs:view", "jobs:retry", "jobs:cancel", "jobs:delete", "args:reveal"]
        })
        const { id } = yield* Seed.Archive.enqueue({ password: "canary-9" }, { delay: "1 hour" })
        yield* go(`/jobs/${id}`)
        yield* click("Reveal hidden values")
        yield* see(/canary-9/)
        yield* click(`Retry job ${id}`)
        yield* see(`Retry job ${id}: Retried`)
        assert.strictEqual((yield* jobs.get(id)).state, "available")
        yield* click(`Cancel job ${id}`)
        yield* click("Undo")
        // What was taken back has not been asked for: the next wish is the only one.
        yield* click(`Cancel job ${id}`)
        yield* see(`Cancel job ${id} in 5 s`)
        assert.strictEqual((yield* jobs.get(id)).state, "available")
        yield* see(/by root in the dashboard/)
        assert.strictEqual((yield* jobs.get(id)).state, "cancelled")
        yield* click(`Delete job ${id}`)
        yield* see("Nothing of it is kept")
        yield* click("Delete")
        yield* Effect.promise(() => page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor())
        assert.strictEqual((yield* Effect.flip(jobs.get(id)))._tag, "JobNotFound")
        // What is deleted may be asked for once more before the page has left it.
        assert.deepStrictEqual(
          problems.filter((problem) => !problem.includes("404")),
          []
        )
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "who leaves the page within five seconds has not taken a cancel back",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const { click, go, see, with: act } = yield* hands()
        const { id } = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* go(`/jobs/${id}`)
        yield* click(`Cancel job ${id}`)
        yield* see(`Cancel job ${id} in 5 s`)
        yield* act((page) => page.goto("about:blank"))
        yield* eventually(jobs.get(id), ({ state }) => state === "cancelled")
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "a conflict over a unique key is told plainly",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const { click, go, see } = yield* hands()
        const one = yield* Seed.Archive.enqueue({ only: "one" }, { delay: "1 hour", unique: {} })
        yield* jobs.cancel(one.id)
        const two = yield* Seed.Archive.enqueue({ only: "one" }, { delay: "1 hour", unique: {} })
        yield* go(`/jobs/${one.id}`)
        yield* click(`Retry job ${one.id}`)
        yield* see(`Job ${two.id} holds the same unique key.`)
        assert.strictEqual((yield* jobs.get(one.id)).state, "cancelled")
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "queues, nodes of them and keys are paused, resumed by undo and by button, and scaled",
    () =>
      Effect.gen(function* () {
        const { click, go, problems, see, with: act } = yield* hands()
        for (const queue of ["mails", ...Seed.hostileQueues]) {
          yield* go(`/queues/${encodeURIComponent(queue)}`)
          yield* click(`Pause ${queue}`)
          yield* see("‖ paused")
          assert.isTrue((yield* queueOf(queue))?.paused, queue)
          yield* click("Undo")
          yield* see("● open")
          assert.isFalse((yield* queueOf(queue))?.paused, queue)
          yield* click(`Pause ${queue}`)
          yield* see("‖ paused")
          yield* click(`Resume ${queue}`)
          yield* see("● open")
          assert.isFalse((yield* queueOf(queue))?.paused, queue)
        }
        yield* go("/queues/mails")
        yield* click("Pause mails on shop")
        yield* see("◐ paused on some")
        assert.isTrue(yield* isPausedOn("shop"))
        yield* click("Resume mails on shop")
        yield* see("● open")
        assert.isFalse(yield* isPausedOn("shop"))
        yield* act((page) => page.getByLabel("Slots on each node").fill("7"))
        yield* click("Scale mails to 7")
        yield* see(/7 slots, done/)
        yield* go("/queues/warehouse")
        const keyed = (key: string, status: string) =>
          act((page) =>
            page
              .getByRole("row", { name: new RegExp(`^${key} `) })
              .getByText(status)
              .waitFor()
          )
        yield* keyed("customer-1", "● open")
        yield* click("Pause key customer-1")
        yield* keyed("customer-1", "‖ paused")
        yield* eventually(queueOf("warehouse"), (found) => found?.pausedKeys?.[0] === "customer-1")
        yield* click("Resume key customer-1")
        yield* keyed("customer-1", "● open")
        yield* act((page) => page.getByLabel("Another key").fill("customer-9"))
        yield* click("Pause key customer-9")
        yield* keyed("customer-9", "‖ paused")
        yield* eventually(queueOf("warehouse"), (found) => found?.pausedKeys?.[0] === "customer-9")
        yield* click("Resume key customer-9")
        yield* act((page) => page.getByRole("row", { name: /^customer-9 / }).waitFor({ state: "detached" }))
        assert.deepStrictEqual((yield* queueOf("warehouse"))?.pausedKeys, [])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "a cron entry runs, is paused and resumed",
    () =>
      Effect.gen(function* () {
        const cron = yield* CronJobs
        const jobs = yield* Jobs
        const paused = Effect.map(cron.list, (entries) => entries.find(({ name }) => name === "nightly")?.paused)
        const { click, go, see, with: act } = yield* hands()
        yield* go("/cron")
        yield* click("Run now nightly")
        yield* see(/Run now nightly: Job \d+\./)
        yield* eventually(jobs.list({ worker: "archive", limit: 1 }), ([job]) => job?.state === "available")
        yield* click("Pause nightly")
        yield* see("‖ paused")
        assert.isTrue(yield* paused)
        yield* click("Resume nightly")
        yield* act((page) => page.getByRole("button", { name: "Pause nightly" }).waitFor())
        assert.isFalse(yield* paused)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "batches and flows are retried and cancelled",
    () =>
      Effect.gen(function* () {
        const { batch, graph } = yield* Shop
        const batches = yield* Batches
        const { click, go, see } = yield* hands()
        yield* go(`/batches/${batch}`)
        yield* click(`Retry failed of batch ${batch}`)
        yield* see(`Retry failed of batch ${batch}: 1 jobs.`)
        yield* eventually(batches.get(batch), ({ discarded, finished }) => finished && discarded === 1)
        yield* go(`/batches/${graph}`)
        yield* click(`Cancel batch ${graph}`)
        yield* see(/members that have not ended are cancelled/)
        yield* click("Cancel")
        yield* see(new RegExp(`Cancel batch ${graph}: \\d+ jobs`))
        yield* eventually(batches.get(graph), ({ finished }) => finished)
        yield* go(`/batches/${graph}`)
        yield* click(`Retry failed of batch ${graph}`)
        yield* eventually(batches.get(graph), ({ finished }) => !finished)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "a job is enqueued by a form that its schema makes, and refused where it does not fit",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { click, go, see, with: act } = yield* hands()
        yield* go("/workers/send-email")
        yield* act(async (page) => {
          await page.getByLabel("to", { exact: true }).fill("ada@example.com")
          await page.getByLabel("subject").fill("By hand")
        })
        yield* click("Enqueue send-email")
        yield* see(/Enqueue send-email: Job \d+\./)
        const [sent] = yield* sql<{ readonly subject: string }>`
          SELECT args ->> 'subject' AS subject FROM shigoto.all_jobs WHERE worker = 'send-email' ORDER BY id DESC LIMIT 1`
        assert.strictEqual(sent?.subject, "By hand")
        yield* go("/workers/charge-card")
        yield* act((page) => page.getByLabel("order").fill("1.5"))
        yield* click("Enqueue charge-card")
        yield* see(/The args do not match what charge-card takes/)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "limits are set and given back to the code",
    () =>
      Effect.gen(function* () {
        const limits = yield* Limits
        const pack = Effect.map(limits.list, (rows) => rows.find(({ worker }) => worker === "pack"))
        const { click, go, see, with: act } = yield* hands()
        yield* go("/limits")
        yield* click("Change pack")
        yield* act((page) => page.getByLabel("At once", { exact: true }).fill("3"))
        yield* click("Set concurrency of pack")
        yield* see("Set concurrency of pack: Changed")
        assert.strictEqual((yield* pack)?.concurrency, 3)
        yield* click("Change pack")
        yield* act(async (page) => {
          await page.getByLabel("Rate", { exact: true }).fill("7")
          await page.getByLabel("in seconds", { exact: true }).fill("30")
        })
        yield* click("Set rate pack")
        yield* see("set by an operator")
        assert.deepInclude((yield* pack)?.rate, { limit: 7, windowMillis: 30_000, changed: true })
        yield* click("Change pack")
        yield* click("As in the code rate pack")
        yield* see("As in the code rate pack: As in the code")
        yield* click("Change pack")
        yield* click("As in the code concurrency of pack")
        yield* see("As in the code concurrency of pack: As in the code")
        const back = yield* pack
        assert.deepInclude(back?.rate, { limit: 100, changed: false })
        assert.strictEqual(back?.concurrency, 2)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "all that match are changed and nothing else, after they were seen and counted",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const total = (tag: string, state: "cancelled" | "scheduled") =>
          Effect.map(jobs.count({ tag, state }), ({ count }) => count)
        yield* Seed.Archive.enqueueAll(
          Array.from({ length: 70 }, () => ({})),
          { tags: ["old"], delay: "1 day" }
        )
        yield* Seed.Archive.enqueueAll([{}, {}], { tags: ["new"], delay: "1 day" })
        const { click, go, see, with: act } = yield* hands()
        yield* go("/jobs?q=tag%3Aold")
        yield* see("70 matching")
        yield* act((page) => page.getByLabel("Select this page").check())
        yield* see("50 selected")
        yield* click("Select all that match")
        yield* see("All 70 that match")
        yield* click("Cancel selected")
        yield* click("Cancel 70")
        yield* act((page) => page.getByRole("list", { name: "Operations" }).getByText("done").waitFor())
        assert.strictEqual(yield* total("old", "cancelled"), 70)
        assert.strictEqual(yield* total("new", "scheduled"), 2)

        yield* go("/jobs?q=tag%3Anew")
        yield* act(async (page) => {
          const boxes = page.getByRole("checkbox", { name: /Select job/ })
          await boxes.first().click()
          await boxes.last().click({ modifiers: ["Shift"] })
        })
        yield* see("2 selected")
        yield* click("Delete selected")
        yield* act((page) => page.getByLabel(/Type/).fill("2"))
        yield* click("Delete 2")
        yield* eventually(jobs.count({ tag: "new" }), ({ count }) => count === 0)
        assert.strictEqual(yield* total("old", "cancelled"), 70)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "a group of failures is retried, and another one cancelled",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const failed = (fingerprint: string) =>
          Effect.map(jobs.count({ fingerprint, state: ["retryable", "discarded"] }), ({ count }) => count)
        const before = yield* failed("image-2")
        const { click, go, with: act } = yield* hands()
        yield* go("/failures")
        yield* click("Retry all of image-0")
        yield* click("Retry 800")
        yield* eventually(failed("image-0"), (count) => count === 0)
        yield* act((page) => page.getByRole("dialog").waitFor({ state: "detached" }))
        yield* click("Cancel all of image-1")
        // Those that were discarded have ended already.
        yield* click("Cancel 400")
        yield* eventually(jobs.count({ fingerprint: "image-1", state: "retryable" }), ({ count }) => count === 0)
        assert.strictEqual(yield* failed("image-2"), before)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "an operation that goes on is stopped",
    () =>
      Effect.gen(function* () {
        const jobs = yield* Jobs
        const gate = yield* Deferred.make<void>()
        const none: BulkProgress = { matched: 0, changed: 0, requested: 0, skipped: 0, failed: 0, problems: [] }
        const slow: Jobs["Service"] = {
          ...jobs,
          cancelBy: (filter, options) =>
            Stream.concat(Stream.fromEffect(Effect.as(Deferred.await(gate), none)), jobs.cancelBy(filter, options))
        }
        yield* Seed.Archive.enqueueAll([{}, {}, {}], { tags: ["held"], delay: "1 day" })
        const { click, go, see, with: act } = yield* Effect.provideService(hands(), Jobs, slow)
        yield* go("/jobs?q=tag%3Aheld")
        yield* act((page) => page.getByLabel("Select this page").check())
        yield* click("Cancel selected")
        yield* click("Cancel 3")
        yield* click(/^Stop operation/)
        yield* see(/^Stop operation \d+: Stopping$/)
        yield* Deferred.succeed(gate, undefined)
        yield* act((page) => page.getByRole("list", { name: "Operations" }).getByText("stopped").waitFor())
        assert.strictEqual((yield* jobs.count({ tag: "held", state: "scheduled" })).count, 3)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "nothing is offered to who may only read, and nothing done by who asks all the same",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { batch, failed } = yield* Effect.map(
          Effect.all([
            Shop,
            sql<{ readonly id: number }>`SELECT id::integer FROM shigoto.all_jobs WHERE state = 'discarded' LIMIT 1`
          ]),
          ([shop, [row]]) => ({ batch: shop.batch, failed: row?.id as JobId })
        )
        const services = yield* Effect.context<Dashboard.Services>()
        const handle = Dashboard.handler(Layer.succeedContext(services), {
          access: () => Effect.succeed({ user: "reader", can: "readOnly" })
        })
        yield* Effect.addFinalizer(() => Effect.promise(() => handle.dispose()))
        const server = yield* listen(Dashboard.node(handle))
        const { go, page } = yield* hands({ user: "reader", can: "readOnly" })
        const views = [
          "/",
          "/jobs",
          `/jobs/${failed}`,
          "/queues",
          "/queues/mails",
          "/cron",
          `/batches/${batch}`,
          "/batches"
        ]
        for (const view of [...views, "/failures", "/workers/send-email", "/limits", "/nodes"]) {
          yield* go(view)
          const offered = yield* Effect.promise(() =>
            page
              .locator("main")
              .getByRole("button", {
                name: /^(Retry|Cancel|Delete|Pause|Resume|Run now|Scale|Reveal|Enqueue|Close|Change|Stop)/
              })
              .count()
          )
          assert.strictEqual(offered, 0, view)
        }
        const answer = yield* Effect.promise(() =>
          page.request.post(`http://127.0.0.1:${portOf(server)}/api/jobs/${failed}/retry`, {
            headers: { "x-shigoto": "1" }
          })
        )
        assert.strictEqual(answer.status(), 403)
        assert.strictEqual((yield* (yield* Jobs).get(failed)).state, "discarded")
      }).pipe(Effect.scoped),
    limit
  )
})
