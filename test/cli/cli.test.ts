import { assert, describe, expect, it, layer } from "@effect/vitest"
import { displayWidth } from "effect/cli/CliOutput"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { join } from "node:path"
import { onDatabase } from "../integration/support.ts"
import * as Migrations from "../../src/Migrations.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { argv, canary, exec, normal, seed, shell, shigoto, terminal, transcript } from "./support.ts"

/** What a terminal would obey, and what no line of output may hold. */
// eslint-disable-next-line no-control-regex, no-misleading-character-class
const steering = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]/

const golden = (name: string, text: string) =>
  Effect.promise(() => expect(text).toMatchFileSnapshot(`./golden/${name}.txt`))

describe("migrate", () => {
  onDatabase(
    "brings an empty database up to date, and says what it would do and has done",
    () =>
      Effect.gen(function* () {
        yield* golden(
          "migrate",
          yield* transcript([
            "jobs list",
            "migrate status",
            "migrate --dry-run",
            "migrate",
            "migrate up",
            "jobs list",
            "status"
          ])
        )
        const { found, latest, steps } = JSON.parse((yield* shigoto(["migrate", "status", "--json"])).stdout) as {
          readonly found: number
          readonly latest: number
          readonly steps: ReadonlyArray<{ readonly version: number; readonly name: string; readonly applied: boolean }>
        }
        assert.strictEqual(found, latest)
        assert.strictEqual(steps.length, latest)
        assert.deepStrictEqual(steps[0], { version: 1, name: "core", applied: true })
      }),
    { empty: true }
  )

  it.live("prints SQL without a database", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* shigoto(["migrate", "print", "--schema", "other"], { database: false })
      assert.strictEqual(code, 0)
      assert.match(stdout, /^BEGIN;/)
      assert.include(stdout, `CREATE TABLE "other".jobs`)
      const grants = yield* shigoto(["migrate", "grants", "ops", "--part", "viewer"], { database: false })
      assert.include(grants.stdout, `GRANT USAGE ON SCHEMA "shigoto" TO "ops"`)
      for (const part of ["owner", "worker", "operator", "producer"]) {
        const printed = yield* shigoto(["migrate", "grants", "ops", "--part", part, "--json"], { database: false })
        assert.strictEqual(
          (JSON.parse(printed.stdout) as { readonly sql: string }).sql,
          Migrations.printGrants("shigoto", { [part]: "ops" }),
          part
        )
      }
      const created = yield* shigoto(["migrate", "grants", "ops", "--part", "owner", "--create"], { database: false })
      assert.strictEqual(created.stdout, Migrations.printRoles("shigoto", { owner: "ops" }))
      const refused = yield* shigoto(["migrate", "print", "--schema", "pg_x"], { database: false })
      assert.strictEqual(refused.code, 2)
      assert.include(refused.stderr, `The schema name "pg_x" cannot be used`)
    }).pipe(Effect.provide(TestDatabase.layerDatabase()))
  )
})

const Seeded = Layer.effectDiscard(Effect.scoped(seed)).pipe(Layer.provideMerge(TestDatabase.layer()))

layer(Seeded, { excludeTestServices: true })("on a database with jobs", (it) => {
  it.effect("shows them on pipes: columns apart by tabs, exact instants", () =>
    Effect.gen(function* () {
      yield* golden(
        "pipe",
        yield* transcript([
          "status",
          "jobs list",
          "jobs list state:discarded -q",
          "jobs list --count",
          "jobs list -n 1",
          "jobs show 2",
          "jobs logs 2",
          "queues list",
          "jobs retry state:discarded --dry-run",
          "jobs delete 1 --dry-run"
        ])
      )
    })
  )

  it.effect("shows them in a terminal: aligned, coloured, cut to its width", () =>
    Effect.gen(function* () {
      yield* golden("terminal-100", yield* transcript(["status", "jobs list", "queues list"], { columns: 100 }))
      yield* golden("terminal-50", yield* transcript(["status", "jobs list", "queues list"], { columns: 50 }))
      const { stdout } = yield* terminal(["jobs", "list"], { columns: 50, env: { NO_COLOR: "1" } })
      for (const line of stdout.split("\n")) assert.isAtMost(displayWidth(line), 50, line)
      assert.notInclude(stdout, "\u001b")
    })
  )

  it.effect("gives the same as JSON, in shapes that stay", () =>
    Effect.gen(function* () {
      yield* golden(
        "json",
        yield* transcript([
          "jobs list --json -n 2",
          "jobs list --ndjson",
          "jobs show 2 --json",
          "jobs logs 2 --ndjson",
          "queues list --ndjson",
          "jobs list --count --json",
          "jobs retry state:discarded --dry-run --json"
        ])
      )
    })
  )

  it.effect("never shows a secret without --reveal, and lets nothing in data steer the terminal", () =>
    Effect.gen(function* () {
      const commands = [
        ["status"],
        ["jobs", "list"],
        ["jobs", "show", "1"],
        ["jobs", "show", "2"],
        ["jobs", "show", "3"],
        ["jobs", "show", "4"],
        ["jobs", "logs", "1"],
        ["jobs", "logs", "2"],
        ["queues", "list"],
        ["jobs", "retry", "state:discarded", "--dry-run"]
      ]
      yield* Effect.forEach(
        commands.flatMap((command) => [command, [...command, "--json"], [...command, "--ndjson"]]),
        Effect.fnUntraced(function* (args) {
          const { code, stderr, stdout } = yield* shigoto(args)
          assert.strictEqual(code, 0, `${args.join(" ")}: ${stderr}`)
          assert.notInclude(stdout + stderr, canary, args.join(" "))
          assert.notMatch(stdout + stderr, steering, args.join(" "))
        }),
        { concurrency: 2 }
      )
      const screen = yield* terminal(["jobs", "show", "3"], { columns: 80, env: { NO_COLOR: "1" } })
      assert.notMatch(screen.stdout, steering)
      for (const args of [
        ["jobs", "show", "2"],
        ["jobs", "logs", "2"],
        ["jobs", "show", "1", "--json"]
      ]) {
        assert.include((yield* shigoto([...args, "--reveal"])).stdout, canary)
      }
      for (const command of [["jobs", "list"], ["jobs", "tail"], ["jobs", "retry", "--dry-run"], ["export"]]) {
        const guess = yield* shigoto([...command, `args.password:${canary}`])
        assert.strictEqual(guess.code, 2, command.join(" "))
        assert.include(guess.stderr, "to search for a secret is to guess it")
      }
      assert.strictEqual(
        (yield* shigoto(["jobs", "list", `args.password:${canary}`, "--reveal", "--count"])).stdout,
        "3\n"
      )
    })
  )

  it.effect("exports all that match, each job once, over the pages and in both forms", () =>
    Effect.gen(function* () {
      const lines = (yield* shigoto(["export"])).stdout.trim().split("\n")
      const ids = lines.map((line) => (JSON.parse(line) as { readonly id: number }).id)
      assert.deepStrictEqual(ids, [4, 3, 2, 1])
      assert.notInclude(lines.join(), canary)
      assert.include((yield* shigoto(["export", "1", "--reveal"])).stdout, canary)
      const { jobs } = JSON.parse((yield* shigoto(["export", "--json", "-n", "2"])).stdout) as {
        readonly jobs: ReadonlyArray<unknown>
      }
      assert.deepStrictEqual(
        jobs,
        lines.slice(0, 2).map((line) => JSON.parse(line) as unknown)
      )
      assert.deepStrictEqual(yield* shigoto(["export", "worker:nobody", "--json"]), {
        code: 0,
        stdout: '{ "jobs": [\n] }\n',
        stderr: ""
      })
      const sql = yield* SqlClient.SqlClient
      yield* sql`SELECT shigoto.enqueue('paged', '{}'::jsonb) FROM generate_series(1, 1200)`
      const paged = yield* shell(
        "shigoto export worker:paged | sort -u | wc -l; shigoto export worker:paged | head -n 1 | wc -l"
      )
      assert.deepStrictEqual([paged.stdout.split(/\s+/).slice(0, 2), paged.stderr], [["1200", "1"], ""])
      assert.strictEqual((yield* shigoto(["jobs", "delete", "worker:paged", "--yes"])).code, 0)
    })
  )

  it.effect("ends with the exit codes that it documents", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [number, ReadonlyArray<string>]> = [
        [0, ["jobs", "list", "worker:nobody"]],
        [0, ["--help"]],
        [2, []],
        [2, ["jobz"]],
        [2, ["jobs", "list", "--nonsense"]],
        [2, ["jobs", "list", "--limit", "0"]],
        [2, ["jobs", "list", "wroker:x"]],
        [2, ["jobs", "list", "--json", "--ndjson"]],
        [2, ["jobs", "show", "x"]],
        [2, ["jobs", "retry"]],
        [2, ["jobs", "retry", "1", "state:discarded"]],
        [2, ["jobs", "list", "--url", "mysql://root:hunter2@x/y"]],
        [2, ["queues", "pause", " "]],
        [2, ["queues", "pause", "mails", "--node", "a", "--key", "b"]],
        [3, ["jobs", "show", "999"]],
        [3, ["jobs", "retry", "1", "999"]],
        [4, ["jobs", "list", "--schema", "elsewhere"]],
        [5, ["jobs", "delete", "1"]],
        [5, ["jobs", "retry", "state:discarded"]],
        [5, ["jobs", "cancel", "1"]],
        [1, ["jobs", "list", "--url", "postgres://app:hunter2@127.0.0.1:1/app"]]
      ]
      for (const [code, args] of cases) {
        const ran = yield* shigoto(args)
        assert.strictEqual(ran.code, code, `${args.join(" ")}: ${ran.stdout}${ran.stderr}`)
        if (code !== 0) {
          assert.strictEqual(ran.stdout.replace(/^#1 Finished.*\n/, ""), "", args.join(" "))
          assert.match(ran.stderr + ran.stdout, /^error: |^DESCRIPTION|^#1 /m, args.join(" "))
        }
        assert.notInclude(ran.stdout + ran.stderr, "hunter2")
      }
      const nowhere = yield* shigoto(["jobs", "list"], { database: false })
      assert.strictEqual(nowhere.code, 2)
      assert.include(nowhere.stderr, "No database is named")
    })
  )

  it.effect("finds the database in the flag, its own variable, the usual one and PG*, in this order", () =>
    Effect.gen(function* () {
      const url = Redacted.value((yield* TestDatabase).url)
      const nowhere = "postgres://nobody@127.0.0.1:1/nothing"
      const found = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
        Effect.map(shigoto(["jobs", "list", "--count", ...args], { database: false, env }), (ran) => ran.code)
      assert.strictEqual(yield* found(["--url", url], { SHIGOTO_DATABASE_URL: nowhere }), 0)
      assert.strictEqual(yield* found([], { SHIGOTO_DATABASE_URL: url, DATABASE_URL: nowhere }), 0)
      assert.strictEqual(yield* found([], { DATABASE_URL: url, PGHOST: "127.0.0.1", PGPORT: "1" }), 0)
      const { hostname, password, pathname, port, searchParams, username } = new URL(url)
      const variables = {
        PGHOST: searchParams.get("host") ?? hostname,
        PGPORT: port,
        PGUSER: decodeURIComponent(username),
        PGDATABASE: pathname.slice(1),
        ...(password === "" ? {} : { PGPASSWORD: decodeURIComponent(password) })
      }
      assert.strictEqual(yield* found([], variables), 0)
      assert.strictEqual(yield* found([], { ...variables, SHIGOTO_SCHEMA: "elsewhere" }), 4)
    })
  )

  it.effect("is quiet when the reader goes away", () =>
    Effect.gen(function* () {
      const ran = yield* shell(
        `for i in 1 2 3; do shigoto jobs list --ndjson | head -n 1 >/dev/null; done; shigoto jobs show 2 --json | true; echo "\${PIPESTATUS[0]}"`
      )
      assert.deepStrictEqual(ran, { code: 0, stdout: "0\n", stderr: "" })
    })
  )

  it.effect("asks before it changes much, and does what the answer says", () =>
    Effect.gen(function* () {
      const no = yield* terminal(["jobs", "retry", "state:discarded"], { keys: [{ until: /\(y\/N\)/, type: "n\r" }] })
      assert.strictEqual(no.code, 5)
      assert.include(no.stdout, "2 jobs match. Sample: ")
      assert.include(no.stdout, "Nothing was done.")
      const away = yield* terminal(["jobs", "retry", "state:discarded"], {
        keys: [{ until: /\(y\/N\)/, type: "\u0003" }]
      })
      assert.strictEqual(away.code, 130, away.stdout)
      assert.strictEqual((yield* shigoto(["jobs", "list", "state:discarded", "--count"])).stdout, "2\n")
      const yes = yield* terminal(["jobs", "retry", "state:discarded"], {
        keys: [{ until: /\(y\/N\)/, type: "y\r" }]
      })
      assert.strictEqual(yes.code, 0, yes.stdout)
      assert.include(normal(yes.stdout), "2 jobs retried")
      const cancelled = yield* shigoto(["jobs", "cancel", "worker:send-email", "--yes", "--reason", "a test", "--json"])
      assert.deepStrictEqual(JSON.parse(cancelled.stdout), {
        matched: 2,
        changed: 2,
        requested: 0,
        skipped: 0,
        failed: 0,
        problems: []
      })
      assert.include((yield* shigoto(["jobs", "show", "4"])).stdout, "a test")
      assert.strictEqual((yield* shigoto(["jobs", "delete", "--all", "--yes"])).stdout, "✓ 4 jobs deleted\n")
      assert.strictEqual((yield* shigoto(["jobs", "list", "--count"])).stdout, "0\n")
    })
  )

  it.effect("draws progress for people only, and colours as it is told", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const fill = sql`SELECT shigoto.enqueue('bulk', '{}'::jsonb) FROM generate_series(1, 3000)`
      yield* fill
      const seen = yield* terminal(["jobs", "cancel", "worker:bulk", "--yes"])
      assert.match(seen.stdout, /cancelling ━+─* [\d ]+\/3 000 +\d+%/)
      assert.include(seen.stdout, "3 000 jobs cancelled")
      yield* fill
      const silent = yield* shigoto(["jobs", "cancel", "worker:bulk", "--yes"])
      assert.deepStrictEqual(silent, { code: 0, stdout: "✓ 3 000 jobs cancelled\n", stderr: "" })
      const forced = yield* shigoto(["jobs", "list", "worker:bulk", "-n", "1"], { env: { FORCE_COLOR: "1" } })
      assert.include(forced.stdout, "\t")
      const told = yield* shigoto(["jobs", "cancel", "worker:bulk", "--dry-run", "--all"], {
        env: { NO_COLOR: "1", FORCE_COLOR: "1" }
      })
      assert.notInclude(told.stdout + told.stderr, "\u001b")
      const painted = yield* shigoto(["migrate"], { env: { FORCE_COLOR: "1" } })
      assert.strictEqual(painted.code, 0)
      assert.strictEqual((yield* shigoto(["jobs", "delete", "worker:bulk", "--yes"])).stdout, "✓ 6 000 jobs deleted\n")
    })
  )

  it.effect("tells queues what is asked of them, and shows it", () =>
    Effect.gen(function* () {
      for (const args of [
        ["pause", "mails"],
        ["pause", "mails", "--node", "web-1"],
        ["pause", "tenants", "--key", "acme"],
        ["scale", "mails", "7"],
        ["pause", "other", "--dry-run"]
      ]) {
        assert.strictEqual((yield* shigoto(["queues", ...args])).code, 0, args.join(" "))
      }
      const { queues } = JSON.parse((yield* shigoto(["queues", "list", "--json"])).stdout) as {
        readonly queues: unknown
      }
      const none = { nodes: 0, slots: 0, counts: {}, atLeast: [] }
      assert.deepStrictEqual(queues, [
        {
          name: "mails",
          paused: true,
          ...none,
          wishes: [
            { node: null, concurrency: 7, paused: true, removed: false },
            { node: "web-1", concurrency: null, paused: true, removed: false }
          ],
          pausedKeys: []
        },
        { name: "tenants", paused: false, ...none, wishes: [], pausedKeys: ["acme"] }
      ])
      yield* shigoto(["queues", "resume", "mails"])
      yield* shigoto(["queues", "resume", "tenants", "--key", "acme"])
      const [mails] = (
        JSON.parse((yield* shigoto(["queues", "list", "--json"])).stdout) as {
          readonly queues: ReadonlyArray<{ readonly paused: boolean }>
        }
      ).queues
      assert.isFalse(mails?.paused)
    })
  )

  it.effect("watches until Ctrl-C, and leaves the screen as it was", () =>
    Effect.gen(function* () {
      const ran = yield* terminal(["status", "--watch", "--interval", "0.1"], {
        rows: 10,
        keys: [
          { until: "QUEUE", type: "" },
          { until: "QUEUE", type: "\u0003" }
        ]
      })
      assert.strictEqual(ran.code, 130)
      assert.isTrue(ran.stdout.startsWith("\u001b[?1049h"), JSON.stringify(ran.stdout.slice(0, 40)))
      assert.isTrue(ran.stdout.trimEnd().endsWith("\u001b[?25h\u001b[?1049l"), JSON.stringify(ran.stdout.slice(-40)))
    })
  )
})

describe("config print", () => {
  it.live("says what is in force and who says so, without passwords", () =>
    Effect.gen(function* () {
      const config = ["--config", join(import.meta.dirname, "..", "..", "examples", "cli", "shigoto.config.ts")]
      const env = {
        DATABASE_URL: "postgres://app:hunter2@db.example.com/shop",
        SHIGOTO_NODE_NAME: "web-1",
        SHIGOTO_LISTEN_URL: "postgres://app:hunter2@db.example.com/shop"
      }
      const told = yield* shigoto(["config", "print", "--json", "--schema", "work", ...config], {
        database: false,
        env
      })
      assert.strictEqual(told.code, 0, told.stderr)
      assert.notInclude(told.stdout, "hunter2")
      const { settings, ...rest } = JSON.parse(told.stdout) as Readonly<Record<string, unknown>>
      assert.deepStrictEqual(rest, {
        database: { target: "app@db.example.com/shop", source: "DATABASE_URL" },
        schema: "work",
        module: config[1],
        jobs: ["convert"],
        workers: true,
        cipher: false,
        redactKeys: []
      })
      assert.deepInclude(settings, { queues: { weather: 4 }, nodeName: "web-1", leaseTtl: "30s", listenUrl: "••••••" })
      const alone = yield* shigoto(["config", "print"], { database: false })
      assert.match(alone.stdout, /^database +none is named\nschema +shigoto\nmodule +none\n/)
      const wrong = yield* shigoto(["config", "print"], { database: false, env: { SHIGOTO_QUEUES: "a:1" } })
      assert.strictEqual(wrong.code, 2)
      assert.include(wrong.stderr, "SHIGOTO_QUEUES cannot be")
    }).pipe(Effect.provide(TestDatabase.layerDatabase()))
  )
})

describe("the executable", () => {
  it.live("says what is missing on an older Node", () =>
    Effect.gen(function* () {
      const [node = "", ...args] = argv
      const old = `data:text/javascript,Object.defineProperty(process.versions,"node",{value:"20.20.2"})`
      const ran = yield* exec(node, ["--import", old, ...args, "--help"], { env: { PATH: process.env.PATH } })
      assert.strictEqual(ran.code, 1)
      assert.match(ran.stderr, /^error: shigoto needs Node 22\.19 or newer; this is /)
    })
  )

  it.live("writes completions for shells", () =>
    Effect.gen(function* () {
      for (const [name, mark] of [
        ["bash", "complete"],
        ["zsh", "#compdef shigoto"],
        ["fish", "complete -c shigoto"]
      ] as const) {
        const ran = yield* exec(argv[0] ?? "", [...argv.slice(1), "completions", name], {
          env: { PATH: process.env.PATH }
        })
        assert.strictEqual(ran.code, 0)
        assert.include(ran.stdout, mark)
        for (const word of ["jobs", "retry", "--dry-run", "--ndjson"]) assert.include(ran.stdout, word)
        if (name !== "bash") continue
        const read = yield* exec("bash", ["-n"], { env: { PATH: process.env.PATH }, input: ran.stdout })
        assert.deepStrictEqual(read, { code: 0, stdout: "", stderr: "" })
      }
    })
  )
})
