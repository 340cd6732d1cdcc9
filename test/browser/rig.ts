/** A shop, a dashboard of it and a browser, for the tests of the page. */
import axe from "axe-core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { existsSync } from "node:fs"
import { createServer, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import { Jobs } from "../../src/Jobs.ts"
import { eventually } from "../setup/eventually.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import * as Seed from "./seed.ts"

const executablePath = "/usr/bin/chromium"

/** Whether these tests are skipped: where there is no Chromium, except with CI=true. */
export const isMissing = !existsSync(executablePath) && process.env["CI"] !== "true"

/** For tests of the page, and for those that open every view of it: both took a third of it at most on a busy machine. */
export const limit = 120_000
export const limitOfAll = 240_000

export class Shop extends Context.Service<Shop, Effect.Success<typeof Seed.work>>()("test/browser/Shop") {}

/** The shop once its work is done, so that every view has something to show. */
export const TestLive = Layer.effect(
  Shop,
  Effect.gen(function* () {
    const jobs = yield* Jobs
    const made = yield* Effect.orDie(Seed.work)
    yield* eventually(
      jobs.count({ queue: ["mails", "payments"], state: ["available", "executing"] }),
      ({ count }) => count === 0
    )
    return made
  })
).pipe(Layer.provideMerge(Seed.ShopLive), Layer.provideMerge(TestDatabase.layer({ maxConnections: 20 })), Layer.orDie)

export const listen = (listener: RequestListener, port = 0) =>
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

export const portOf = (server: Server): number => (server.address() as AddressInfo).port // it listens on TCP

export const everything: Access.Access = { user: "root", can: "all" }

/** A browser that notes what pages complain of: errors, and what their policy forbids. */
export const browse = Effect.gen(function* () {
  const browser = yield* Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath, args: ["--no-sandbox"] })),
    (launched: Browser) => Effect.promise(() => launched.close())
  )
  const problems: Array<string> = []
  const open = (options: BrowserContextOptions = {}) =>
    Effect.promise(async () => {
      const page = await (await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options })).newPage()
      // As long as `eventually` waits: on a machine with other work a click takes what it takes.
      page.setDefaultTimeout(120_000)
      // The page's policy is told of as an error of the console.
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()))
      page.on("pageerror", (error) => problems.push(error.message))
      return page
    })
  return { open, problems }
})

/** A dashboard under a path, and a browser. */
export const rig = Effect.fnUntraced(function* (access: Access.Access, options: Dashboard.Options = {}) {
  const { path = "/a/b/jobs" } = options
  const services = yield* Effect.context<Dashboard.Services>()
  const handle = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Dashboard.handler(Layer.succeedContext(services), { ...options, path, access: () => Effect.succeed(access) })
    ),
    (made) => Effect.promise(() => made.dispose())
  )
  const server = yield* listen(Dashboard.node(handle))
  return { ...(yield* browse), base: `http://127.0.0.1:${portOf(server)}${path}`, handle, server }
})

/** Opens a view and waits until it shows what there is, and follows. */
export const look = async (page: Page, base: string, view: string): Promise<void> => {
  await page.goto(`${base}/#${view}`)
  await page.reload()
  await page.getByRole("heading", { level: 1 }).waitFor()
  await page.getByRole("status").filter({ hasText: "● live" }).waitFor()
  const loading = page.getByText("Loading…")
  while ((await loading.count()) > 0) await loading.first().waitFor({ state: "detached" })
}

/** What axe finds against WCAG 2.2 AA. */
export const scan = async (page: Page): Promise<ReadonlyArray<string>> => {
  await page.evaluate(axe.source)
  const found = await page.evaluate(() =>
    // oxlint-disable-next-line typescript/no-unsafe-return -- only the browser knows what was injected
    (globalThis as any).axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
  )
  return (found as axe.AxeResults).violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)
}
