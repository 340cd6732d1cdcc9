import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Job from "../../src/Job.ts"
import * as Migrations from "../../src/Migrations.ts"
import * as Shigoto from "../../src/Shigoto.ts"
import * as ShigotoConfig from "../../src/ShigotoConfig.ts"
import { isInstalled, startPooler } from "../setup/pooler.ts"
import { onDatabase, startNode } from "../integration/support.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { canary, shigoto, start } from "./support.ts"

interface Finding {
  readonly check: string
  readonly status: string
  readonly message: string
  readonly advice: string | null
}

const grants = (viewer: string) =>
  Migrations.printGrants("shigoto", { viewer })
    .split(";\n")
    .filter((statement) => statement.trim() !== "")

const doctor = (args: ReadonlyArray<string> = []) =>
  Effect.map(shigoto(["doctor", "--json", ...args]), ({ code, stderr, stdout }) => {
    assert.strictEqual(stderr, "")
    const { findings, status } = JSON.parse(stdout) as {
      readonly findings: ReadonlyArray<Finding>
      readonly status: string
    }
    return { code, status, of: (check: string) => findings.filter((finding) => finding.check === check) }
  })

/** Those of the settings that the test's server has on purpose, for speed. */
const unsafe = new Set(["fsync", "full_page_writes", "synchronous_commit"])

describe("doctor", () => {
  onDatabase("finds nothing wrong with a new database and a node on it", () =>
    Effect.gen(function* () {
      yield* startNode()
      const { stdout } = yield* shigoto(["doctor", "--json"])
      const { findings } = JSON.parse(stdout) as { readonly findings: ReadonlyArray<Finding> }
      assert.deepStrictEqual(
        findings.filter(({ check, status }) => status !== "ok" && !unsafe.has(check)),
        []
      )
      assert.includeMembers(
        findings.map(({ check }) => check),
        ["connection", "server", "writes", "clock", "schema", "rights", "bloat", "pooler", "notifications", "jobs"]
      )
    })
  )

  onDatabase(
    "tells what is missing, and what to do",
    () =>
      Effect.gen(function* () {
        const empty = yield* doctor()
        assert.strictEqual(empty.code, 1)
        assert.strictEqual(empty.status, "problem")
        assert.deepInclude(empty.of("schema")[0], { status: "problem", advice: "Run: shigoto migrate" })
        const mend = yield* shigoto(["doctor", "--fix-sql"])
        assert.strictEqual(mend.code, 1)
        assert.strictEqual(mend.stderr, "")
        assert.include(
          mend.stdout,
          `-- The schema "shigoto" has no Shigoto tables, or this role may not see them.\nBEGIN;`
        )
        // The test's server is unsafe on purpose.
        assert.include(
          mend.stdout,
          "-- fsync is off: a crash of the machine may destroy the database.\nALTER SYSTEM SET fsync = on;"
        )
        assert.strictEqual((yield* shigoto(["migrate"])).code, 0)
        assert.strictEqual((yield* doctor()).of("schema")[0]?.status, "ok")

        const away = yield* doctor(["--url", `postgres://app:${canary}@127.0.0.1:1/app`])
        assert.strictEqual(away.code, 1)
        assert.match(away.of("connection")[0]?.message ?? "", /^The database does not answer: .*ECONNREFUSED/)

        const sql = yield* SqlClient.SqlClient
        const looker = `looker_${(yield* TestDatabase).name}`
        yield* Effect.acquireRelease(sql`CREATE ROLE ${sql(looker)} LOGIN PASSWORD 'looker'`, () =>
          Effect.andThen(sql`DROP OWNED BY ${sql(looker)}`, sql`DROP ROLE ${sql(looker)}`).pipe(Effect.orDie)
        )
        for (const statement of grants(looker)) yield* sql.unsafe(statement).unprepared
        yield* sql`ALTER ROLE ${sql(looker)} SET statement_timeout = '1s'`
        const url = new URL(Redacted.value((yield* TestDatabase).url))
        url.username = looker
        url.password = "looker"
        const seen = yield* doctor(["--url", url.href])
        assert.strictEqual(seen.of("rights")[0]?.status, "warning")
        assert.include(seen.of("rights")[0]?.message, "may look at jobs, and change none")
        assert.strictEqual(seen.of("statement_timeout")[0]?.status, "warning")
      }),
    { empty: true }
  )

  onDatabase("and status tell that a database takes no writes", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { name } = yield* TestDatabase
      assert.strictEqual((yield* shigoto(["status"])).code, 0)
      yield* sql`ALTER DATABASE ${sql(name)} SET default_transaction_read_only TO on`
      const status = yield* shigoto(["status"])
      assert.strictEqual(status.code, 1)
      assert.match(status.stdout, /^down .*\n! The database is read-only/)
      assert.strictEqual((yield* doctor()).of("writes")[0]?.status, "problem")
      const refused = yield* shigoto(["queues", "pause", "mails"])
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, "read-only transaction")
    })
  )

  onDatabase("tells of jobs that nobody runs", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`SELECT shigoto.enqueue('orphan', '{}'::jsonb)`
      const alone = yield* doctor()
      assert.strictEqual(alone.code, 1)
      assert.include(alone.of("jobs")[0]?.message, "No node is alive")
      assert.include(alone.of("jobs")[0]?.advice ?? "", "shigoto work")
      yield* startNode({ config: { queues: { other: 1 } } })
      const found = (yield* doctor()).of("jobs").map(({ message }) => message)
      assert.isTrue(found.some((message) => message.includes(`the queue "default", which no live node runs`)))
      assert.isTrue(found.some((message) => message.includes(`the worker "orphan", which no live node has`)))
    })
  )
})

describe.skipIf(!isInstalled && process.env["CI"] === undefined)("through PgBouncer in transaction mode", () => {
  onDatabase("commands work, and doctor knows what is in between", () =>
    Effect.gen(function* () {
      const url = yield* startPooler
      const sql = yield* SqlClient.SqlClient
      yield* sql`SELECT shigoto.enqueue('orphan', '{}'::jsonb)`
      assert.strictEqual((yield* shigoto(["jobs", "retry", "1", "--url", url])).code, 5)
      assert.strictEqual((yield* shigoto(["jobs", "cancel", "worker:orphan", "--yes", "--url", url])).code, 0)
      const found = yield* doctor(["--url", url])
      assert.deepInclude(found.of("pooler")[0], {
        status: "warning",
        message: "A pooler in transaction mode is in between."
      })
      assert.strictEqual(found.of("notifications")[0]?.status, "warning")
      assert.strictEqual((yield* doctor()).of("pooler")[0]?.status, "ok")
    })
  )
})

describe("through an outage", () => {
  onDatabase("status and tail keep looking, say so, and go on", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const proxy = yield* makeProxy(Redacted.value((yield* TestDatabase).url))
      const url = ["--url", proxy.url]
      const status = yield* start(["status", "--watch", "--interval", "0.2", "--ndjson", ...url], /"status":"ok"/)
      const tail = yield* start(["jobs", "tail", "--interval", "0.2", ...url], /^/)
      yield* sql`SELECT shigoto.enqueue('before', '{}'::jsonb)`
      yield* tail.says(/before/)
      proxy.blackhole()
      proxy.cut()
      yield* status.says(/"status":"down".*"_tag":"DatabaseUnavailable"/)
      yield* tail.says(/The database does not answer.*Looking again/)
      yield* sql`SELECT shigoto.enqueue('meanwhile', '{}'::jsonb)`
      proxy.heal()
      proxy.bury()
      yield* tail.says(/answers again[^]*meanwhile|meanwhile[^]*answers again/)
      yield* eventually(
        Effect.sync(() => status.seen.stdout.trim().split("\n").at(-1) ?? ""),
        (last) => last.includes('"status":"degraded"')
      )
      for (const { child, exit } of [status, tail]) {
        child.kill("SIGINT")
        assert.strictEqual(yield* exit, 130)
      }
    })
  )
})

const Step = Job.make("step", { args: { token: Schema.String }, queue: "steps", maxAttempts: 1 })

const Producer = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer({})),
  Layer.provideMerge(TestDatabase.layer()),
  Layer.orDie
)

layer(Producer, { excludeTestServices: true })("jobs tail", (it) => {
  it.effect("follows jobs through their states, at once and without their secrets, until Ctrl-C", () =>
    Effect.gen(function* () {
      const old = yield* Step.enqueue({ token: canary }, { delay: "1 hour" })
      const tail = yield* start(["jobs", "tail", "queue:steps", "--ndjson", "--interval", "60"], /scheduled/)
      const { id } = yield* Step.enqueue({ token: canary })
      // The interval is a minute: a notification tells of the job.
      yield* tail.says(new RegExp(`"id":${id},.*"state":"available"`))
      const node = yield* startNode({
        workers: Step.toLayer(({ token }) => Effect.die(new Error(`no step for ${token}`))),
        config: { queues: { steps: 1 } }
      })
      yield* node.event("Discarded", id)
      yield* Step.enqueue({ token: canary }, { queue: "elsewhere" })
      yield* tail.says(new RegExp(`"id":${id},.*"state":"discarded"`))
      tail.child.kill("SIGINT")
      assert.strictEqual(yield* tail.exit, 130)
      const lines = tail.seen.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { readonly id: number; readonly state: string })
      assert.deepStrictEqual(lines[0] && [lines[0].id, lines[0].state], [old.id, "scheduled"])
      const states = lines.filter((line) => line.id === id).map(({ state }) => state)
      assert.deepStrictEqual([states[0], states.at(-1)], ["available", "discarded"])
      assert.strictEqual(new Set(states).size, states.length, "no state is told twice")

      const people = yield* start(["jobs", "tail", String(id)], /discarded step/)
      people.child.kill("SIGTERM")
      assert.strictEqual(yield* people.exit, 143)
      assert.include(people.seen.stdout, "Error: no step for ••••••")
      assert.notInclude(people.seen.stdout + tail.seen.stdout, canary)
      assert.strictEqual((yield* shigoto(["jobs", "tail", "--json"])).code, 2)
    })
  )
})
