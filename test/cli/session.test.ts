/**
 * Whole sessions of a person at a terminal, kept as what was on the screen. They take tmux, and are skipped where it is
 * missing, but in CI.
 */
import { assert, expect, layer } from "@effect/vitest"
import { displayWidth } from "effect/cli/CliOutput"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawnSync } from "node:child_process"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { canary, seed, session, shigoto } from "./support.ts"

const isMissing = spawnSync("tmux", ["-V"]).status !== 0 && process.env.CI === undefined

const golden = (name: string, text: string) =>
  Effect.promise(() => expect(text).toMatchFileSnapshot(`./golden/${name}.txt`))

const Seeded = Layer.effectDiscard(Effect.scoped(seed)).pipe(Layer.provideMerge(TestDatabase.layer()))

layer(Seeded, { excludeTestServices: true })("a session", (it) => {
  it.effect.skipIf(isMissing)("of one who looks, changes jobs after a question, watches, follows, and errs", () =>
    Effect.gen(function* () {
      const person = yield* session(80, 24)
      for (const line of ["status", "jobs list", "queues list", "nodes"]) {
        yield* person.line(`shigoto ${line}`)
      }
      yield* person.line("shigoto jobs retry state:discarded", /\(y\/N\)$/)
      yield* person.keys("n", /n$/)
      yield* person.keys("Enter")
      yield* person.line("shigoto jobs retry state:discarded", /\(y\/N\)$/)
      yield* person.keys("C-c")
      assert.strictEqual((yield* shigoto(["jobs", "list", "state:discarded", "--count"])).stdout, "2\n")
      yield* person.line("shigoto jobs delete worker:send-email state:discarded", /\(y\/N\)$/)
      yield* person.keys("y", /y$/)
      yield* person.keys("Enter")
      yield* person.line("shigoto jobs list -q")
      yield* person.line("shigoto jobs show 3 | head -n 3")
      yield* person.line("shigoto jobs list --ndjson | head -n 1 | cut -c 1-40; echo ${PIPESTATUS[@]}")
      for (const line of [
        "jbos",
        "jobs lsit",
        "jobs list --limt 3",
        "jobs list stat:x",
        "jobs show 99",
        "jobs show x"
      ]) {
        yield* person.line(`shigoto ${line}`)
      }
      yield* person.line("shigoto status --url postgres://app:hunter2@127.0.0.1:1/app")
      yield* person.line("SHIGOTO_DATABASE_URL= shigoto status")
      yield* person.line("shigoto jobs list --schema elsewhere")
      const text = yield* person.transcript
      assert.notInclude(text, canary)
      yield* golden("session-80", text)
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(isMissing)("leaves the terminal as it was, whatever it ran, and follows its size", () =>
    Effect.gen(function* () {
      const person = yield* session(100, 24)
      yield* person.line("echo before", /before\n/)
      const wide = yield* person.line("shigoto status --watch --interval 3600", /^mails +idle/m)
      assert.match(wide, /SCHEDULED/)
      const narrow = yield* person.resize(40, 12, /QUEUE(?!.*SCHEDULED)/)
      for (const line of narrow.split("\n")) assert.isAtMost(displayWidth(line), 40, line)
      yield* person.resize(100, 24, /SCHEDULED/)
      const after = yield* person.keys("C-c")
      assert.match(after, /--interval 3600\n\[130\]/)
      assert.notInclude(after, "SCHEDULED")
      yield* person.line("shigoto jobs tail", /#1 completed/)
      assert.match(yield* person.keys("C-c"), /\[130\]/)
      // What is typed is echoed, and the cursor is there: no mode was left behind.
      assert.match(yield* person.line("stty -a | grep -o ' echo '"), /^ ?echo/m)
    }).pipe(Effect.scoped)
  )
})
