/**
 * The page in a real browser, over a database with workers at work: every view in light and dark at two widths, what its
 * buttons do in the database, and what it shows by itself.
 *
 * Skipped where there is no Chromium, except with CI=true. With SCREENSHOTS=true pictures for the documentation are
 * written anew.
 */
import { assert, layer } from "@effect/vitest"
import axe from "axe-core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { createServer, request as send, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { gzipSync } from "node:zlib"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { CronJobs } from "../../src/CronJobs.ts"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import { Jobs } from "../../src/Jobs.ts"
import type { JobState } from "../../src/JobRow.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import * as Seed from "./seed.ts"

const executablePath = "/usr/bin/chromium"
const isMissing = !existsSync(executablePath) && process.env["CI"] !== "true"
const images = new URL("../../docs/images/", import.meta.url)

const hostile = `<img src=x onerror="document.title='owned'">`

class Shop extends Context.Service<Shop, { readonly batch: number; readonly flow: number }>()("test/browser/Shop") {}

/** The shop once its work is done, so that every view has something to show. */
const TestLive = Layer.effect(
  Shop,
  Effect.gen(function* () {
    const jobs = yield* Jobs
    const made = yield* Effect.orDie(Seed.work)
    yield* eventually(jobs.counts, (rows) =>
      rows.every(({ queue, state }) => !(queue === "mails" && state === ("available" as JobState)))
    )
    return made
  })
).pipe(Layer.provideMerge(Seed.ShopLive), Layer.provideMerge(TestDatabase.layer()), Layer.orDie)

const listen = (listener: RequestListener, port = 0) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<Server>((resolve) => {
          const server = createServer(listener)
          server.listen(port, "127.0.0.1", () => resolve(server))
        })
    ),
    (server) =>
      Effect.promise(async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      })
  )

const portOf = (server: Server): number => (server.address() as AddressInfo).port // it listens on TCP

/** A dashboard under a path, and a browser. */
const rig = Effect.fnUntraced(function* (access: Access.Access, path = "/a/b/jobs") {
  const services = yield* Effect.context<Dashboard.Services>()
  const handle = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Dashboard.handler(Layer.succeedContext(services), { path, access: () => Effect.succeed(access) })
    ),
    (made) => Effect.promise(() => made.dispose())
  )
  const server = yield* listen(Dashboard.node(handle))
  const browser = yield* Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath, args: ["--no-sandbox"] })),
    (launched: Browser) => Effect.promise(() => launched.close())
  )
  const base = `http://127.0.0.1:${portOf(server)}${path}`
  const problems: Array<string> = []
  const open = (options: BrowserContextOptions = {}) =>
    Effect.promise(async () => {
      const page = await (await browser.newContext(options)).newPage()
      page.setDefaultTimeout(60_000)
      // The page's policy is told of as an error of the console.
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()))
      page.on("pageerror", (error) => problems.push(error.message))
      return page
    })
  return { base, handle, open, problems, server }
})

const look = async (page: Page, base: string, view: string): Promise<void> => {
  await page.goto(`${base}/#${view}`)
  await page.reload()
  await page.getByRole("heading", { level: 1 }).waitFor()
  await page.getByRole("status").filter({ hasText: "● live" }).waitFor()
  const loading = page.getByText("Loading…")
  while ((await loading.count()) > 0) await loading.first().waitFor({ state: "detached" })
}

const scan = async (page: Page) => {
  await page.evaluate(axe.source)
  const found = await page.evaluate(() =>
    // oxlint-disable-next-line typescript/no-unsafe-return -- only the browser knows what was injected
    (globalThis as any).axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
  )
  return (found as axe.AxeResults).violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)
}

const countOf = (state: string) => `SELECT count(*)::integer AS count FROM shigoto.all_jobs WHERE state = '${state}'`

layer(TestLive, { timeout: "2 minutes", excludeTestServices: true })("the page", (it) => {
  it("loads at most 150 KiB of gzipped code at first, and 1 MiB in all", () => {
    const folder = new URL("../../dist/ui/", import.meta.url)
    const html = readFileSync(new URL("index.html", folder), "utf8")
    const first = [...html.matchAll(/src="\.\/(assets\/[^"]+\.js)"/g)].map(([, name]) => name as string) // one group
    assert.isNotEmpty(first)
    const bytes = first.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder))).length, 0)
    assert.isAtMost(bytes, 150 * 1024)
    const all = readdirSync(new URL("assets/", folder)).map((name) => readFileSync(new URL(`assets/${name}`, folder)))
    assert.isAtMost(
      all.reduce((sum, { length }) => sum + length, 0),
      1024 * 1024
    )
  })

  it.effect.skipIf(isMissing)(
    "is free of errors and barriers in every view, theme and width",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { batch, flow } = yield* Shop
        const { id } = yield* Seed.Archive.enqueue({ to: hostile, password: "canary" }, { tags: [hostile] })
        const errors = [{ attempt: 1, at: "2026-01-01T00:00:00.000Z", node: hostile, tag: hostile, message: hostile }]
        yield* sql`
        UPDATE shigoto.jobs
        SET errors = ${JSON.stringify(errors)}::jsonb, fingerprint = 'f', state = 'retryable', run_at = now() + interval '1 day'
        WHERE id = ${id}`
        const { base, open, problems } = yield* rig({ user: "root", can: "all" })
        const barriers: Array<string> = []
        const views = [
          "/",
          "/jobs",
          `/jobs/${id}`,
          "/queues",
          "/queues/mails",
          "/failures",
          "/cron",
          "/cron/nightly",
          "/batches",
          `/batches/${batch}`,
          `/batches/${flow}`,
          "/workers",
          "/workers/send-email",
          "/nodes",
          "/limits",
          "/audit",
          "/system"
        ]
        for (const colorScheme of ["light", "dark"] as const) {
          for (const width of [1280, 390]) {
            const page = yield* open({ colorScheme, viewport: { width, height: 860 } })
            for (const view of views) {
              yield* Effect.promise(async () => {
                await look(page, base, view)
                barriers.push(...(await scan(page)).map((found) => `${view} ${colorScheme} ${width} ${found}`))
                assert.notInclude(await page.title(), "owned")
                assert.notInclude((await page.textContent("body")) ?? "", "canary")
                const overflow = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth")
                if (overflow > 0) barriers.push(`${view} ${width} is ${overflow} too wide`)
                const name = { "/": "overview", "/jobs": "jobs", [`/batches/${flow}`]: "flow" }[view]
                if (process.env["SCREENSHOTS"] === "true" && name !== undefined && width === 1280) {
                  await page.screenshot({ path: new URL(`dashboard-${name}-${colorScheme}.png`, images).pathname })
                }
              })
            }
          }
        }
        assert.deepStrictEqual([...barriers, ...problems], [])
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "does in the database what its buttons say, and shows it",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const jobs = yield* Jobs
        const { id } = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        const { base, open } = yield* rig({ user: "root", can: "all" })
        const page = yield* open()
        const go = (view: string) => Effect.promise(() => look(page, base, view))
        const click = (name: string, shown: string | RegExp) =>
          Effect.promise(async () => {
            await page.getByRole("button", { name, exact: true }).first().click()
            await page.getByText(shown).first().waitFor()
          })
        yield* go(`/jobs/${id}`)
        yield* click(`Retry job ${id}`, "available")
        assert.strictEqual((yield* jobs.get(id)).state, "available")
        yield* click(`Cancel job ${id}`, /by root in the dashboard/)
        assert.strictEqual((yield* jobs.get(id)).state, "cancelled")
        yield* click(`Delete job ${id}`, "Nothing of it is kept")
        yield* Effect.promise(() => page.getByRole("button", { name: "Delete", exact: true }).click())
        yield* Effect.promise(() => page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor())
        assert.strictEqual((yield* Effect.flip(jobs.get(id)))._tag, "JobNotFound")

        yield* go("/queues/mails")
        yield* click("Pause mails", "‖ paused")
        const [queue] = yield* sql<{ readonly paused: boolean }>`
        SELECT paused_at IS NOT NULL AS paused FROM shigoto.queues WHERE name = 'mails'`
        assert.isTrue(queue?.paused)
        yield* click("Resume mails", "● open")
        yield* Effect.promise(() => page.getByLabel("Slots on each node").fill("7"))
        yield* click("Scale mails to 7", /7 slots/)
        yield* go("/queues/warehouse")
        yield* Effect.promise(() => page.getByLabel("Partition key", { exact: true }).fill("tenant-1"))
        yield* click("Pause key tenant-1", "tenant-1")
        yield* Effect.promise(() => page.getByRole("button", { name: "Resume key tenant-1" }).click())
        yield* Effect.promise(() => page.getByText("No partition key of this queue is paused.").waitFor())

        yield* go("/cron")
        yield* click("Run now nightly", /^Job \d+\.$/)
        yield* click("Pause nightly", "‖ paused")
        assert.isTrue((yield* (yield* CronJobs).list)[0]?.paused)

        yield* go("/workers/send-email")
        yield* Effect.promise(async () => {
          await page.getByLabel("to", { exact: true }).fill("ada@example.com")
          await page.getByLabel("subject").fill("By hand")
        })
        yield* click("Enqueue send-email", /^Job \d+\.$/)
        const [sent] = yield* sql<{ readonly subject: string }>`
        SELECT args ->> 'subject' AS subject FROM shigoto.all_jobs WHERE worker = 'send-email' ORDER BY id DESC LIMIT 1`
        assert.strictEqual(sent?.subject, "By hand")

        yield* go("/audit")
        yield* Effect.promise(() => page.getByRole("rowheader", { name: "root" }).first().waitFor())
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "changes all that match and nothing else, after they were seen and counted",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const total = Effect.fnUntraced(function* (state: string, tag: string) {
          const [row] = yield* sql<{ readonly count: number }>`
          SELECT count(*)::integer AS count FROM shigoto.all_jobs WHERE state = ${state} AND ${tag} = ANY(tags)`
          return row?.count
        })
        yield* Seed.Archive.enqueueAll(
          Array.from({ length: 70 }, () => ({})),
          { tags: ["old"], delay: "1 day" }
        )
        yield* Seed.Archive.enqueueAll([{}, {}], { tags: ["new"], delay: "1 day" })
        const { base, open } = yield* rig({ user: "root", can: "all" })
        const page = yield* open()
        yield* Effect.promise(async () => {
          await look(page, base, "/jobs?q=tag%3Aold")
          await page.getByText("70 matching").waitFor()
          await page.getByLabel("Select this page").check()
          await page.getByText("50 selected").waitFor()
          await page.getByRole("button", { name: "Select all that match" }).click()
          await page.getByText("All 70 that match").waitFor()
          await page.getByRole("button", { name: "Cancel selected" }).click()
          await page.getByRole("button", { name: "Cancel 70" }).click()
          await page.getByRole("list", { name: "Operations" }).getByText("done").waitFor()
        })
        assert.strictEqual(yield* total("cancelled", "old"), 70)
        assert.strictEqual(yield* total("scheduled", "new"), 2)
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "keeps its state in the address, and goes where the keyboard says",
    () =>
      Effect.gen(function* () {
        const { base, open } = yield* rig({ user: "root", can: "all" })
        const page = yield* open()
        yield* Effect.promise(async () => {
          await look(page, base, "/")
          await page.keyboard.press("g")
          await page.keyboard.press("j")
          await page.getByLabel("Filter").fill("queue:payments state:retryable")
          await page.getByRole("button", { name: "Find" }).click()
          await page.getByText("5 matching").waitFor()
          await page.reload()
          await page.getByText("5 matching").waitFor()
          await page.locator("tbody tr").nth(4).waitFor()
          assert.strictEqual(await page.locator("tbody tr").count(), 5)
          await page.keyboard.press("j")
          await page.keyboard.press("o")
          await page.getByRole("heading", { level: 1, name: /^Job #\d+$/ }).waitFor()
          await page.goBack()
          await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor()
          await page.keyboard.press("Control+k")
          await page.getByRole("combobox", { name: /Page, job/ }).fill("nightly")
          await page.getByRole("option", { name: /nightly/ }).waitFor()
          await page.keyboard.press("Enter")
          await page.getByRole("heading", { level: 1, name: "Cron nightly" }).waitFor()
          await page.goto(`${base}/#/jobs?q=nonsense%3A1`)
          await page.getByRole("alert").first().waitFor()
        })
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "shows by itself what others enqueue, says when its server is gone, and recovers",
    () =>
      Effect.gen(function* () {
        const { base, handle, open, server } = yield* rig({ user: "root", can: "all" })
        const page = yield* open()
        yield* Effect.promise(() => look(page, base, "/jobs"))
        const later = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* Effect.promise(() => page.getByText(`#${later.id}`, { exact: true }).waitFor())
        const port = portOf(server)
        yield* Effect.promise(async () => {
          server.closeAllConnections()
          await new Promise((resolve) => server.close(resolve))
          await page.getByText("✕ connection lost").waitFor()
        })
        yield* listen(Dashboard.node(handle), port)
        const again = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* Effect.promise(async () => {
          await page.getByRole("status").filter({ hasText: "● live" }).waitFor()
          await page.getByText(`#${again.id}`, { exact: true }).waitFor()
        })
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "works behind a proxy that strips its path",
    () =>
      Effect.gen(function* () {
        const { base, open, problems } = yield* rig({ user: "root", can: "all" }, "/")
        const target = new URL(base)
        const proxy = yield* listen((incoming, outgoing) => {
          const path = (incoming.url ?? "/").replace(/^\/inner\/tools/, "") || "/"
          const forwarded = send(
            { host: target.hostname, port: target.port, path, method: incoming.method, headers: incoming.headers },
            (answer) => {
              outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
              answer.pipe(outgoing)
            }
          )
          incoming.pipe(forwarded)
          outgoing.on("close", () => forwarded.destroy())
          forwarded.on("error", () => outgoing.destroy())
        })
        const page = yield* open()
        yield* Effect.promise(() => look(page, `http://127.0.0.1:${portOf(proxy)}/inner/tools`, "/queues"))
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped),
    240_000
  )

  it.effect.skipIf(isMissing)(
    "offers nothing that changes anything to who may only read",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { batch } = yield* Shop
        const [failed] = yield* sql<{ readonly id: number }>`
        SELECT id::integer FROM shigoto.all_jobs WHERE state = 'discarded' LIMIT 1`
        assert.isDefined(failed)
        const before = yield* sql.unsafe<{ readonly count: number }>(countOf("available"))
        const { base, open } = yield* rig({ user: "reader", can: "readOnly" })
        const page = yield* open()
        for (const view of [
          "/jobs",
          `/jobs/${failed?.id}`,
          "/queues/mails",
          "/cron",
          `/batches/${batch}`,
          "/failures"
        ]) {
          const offered = yield* Effect.promise(async () => {
            await look(page, base, view)
            return page
              .locator("main")
              .getByRole("button", { name: /^(Retry|Cancel|Delete|Pause|Resume|Run now|Scale|Reveal|Enqueue|Close)/ })
              .count()
          })
          assert.strictEqual(offered, 0, view)
        }
        const answer = yield* Effect.promise(() =>
          page.request.post(`${base}/api/jobs/${failed?.id}/retry`, { headers: { "x-shigoto": "1" } })
        )
        assert.strictEqual(answer.status(), 403)
        assert.deepStrictEqual(yield* sql.unsafe(countOf("available")), before)
      }).pipe(Effect.scoped),
    240_000
  )
})
