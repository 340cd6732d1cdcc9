/**
 * How long each page takes over five million jobs, and how long the longest statement: `npm run measure:dashboard`, with
 * `-- <folder>` for a database that is kept there and not filled again.
 *
 * A million jobs wait and four million have ended, in a hundred queues of fifty workers, on a server that starts and
 * ends with it. The statements come from the server's own log; the pages are those of a real browser, each asked for the
 * first time, before anything of it is known. The job of three megabytes is opened from a page that is open already.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { readdirSync, readFileSync } from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { chromium } from "playwright-core"
import { Dashboard } from "../../src/dashboard/index.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"

const seed = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const columns = sql.literal(
    `state, queue, worker, args, run_at, inserted_at, claimed_at, attempt, errors, fingerprint`
  )
  const row = sql`
    state, 'queue-' || n % 100, 'worker-' || n % 50, jsonb_build_object('to', 'reader' || n || '@example.com', 'n', n)`
  const failure = sql`CASE WHEN state IN ('retryable', 'discarded') THEN jsonb_build_array(jsonb_build_object(
    'attempt', 1, 'at', '2026-01-01T00:00:00.000Z', 'node', 'n', 'tag', 'TimedOut', 'message', 'No answer from ' || n % 500)) END,
    CASE WHEN state IN ('retryable', 'discarded') THEN 'failure-' || n % 500 END`
  yield* sql`INSERT INTO shigoto.nodes (name, started_at, beat_at, expires_at, ttl_millis, listening, workers, queues, slots)
    SELECT 'node-' || i, now(), now(), now() + interval '1 day', 86400000, true,
      ARRAY(SELECT 'worker-' || n FROM generate_series(0, 49) AS n),
      ARRAY(SELECT 'queue-' || n FROM generate_series(0, 99) AS n), array_fill(10, ARRAY[100])
    FROM generate_series(1, 10) AS i`
  yield* sql`
    INSERT INTO shigoto.jobs (${columns})
    SELECT ${row}, now() + CASE WHEN state = 'available' THEN interval '0' ELSE interval '1 day' END,
      now() - interval '1 hour', NULL, CASE WHEN state = 'retryable' THEN 1 ELSE 0 END, ${failure}
    FROM generate_series(1, 1000000) AS n
    CROSS JOIN LATERAL (SELECT (ARRAY['available', 'scheduled', 'scheduled', 'retryable'])[n / 100 % 4 + 1] AS state) AS s`
  yield* sql`
    INSERT INTO shigoto.jobs_archive (id, max_attempts, priority, epoch, finished_at, ${columns})
    SELECT nextval(pg_get_serial_sequence('shigoto.jobs', 'id')), 20, 0, 1, now() - n * interval '200 ms', ${row},
      now() - n * interval '200 ms', now() - n * interval '200 ms', now() - n * interval '200 ms', 1, ${failure}
    FROM generate_series(1, 4000000) AS n
    CROSS JOIN LATERAL (SELECT (ARRAY['completed', 'completed', 'completed', 'discarded', 'cancelled'])[n / 100 % 5 + 1] AS state) AS s`
  yield* sql`
    INSERT INTO shigoto.jobs (state, queue, worker, args, run_at, inserted_at)
    SELECT 'scheduled', 'large', 'large', jsonb_build_object('rows', jsonb_agg(jsonb_build_object('row', n, 'text', repeat('x', 80)))),
      now() + interval '1 day', now()
    FROM generate_series(1, 30000) AS n`
  yield* sql`VACUUM (ANALYZE) shigoto.jobs`
  yield* sql`VACUUM (ANALYZE) shigoto.jobs_archive`
})

const pages: Readonly<Record<string, string>> = {
  overview: "/",
  jobs: "/jobs",
  "jobs of a state": "/jobs?q=state%3Adiscarded",
  "jobs of a queue": "/jobs?q=queue%3Aqueue-7",
  "jobs that ended last": "/jobs?order=finished",
  "jobs that are next": "/jobs?order=due",
  "jobs by args": "/jobs?q=args.n%3A77",
  "jobs by args that none has": "/jobs?q=args.n%3A-1",
  job: "/jobs/1000",
  queues: "/queues",
  queue: "/queues/queue-7",
  failures: "/failures",
  cron: "/cron",
  batches: "/batches",
  workers: "/workers",
  worker: "/workers/worker-7",
  nodes: "/nodes",
  limits: "/limits",
  audit: "/audit",
  system: "/system"
}

const say = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

const main = Effect.gen(function* () {
  const server = yield* EmbeddedPostgres.make({
    dataDir: process.argv[2],
    durable: false,
    settings: {
      logging_collector: "on",
      log_filename: "server.log",
      log_min_duration_statement: "100",
      max_wal_size: "8GB"
    }
  })
  const services = Shigoto.layerProducer.pipe(
    Layer.provide(ShigotoConfig.layer({})),
    Layer.provideMerge(PgClient.layer({ ...server.clientConfig, maxConnections: 2, applicationName: "dashboard" }))
  )
  yield* Effect.gen(function* () {
    const before = performance.now()
    const [found] = yield* (yield* SqlClient.SqlClient)`SELECT FROM shigoto.jobs LIMIT 1`
    if (found === undefined) yield* seed
    yield* say(`filled in ${Math.round((performance.now() - before) / 1000)} s`)
    const context = yield* Effect.context<Dashboard.Services>()
    const log = () => {
      const folder = `${server.dataDir}/log`
      return readdirSync(folder)
        .map((name) => readFileSync(`${folder}/${name}`, "utf8"))
        .join("")
    }
    const logged = log().length
    const handle = yield* Effect.acquireRelease(
      Effect.sync(() =>
        Dashboard.handler(Layer.succeedContext(context), { access: () => Effect.succeed({ user: "root", can: "all" }) })
      ),
      (made) => Effect.promise(() => made.dispose())
    )
    const http = yield* Effect.acquireRelease(
      Effect.promise(
        () =>
          new Promise<Server>((resolve) => {
            const one = createServer(Dashboard.node(handle)).listen(0, "127.0.0.1", () => resolve(one))
          })
      ),
      (one) => Effect.sync(() => one.close().closeAllConnections())
    )
    const base = `http://127.0.0.1:${(http.address() as AddressInfo).port}` // it listens on TCP
    const [row] = yield* (yield* SqlClient.SqlClient)<{ readonly id: number }>`
      SELECT id::integer FROM shigoto.jobs WHERE worker = 'large'`
    const large = row?.id
    const times = yield* Effect.promise(async () => {
      const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] })
      const found: Array<readonly [page: string, millis: number, problems: ReadonlyArray<string>]> = []
      for (const [name, view] of Object.entries(pages)) {
        const page = await (await browser.newContext()).newPage()
        const problems: Array<string> = []
        page.on("response", (response) => {
          if (response.status() >= 400) problems.push(`${response.status()} ${response.url().slice(base.length)}`)
        })
        const started = performance.now()
        await page.goto(`${base}/#${view}`)
        await page.getByRole("heading", { level: 1 }).waitFor()
        const loading = page.getByText("Loading…")
        while ((await loading.count()) > 0) await loading.first().waitFor({ state: "detached" })
        found.push([name, performance.now() - started, problems])
        await page.context().close()
      }
      const page = await browser.newPage()
      await page.goto(`${base}/#/jobs?q=id%3A${large}`)
      await page.locator("tbody tr").first().waitFor()
      const started = performance.now()
      await page.locator("tbody th a").first().click()
      await page.getByLabel("Args", { exact: true }).waitFor()
      found.push(["a job of 3 MB", performance.now() - started, []])
      await browser.close()
      return found
    })
    for (const [name, millis, problems] of times) {
      yield* say(`${name.padEnd(28)} ${String(Math.round(millis)).padStart(6)} ms  ${problems.join(", ")}`)
    }
    const told = log().slice(logged)
    const late = told.match(/canceling statement due to statement timeout/g) ?? []
    const statements = [...told.matchAll(/duration: ([\d.]+) ms\s+(?:execute|statement|parse|bind)[^:]*:\s*([^\n]*)/g)]
      .map(([, millis, text]) => ({ millis: Number(millis), text }))
      .toSorted((a, b) => b.millis - a.millis)
    yield* say(`${late.length} statements were given up after two seconds`)
    yield* say(`${statements.length} statements took longer than 100 ms; the longest:`)
    for (const { millis, text } of statements.slice(0, 8))
      yield* say(`${String(Math.round(millis)).padStart(6)} ms  ${text?.slice(0, 110)}`)
  }).pipe(Effect.provide(services))
}).pipe(Effect.scoped)

await Effect.runPromise(main)
