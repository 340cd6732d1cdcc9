/**
 * Every view and window of the page in light and dark, wide and narrow: no error, no breach of the policy, no barrier, no
 * text that becomes code, nothing that a viewer may not see.
 *
 * With SCREENSHOTS=<folder> a picture of each is kept there, and those of the documentation are taken anew.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { copyFileSync, mkdirSync } from "node:fs"
import type { Page } from "playwright-core"
import { DashboardApi } from "../../src/dashboard/index.ts"
import { Queues } from "../../src/Queues.ts"
import { everything, isMissing, limit, limitOfAll, look, rig, scan, Shop, TestLive } from "./rig.ts"
import * as Seed from "./seed.ts"

const hostile = `<img src=x onerror="document.title='owned'">`

const folder = process.env["SCREENSHOTS"]
const documented: Readonly<Record<string, string>> = { overview: "overview", jobs: "jobs", flow: "flow", job: "job" }

/** Keeps a picture, where somebody wants it. */
const keep = async (page: Page, name: string, width: number, colorScheme: string): Promise<void> => {
  if (folder === undefined) return
  mkdirSync(folder, { recursive: true })
  const path = `${folder}/${name}-${width}-${colorScheme}.png`
  await page.screenshot({ path })
  const image = documented[name]
  if (image !== undefined && width === 1280) {
    copyFileSync(path, new URL(`../../docs/images/dashboard-${image}-${colorScheme}.png`, import.meta.url))
  }
}

/** What opens over a view, and how. */
const windows: ReadonlyArray<readonly [name: string, view: string, open: (page: Page) => Promise<unknown>]> = [
  [
    "palette",
    "/",
    (page) => page.keyboard.press("Control+k").then(() => page.getByRole("listbox", { name: "Places" }).waitFor())
  ],
  ["settings", "/", (page) => page.getByRole("button", { name: "Settings and keys" }).click()],
  [
    "filter",
    "/jobs",
    async (page) => {
      await page.getByLabel("Filter").fill("worker:")
      await page.getByRole("option", { name: "send-email" }).waitFor()
    }
  ],
  [
    "selection",
    "/jobs?q=worker%3Aresize%20state%3Aavailable",
    async (page) => {
      await page.getByLabel("Select this page").check()
      await page.getByRole("button", { name: "Select all that match" }).click()
      await page.getByRole("button", { name: "Delete selected" }).click()
      await page.getByRole("button", { name: "Delete 2,000" }).waitFor()
    }
  ],
  ["limit", "/limits", (page) => page.getByRole("button", { name: "Change pack" }).click()],
  ["confirm", "/batches", (page) => page.getByRole("button", { name: "Cancel batch" }).first().click()],
  [
    "notice",
    "/queues",
    async (page) => {
      await page.getByRole("button", { name: "Pause prices" }).click()
      await page.getByRole("button", { name: "Undo" }).click()
      await page.getByRole("button", { name: "Pause prices" }).click()
      await page.getByRole("button", { name: "Undo" }).waitFor()
    }
  ],
  ["table", "/", (page) => page.getByText("View as a table").first().click()]
]

layer(TestLive, { timeout: "3 minutes", excludeTestServices: true })("every view", (it) => {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [1280, 390]) {
      it.effect.skipIf(isMissing)(
        `is free of errors and barriers in ${colorScheme} at ${width} pixels`,
        () =>
          Effect.gen(function* () {
            const { batch, broadcast, flow, graph, large, failed, hostileJob } = yield* prepared
            const { base, open, problems } = yield* rig(everything, { environment: { name: "test", tone: "warn" } })
            const page = yield* open({ colorScheme, viewport: { width, height: 860 } })
            const barriers: Array<string> = []
            const check = async (name: string): Promise<void> => {
              barriers.push(...(await scan(page)).map((found) => `${name} ${found}`))
              const overflow = await page.evaluate<number>("document.documentElement.scrollWidth - innerWidth")
              if (overflow > 0) barriers.push(`${name} is ${overflow} pixels too wide`)
              assert.notInclude(await page.title(), "owned")
              assert.notInclude((await page.textContent("body")) ?? "", "canary")
              await keep(page, name, width, colorScheme)
            }
            const views: Readonly<Record<string, string>> = {
              overview: "/",
              "by-queue": "/?by=queue",
              "by-worker": "/?by=worker&span=6h",
              jobs: "/jobs?q=worker%3Aresize%20state%3Aretryable,discarded,executing,completed",
              none: "/jobs?q=tag%3Anobody",
              job: `/jobs/${failed}`,
              hostile: `/jobs/${hostileJob}`,
              large: `/jobs/${large}`,
              broadcast: `/jobs/${broadcast}`,
              queues: "/queues",
              queue: "/queues/images",
              keys: "/queues/warehouse",
              "hostile-queue": `/queues/${encodeURIComponent(Seed.hostileQueues[0])}`,
              failures: "/failures",
              cron: "/cron",
              entry: "/cron/nightly",
              batches: "/batches",
              batch: `/batches/${batch}`,
              flow: `/batches/${flow}`,
              graph: `/batches/${graph}`,
              workers: "/workers",
              worker: "/workers/send-email",
              nodes: "/nodes",
              limits: "/limits",
              audit: "/audit",
              system: "/system",
              nothing: "/nowhere"
            }
            for (const [name, view] of Object.entries(views)) {
              yield* Effect.promise(async () => {
                await look(page, base, view)
                await check(name)
              })
            }
            // The window of a notice leaves it paused.
            yield* (yield* Queues).resume("prices")
            for (const [name, view, show] of windows) {
              yield* Effect.promise(async () => {
                await look(page, base, view)
                await show(page)
                await check(`window-${name}`)
              })
            }
            assert.deepStrictEqual([...barriers, ...problems], [])
          }).pipe(Effect.scoped),
        limitOfAll
      )
    }
  }

  it.effect.skipIf(isMissing)(
    "is told in answers that the API's own schemas read, without a secret in any",
    () =>
      Effect.gen(function* () {
        const { failed, flow } = yield* prepared
        const { base, open } = yield* rig(everything)
        const page = yield* open()
        const answers: Array<readonly [path: string, text: string]> = []
        const views = ["/", "/jobs", `/jobs/${failed}`, "/queues", "/failures", "/cron", "/cron/nightly", "/batches"]
        yield* Effect.promise(async () => {
          const reading: Array<Promise<void>> = []
          page.on("response", (response) => {
            const path = new URL(response.url()).pathname
            if (!path.includes("/api/") || path.endsWith("/events")) return
            reading.push(
              response.text().then(
                (text) => void answers.push([path, text]),
                // Who goes on to the next view waits for no answer.
                () => undefined
              )
            )
          })
          for (const view of [
            ...views,
            `/batches/${flow}`,
            "/workers",
            "/workers/refund",
            "/nodes",
            "/limits",
            "/system"
          ]) {
            await look(page, base, view)
          }
          await Promise.all(reading)
        })
        const endpoints = Object.values(DashboardApi.DashboardApi.groups).flatMap((group) =>
          Object.values(group.endpoints)
        )
        const seen = new Set<string>()
        for (const [path, text] of answers) {
          assert.notInclude(text, "canary", path)
          const inside = path.slice(path.indexOf("/api/"))
          const endpoint = endpoints.find(
            ({ method, path: pattern }) =>
              method === "GET" && new RegExp(`^${pattern.replace(/:\w+/g, "[^/]+")}$`).test(inside)
          )
          assert.isDefined(endpoint, path)
          for (const success of endpoint?.success ?? []) {
            yield* Schema.decodeUnknownEffect(success as Schema.Codec<unknown>)(JSON.parse(text))
          }
          seen.add(endpoint?.identifier ?? "")
        }
        assert.isAbove(seen.size, 20)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "shows large args in portions, and lets all of them be taken",
    () =>
      Effect.gen(function* () {
        const { large } = yield* Shop
        const { base, open, problems } = yield* rig(everything)
        const page = yield* open({ acceptDownloads: true })
        yield* Effect.promise(async () => {
          await look(page, base, `/jobs/${large}`)
          const args = page.getByLabel("Args", { exact: true })
          const length = async () => ((await args.textContent()) ?? "").length
          const first = await length()
          assert.isAtMost(first, 33_000)
          await page.getByRole("button", { name: "Show more of it" }).click()
          assert.isAbove(await length(), first)
          const [download] = await Promise.all([
            page.waitForEvent("download"),
            page.getByRole("button", { name: "Download args" }).click()
          ])
          assert.strictEqual(download.suggestedFilename(), "args.json")
        })
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "teaches where there is nothing yet, and says that it is closed where nobody has said who may see it",
    () =>
      Effect.gen(function* () {
        const { base, open, problems } = yield* rig({ user: "nobody's team", can: "readOnly", queues: ["none"] })
        const page = yield* open()
        yield* Effect.promise(async () => {
          for (const [view, sentence] of [
            ["/jobs", "No job has been enqueued yet."],
            ["/queues", "No node runs a queue and none has a job"],
            ["/failures", "Nothing fails."],
            ["/cron", "No entry runs by the clock yet."],
            ["/batches", "There is no batch here."],
            ["/workers", "No live node runs any kind of job."],
            ["/limits", "Nothing limits workers over all nodes."]
          ] as const) {
            await look(page, base, view)
            await page.getByText(sentence).waitFor()
            assert.deepStrictEqual(await scan(page), [], view)
          }
        })
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped),
    limit
  )
})

/** The shop, with a job whose every text is hostile. */
const prepared = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const shop = yield* Shop
  const { id } = yield* Seed.Archive.enqueue({ to: hostile, password: "canary" }, { tags: [hostile] })
  const errors = [{ attempt: 1, at: "2026-01-01T00:00:00.000Z", node: hostile, tag: hostile, message: hostile }]
  yield* sql`
    UPDATE shigoto.jobs
    SET errors = ${JSON.stringify(errors)}::jsonb, fingerprint = 'f', state = 'retryable', run_at = now() + interval '1 day'
    WHERE id = ${id}`
  const [failed] = yield* sql<{ readonly id: number }>`
    SELECT id::integer FROM shigoto.all_jobs WHERE state = 'discarded' AND worker = 'send-email' ORDER BY id LIMIT 1`
  return { ...shop, hostileJob: id, failed: failed?.id ?? 0 }
})
