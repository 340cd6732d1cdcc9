/**
 * The page in a real browser: every view in light and dark at two widths, and what its buttons do in the database.
 *
 * Skipped where there is no Chromium, except with CI=true.
 */
import { assert, layer } from "@effect/vitest"
import axe from "axe-core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { gzipSync } from "node:zlib"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { CronJobs } from "../../src/CronJobs.ts"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import * as Schema from "effect/Schema"
import { TestDatabase } from "../setup/TestDatabase.ts"

const executablePath = "/usr/bin/chromium"
const isMissing = !existsSync(executablePath) && process.env["CI"] !== "true"

const hostile = `<img src=x onerror="document.title='owned'">`
const Send = Job.make("send", { args: Schema.Unknown, queue: "mails" })

const TestLive = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer({ queues: { mails: 2 } })),
  Layer.provideMerge(TestDatabase.layer()),
  Layer.orDie
)

const seed = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { id } = yield* Send.enqueue({ to: hostile, password: "canary" }, { tags: [hostile] })
  const errors = [
    { attempt: 1, at: "2026-01-01T00:00:00.000Z", node: hostile, tag: hostile, message: hostile, cause: hostile }
  ]
  yield* sql`
    UPDATE shigoto.jobs
    SET errors = ${JSON.stringify(errors)}::jsonb, fingerprint = 'f', state = 'retryable', run_at = now() + interval '1 day'
    WHERE id = ${id}`
  yield* (yield* CronJobs).upsert({ name: "nightly", cron: "@daily", job: Send, args: {} })
  return id
})

/** A dashboard under a path, and a browser. */
const rig = Effect.fnUntraced(function* (access: Access.Access) {
  const services = yield* Effect.context<Dashboard.Services>()
  const handle = Dashboard.handler(Layer.succeedContext(services), {
    path: "/a/b/jobs",
    access: () => Effect.succeed(access)
  })
  const server = createServer(Dashboard.node(handle))
  yield* Effect.acquireRelease(
    Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
    () =>
      Effect.promise(async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
        await handle.dispose()
      })
  )
  const browser = yield* Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath, args: ["--no-sandbox"] })),
    (browser: Browser) => Effect.promise(() => browser.close())
  )
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a/b/jobs` // listens on TCP
  const problems: Array<string> = []
  const open = (options: BrowserContextOptions = {}) =>
    Effect.promise(async () => {
      const page = await (await browser.newContext(options)).newPage()
      // The page's policy is told of as an error of the console.
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()))
      page.on("pageerror", (error) => problems.push(error.message))
      return page
    })
  return { base, open, problems }
})

const scan = async (page: Page) => {
  await page.evaluate(axe.source)
  const found = await page.evaluate(() =>
    // oxlint-disable-next-line typescript/no-unsafe-return -- only the browser knows what was injected
    (globalThis as any).axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
  )
  return (found as axe.AxeResults).violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)
}

layer(TestLive)("the page", (it) => {
  it("loads at most 150 KiB of gzipped code", () => {
    const folder = new URL("../../dist/ui/assets/", import.meta.url)
    const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"))
    assert.isNotEmpty(scripts)
    const bytes = scripts.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder))).length, 0)
    assert.isAtMost(bytes, 150 * 1024)
  })

  it.effect.skipIf(isMissing)("is free of errors and barriers in every view, theme and width", () =>
    Effect.gen(function* () {
      const id = yield* seed
      const { base, open, problems } = yield* rig({ user: "root", can: "all" })
      for (const colorScheme of ["light", "dark"] as const) {
        for (const width of [1280, 390]) {
          const page = yield* open({ colorScheme, viewport: { width, height: 900 } })
          for (const view of ["/", "/jobs", `/jobs/${id}`, "/queues", "/cron", "/failures"]) {
            yield* Effect.promise(async () => {
              await page.goto(`${base}/#${view}`)
              await page.reload()
              await page.getByRole("heading", { level: 1 }).waitFor()
              await page.getByText("Loading…").waitFor({ state: "detached" })
              assert.deepStrictEqual(await scan(page), [], `${view} ${colorScheme} ${width}`)
              assert.notInclude(await page.title(), "owned")
              assert.notInclude((await page.textContent("body")) ?? "", "canary")
              const overflow = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth")
              assert.isAtMost(overflow, 0, `${view} ${width}`)
            })
          }
        }
      }
      assert.deepStrictEqual(problems, [])
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(isMissing)("does in the database what its buttons say, and shows it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const jobs = yield* Jobs
      const id = yield* seed
      const { base, open } = yield* rig({ user: "root", can: "all" })
      const page = yield* open()
      const click = (name: string, shown: string | RegExp) =>
        Effect.promise(async () => {
          await page.getByRole("button", { name, exact: true }).click()
          await page.getByText(shown).first().waitFor()
        })
      yield* Effect.promise(() => page.goto(`${base}/#/jobs/${id}`))
      yield* click(`Retry job ${id}`, "available")
      assert.strictEqual((yield* jobs.get(id)).state, "available")
      yield* click(`Cancel job ${id}`, /by root in the dashboard/)
      assert.strictEqual((yield* jobs.get(id)).state, "cancelled")

      yield* Effect.promise(() => page.goto(`${base}/#/queues`))
      yield* click("Pause mails", "Paused")
      const [queue] = yield* sql<{ readonly paused: boolean }>`
        SELECT paused_at IS NOT NULL AS paused FROM shigoto.queues WHERE name = 'mails'`
      assert.isTrue(queue?.paused)

      yield* Effect.promise(() => page.goto(`${base}/#/cron`))
      yield* click("Run now nightly", /^Job \d+\.$/)
      yield* click("Pause nightly", "‖ paused")
      assert.isTrue((yield* (yield* CronJobs).list)[0]?.paused)

      // A job that others enqueue appears by itself.
      yield* Effect.promise(() => page.goto(`${base}/#/jobs`))
      const later = yield* Send.enqueue({})
      yield* Effect.promise(() => page.getByText(`#${later.id}`, { exact: true }).waitFor())
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(isMissing)("offers no button to who may only read", () =>
    Effect.gen(function* () {
      const id = yield* seed
      const { base, open } = yield* rig({ user: "reader", can: "readOnly" })
      const page = yield* open()
      for (const view of [`/jobs/${id}`, "/queues", "/cron"]) {
        const buttons = yield* Effect.promise(async () => {
          await page.goto(`${base}/#${view}`)
          await page.getByText("● live · reader").waitFor()
          await page.getByText("Loading…").waitFor({ state: "detached" })
          return page.getByRole("button").count()
        })
        assert.strictEqual(buttons, 0, view)
      }
    }).pipe(Effect.scoped)
  )
})
