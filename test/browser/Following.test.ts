/**
 * The page over time: it shows what others do, keeps still while it is worked on, survives its server, its database and
 * its proxies, and holds its state in the address.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { request as send } from "node:http"
import type { Page } from "playwright-core"
import { Dashboard } from "../../src/dashboard/index.ts"
import { Queues } from "../../src/Queues.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { browse, everything, isMissing, limit, listen, look, portOf, rig, TestLive } from "./rig.ts"
import * as Seed from "./seed.ts"

const act = <A>(effect: () => Promise<A>) => Effect.promise(effect)

/** What the page asks and how many streams it has open, as its server sees it. */
const counting = Effect.fnUntraced(function* () {
  const { handle, open, problems } = yield* rig(everything, { path: "/" })
  let streams = 0
  const inner = Dashboard.node(handle)
  const server = yield* listen((incoming, outgoing) => {
    if (incoming.url?.includes("/api/events") === true) {
      streams++
      outgoing.on("close", () => streams--)
    }
    inner(incoming, outgoing)
  })
  return { base: `http://127.0.0.1:${portOf(server)}`, open, problems, streams: Effect.sync(() => streams) }
})

layer(TestLive, { timeout: "3 minutes", excludeTestServices: true })("the page", (it) => {
  it.effect.skipIf(isMissing)(
    "shows by itself what others enqueue, says when its server is gone, and recovers",
    () =>
      Effect.gen(function* () {
        const { base, handle, open, server } = yield* rig(everything)
        const page = yield* open()
        yield* act(() => look(page, base, "/jobs"))
        const later = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* act(() => page.getByText(`#${later.id}`, { exact: true }).waitFor())
        const port = portOf(server)
        yield* act(async () => {
          server.closeAllConnections()
          await new Promise((resolve) => server.close(resolve))
          await page.getByText("✕ connection lost").waitFor()
        })
        yield* listen(Dashboard.node(handle), port)
        const again = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* act(async () => {
          await page.getByRole("status").filter({ hasText: "● live" }).waitFor()
          await page.getByText(`#${again.id}`, { exact: true }).waitFor()
        })
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "paints the overview without asking for anything, and asks for what it groups by",
    () =>
      Effect.gen(function* () {
        const { base, open } = yield* rig(everything)
        const page = yield* open()
        const asked: Array<string> = []
        // On a busy machine something is late at first, and left to the page.
        const html = yield* eventually(
          act(async () => {
            const response = await fetch(`${base}/`, { headers: { accept: "text/html" } })
            return { headers: Object.fromEntries(response.headers), body: await response.text() }
          }),
          ({ body }) => ["overview", "queues", "failures", "nodes", "history"].every((one) => body.includes(`"${one}`))
        )
        yield* act(async () => {
          await page.route(`${base}/`, (route) => route.fulfill(html))
          await page.route("**/api/**", (route) => {
            asked.push(new URL(route.request().url()).pathname.split("/api/")[1] ?? "")
            return route.abort()
          })
          await page.goto(`${base}/`)
          const text = (label: string) => page.getByRole("link", { name: new RegExp(`^${label}`) }).first()
          await text("Waiting")
            .getByText(/^2,0\d\d$/)
            .waitFor()
          await page.getByRole("region", { name: "Queues" }).getByRole("link", { name: "mails", exact: true }).waitFor()
          await page.getByRole("region", { name: "Failures" }).getByText("resize").first().waitFor()
          await page.locator("figure canvas").nth(1).waitFor()
          assert.strictEqual(await page.getByText("Loading…").count(), 0)
          // It follows what is new; until there is anything, it asks for nothing else.
          assert.deepStrictEqual(
            asked.filter((path) => path !== "events" && path !== "pulse"),
            []
          )
          await page.unrouteAll()
          await look(page, base, "/?span=6h")
          await page.getByLabel("Group by").selectOption("queue")
          await page.getByText("Wait p95, ≈ estimated").waitFor()
          await page.getByLabel("Group by").selectOption("worker")
          await page.getByText("Run p95, ≈ estimated").waitFor()
          assert.strictEqual(new URL(page.url()).hash, "#/?span=6h&by=worker")
          await page.getByRole("figure").first().getByText("View as a table").click()
          await page.getByRole("columnheader", { name: "resize" }).first().waitFor()
          await page.getByRole("columnheader", { name: "the rest" }).first().waitFor()
        })
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "moves no row under a selection or a pointer, and says how many are new",
    () =>
      Effect.gen(function* () {
        const { base, open } = yield* rig(everything)
        const page = yield* open()
        const first = () => page.locator("tbody th").first().textContent()
        yield* act(() => look(page, base, "/jobs"))
        const before = yield* act(first)
        yield* act(() => page.getByRole("checkbox", { name: `Select job ${before?.slice(1)}` }).click())
        const [one] = yield* Seed.Archive.enqueueAll([{}, {}], { delay: "1 hour" })
        yield* act(() => page.getByRole("button", { name: "2 new: show" }).waitFor())
        assert.strictEqual(yield* act(first), before)
        yield* act(() => page.getByText("1 selected").waitFor())
        yield* act(() => page.getByRole("button", { name: "2 new: show" }).click())
        yield* act(() => page.getByText(`#${one?.id}`, { exact: true }).waitFor())
        yield* act(async () => {
          await page.getByText("1 selected").waitFor()
          await page.getByRole("button", { name: "Clear" }).click()
          await page.locator("tbody tr").first().hover()
        })
        const still = yield* act(first)
        yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* act(() => page.getByRole("button", { name: "1 new: show" }).waitFor())
        assert.strictEqual(yield* act(first), still)
        yield* act(() => page.getByRole("heading", { level: 1 }).hover())
        yield* act(() => page.waitForFunction(`document.querySelector("tbody th").textContent !== "${still}"`))
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "agrees with every other viewer on a pause",
    () =>
      Effect.gen(function* () {
        const queues = yield* Queues
        const { base, open } = yield* rig(everything)
        const [one, other] = [yield* open(), yield* open()]
        yield* act(() => Promise.all([one, other].map((page) => look(page, base, "/queues"))))
        yield* act(async () => {
          await one.getByRole("button", { name: "Pause payments" }).click()
          await other.getByRole("button", { name: "Resume payments" }).waitFor()
          await other.reload()
          await other.getByRole("button", { name: "Resume payments" }).click()
          await one.getByRole("button", { name: "Pause payments" }).waitFor()
        })
        assert.isFalse((yield* queues.overview).find(({ name }) => name === "payments")?.paused)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "has one stream while it is visible, and none while it is not or keeps still",
    () =>
      Effect.gen(function* () {
        const { base, open, streams } = yield* counting()
        const page = yield* open()
        yield* act(() => look(page, base, "/"))
        const is = (count: number) => eventually(streams, (found) => found === count)
        yield* is(1)
        const hide = (hidden: boolean) =>
          act(() =>
            page.evaluate(`
              Object.defineProperty(document, "hidden", { configurable: true, value: ${hidden} })
              document.dispatchEvent(new Event("visibilitychange"))`)
          )
        yield* hide(true)
        yield* is(0)
        yield* hide(false)
        yield* is(1)
        yield* act(() => page.getByRole("button", { name: "Keep what is shown" }).click())
        yield* is(0)
        yield* act(() => page.getByRole("button", { name: "Follow what happens" }).click())
        yield* is(1)
        yield* act(async () => {
          await page.getByRole("button", { name: "Settings and keys" }).click()
          await page.getByLabel("Follow what happens").last().selectOption("5 s")
          await page.getByText("◐ polling").waitFor()
        })
        yield* is(0)
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "polls where a proxy holds streams back",
    () =>
      Effect.gen(function* () {
        const { handle, open } = yield* rig(everything, { path: "/" })
        const inner = Dashboard.node(handle)
        const server = yield* listen((incoming, outgoing) => {
          // It takes the request, and never lets an answer through.
          if (incoming.url?.includes("/api/events") !== true) inner(incoming, outgoing)
        })
        const page = yield* open()
        yield* act(async () => {
          await page.goto(`http://127.0.0.1:${portOf(server)}/#/jobs`)
          await page.getByText("◐ polling").waitFor()
        })
        const { id } = yield* Seed.Archive.enqueue({}, { delay: "1 hour" })
        yield* act(() => page.getByText(`#${id}`, { exact: true }).waitFor())
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "says that PostgreSQL does not answer, and heals by itself",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const proxy = yield* makeProxy(Redacted.value(url))
        const services = Shigoto.layerProducer.pipe(
          Layer.provide(ShigotoConfig.layer({ queryTimeout: "2 seconds" })),
          Layer.provide(
            PgClient.layer({ url: Redacted.make(proxy.url), connectTimeout: "1 second", maxConnections: 2 })
          )
        )
        const handle = yield* Effect.acquireRelease(
          Effect.sync(() => Dashboard.handler(services, { access: () => Effect.succeed(everything) })),
          (made) => Effect.promise(() => made.dispose())
        )
        const server = yield* listen(Dashboard.node(handle))
        const { open } = yield* browse
        const page = yield* open()
        yield* act(() => look(page, `http://127.0.0.1:${portOf(server)}`, "/queues"))
        proxy.blackhole()
        proxy.cut()
        const alert = page.getByRole("alert").filter({ hasText: "asks again by itself" })
        yield* act(() => alert.waitFor())
        proxy.bury()
        proxy.heal()
        yield* act(async () => {
          await alert.waitFor({ state: "detached" })
          await page.getByRole("link", { name: "mails", exact: true }).waitFor()
        })
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "keeps its state in the address, helps to write a filter, and goes where the keyboard says",
    () =>
      Effect.gen(function* () {
        const { base, open } = yield* rig(everything)
        const page = yield* open()
        const rows = async (count: number) => {
          await page.getByText(`${count} matching`).waitFor()
          await page
            .locator("tbody tr")
            .nth(count - 1)
            .waitFor()
          assert.strictEqual(await page.locator("tbody tr").count(), count)
        }
        yield* act(async () => {
          await look(page, base, "/")
          await page.keyboard.press("g")
          await page.keyboard.press("j")
          const filter = page.getByLabel("Filter")
          await filter.pressSequentially("que")
          await page.getByRole("option", { name: /^queue:/ }).waitFor()
          await page.keyboard.press("ArrowDown")
          await page.keyboard.press("Enter")
          await filter.pressSequentially("pay")
          await page.getByRole("option", { name: "queue:payments" }).click()
          await filter.pressSequentially("state:retry")
          await page.getByRole("option", { name: "state:retryable" }).click()
          assert.strictEqual(await filter.inputValue(), "queue:payments state:retryable ")
          await page.keyboard.press("Enter")
          await rows(5)
          await page.reload()
          await rows(5)
          await page.getByRole("link", { name: /^\W*completed/ }).click()
          await page.waitForURL(/completed/)
          await page.goBack()
          await rows(5)
          await filter.fill("worker:send-email args.")
          await page.getByRole("option", { name: "args.subject:" }).waitFor()
          await page.keyboard.press("Escape")
          await page.getByRole("heading", { level: 1 }).click()
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
    limit
  )

  it.effect.skipIf(isMissing)(
    "remembers how its viewer likes it",
    () =>
      Effect.gen(function* () {
        const { base, open } = yield* rig(everything)
        const page = yield* open()
        yield* act(async () => {
          await look(page, base, "/jobs")
          await page.keyboard.press("?")
          await page.getByLabel("Times").selectOption("utc")
          await page.getByLabel("Colours", { exact: true }).selectOption("dark")
          await page.getByLabel("Keys", { exact: true }).selectOption("off")
          await page.keyboard.press("Escape")
          await look(page, base, "/jobs")
          await page
            .getByText(/^\d{4}-\d\d-\d\dT.*Z$/)
            .first()
            .waitFor()
          assert.strictEqual(await page.evaluate("document.documentElement.dataset.theme"), "dark")
          await page.keyboard.press("g")
          await page.keyboard.press("q")
          assert.strictEqual(new URL(page.url()).hash, "#/jobs")
        })
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "works behind a proxy that strips its path, and behind one that does not",
    () =>
      Effect.gen(function* () {
        for (const path of ["/", "/inner/tools"] as const) {
          const { base, open, problems } = yield* rig(everything, { path })
          const target = new URL(base)
          const proxy = yield* listen((incoming, outgoing) => {
            const url = incoming.url ?? "/"
            const inner = path === "/" ? url.replace(/^\/inner\/tools/, "") || "/" : url
            const { headers, method } = incoming
            const forwarded = send(
              { host: target.hostname, port: target.port, path: inner, method, headers },
              (answer) => {
                outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
                answer.pipe(outgoing)
              }
            )
            incoming.pipe(forwarded)
            outgoing.on("close", () => forwarded.destroy())
            forwarded.on("error", () => outgoing.destroy())
          })
          const page: Page = yield* open()
          yield* act(async () => {
            await look(page, `http://127.0.0.1:${portOf(proxy)}/inner/tools`, "/queues")
            await page.getByRole("button", { name: "Pause prices" }).click()
            await page.getByRole("button", { name: "Resume prices" }).click()
            await page.getByRole("button", { name: "Pause prices" }).waitFor()
          })
          assert.deepStrictEqual(problems, [])
        }
      }).pipe(Effect.scoped),
    limit
  )

  it.effect.skipIf(isMissing)(
    "switches between instances, each with its own jobs",
    () =>
      Effect.gen(function* () {
        const services = yield* Effect.context<Dashboard.Services>()
        const other = yield* Layer.build(TestDatabase.layerDatabase())
        const empty = Layer.unwrap(
          Effect.map(Effect.provide(TestDatabase, other), ({ clientConfig }) =>
            Shigoto.layerProducer.pipe(
              Layer.provide(ShigotoConfig.layer({})),
              Layer.provide(PgClient.layer(clientConfig))
            )
          )
        )
        const handle = yield* Effect.acquireRelease(
          Effect.sync(() =>
            Dashboard.handler(
              { shop: Layer.succeedContext(services), spare: empty },
              { path: "/all", access: () => Effect.succeed(everything) }
            )
          ),
          (made) => Effect.promise(() => made.dispose())
        )
        const server = yield* listen(Dashboard.node(handle))
        const { open, problems } = yield* browse
        const page = yield* open()
        yield* act(async () => {
          await page.goto(`http://127.0.0.1:${portOf(server)}/all/`)
          await page.getByRole("link", { name: "Queues" }).click()
          await page.getByRole("link", { name: "mails", exact: true }).waitFor()
          await page.getByLabel("Instance").selectOption("spare")
          await page.getByRole("link", { name: "default", exact: true }).waitFor()
          assert.strictEqual(await page.getByRole("link", { name: "mails", exact: true }).count(), 0)
          assert.match(page.url(), /\/all\/spare\/#\/queues$/)
        })
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped),
    limit
  )
})
