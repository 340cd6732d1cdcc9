/** What the page brings along: what the API would answer its viewer, as a text that nothing breaks out of. */
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { type Access, Dashboard } from "../../src/dashboard/index.ts"
import { History } from "../../src/History.ts"
import { eventually } from "../setup/eventually.ts"
import { everyone, open, Send, TestLive } from "./support.ts"

const paths = ["me", "overview", "queues", "failures", "nodes", "activity?by=queue", "history?span=1h"]

const html = { headers: { accept: "text/html" } }

/** What a page brings along, by what its scripts would ask. */
const broughtBy = (page: string): Readonly<Record<string, string>> => {
  const [, text = ""] = /<script type="application\/json" id="first-screen">([^<]*)<\/script><\/head>/.exec(page) ?? []
  return JSON.parse(text) as Record<string, string>
}

/** Opens the page until it brings along so many answers: what is late once, as on a slow machine, is there the next time. */
const bringing = <E, R>(count: number, page: Effect.Effect<{ readonly text: string }, E, R>) =>
  eventually(page, ({ text }) => Object.keys(broughtBy(text)).length >= count)

/** A group of failures whose every text would break out of a script, and that quotes a secret. */
const fail = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { id } = yield* Send.enqueue({ password: "canary-77" }, { queue: "</script><script>alert(1)</script>" })
  const errors = [
    {
      attempt: 1,
      at: "2026-01-01T00:00:00.000Z",
      node: "n",
      tag: "<!--<script>",
      message: "</script><img src=x onerror=alert(1)> canary-77"
    }
  ]
  yield* sql`
    UPDATE shigoto.jobs
    SET errors = ${JSON.stringify(errors)}::jsonb, fingerprint = 'f', state = 'retryable', run_at = now() + interval '1 day'
    WHERE id = ${id}`
})

layer(TestLive)("the page", (it) => {
  it.effect("brings along what the API would answer, and nothing of it is code", () =>
    Effect.gen(function* () {
      yield* fail
      const viewer = yield* open(everyone)
      const first = yield* viewer("/", html)
      assert.strictEqual(first.status, 200)
      assert.strictEqual(first.headers.get("cache-control"), "no-store")
      const page = yield* bringing(paths.length, viewer("/", html))
      assert.notInclude(page.text, "canary")
      // Of its own: the one that loads the code, and the one that holds the data.
      assert.strictEqual(page.text.match(/<script/g)?.length, 2)
      assert.strictEqual(page.text.match(/<\/script/g)?.length, 2)
      assert.notInclude(page.text, "<!--")
      const brought = broughtBy(page.text)
      assert.sameMembers(Object.keys(brought), paths)
      // The others tell of a moment.
      for (const path of ["me", "failures", "nodes", "activity?by=queue"]) {
        assert.strictEqual(brought[path], (yield* viewer(`/api/${path}`)).text, path)
      }
      assert.include(brought["failures"] ?? "", "<img src=x onerror=alert(1)> ")
    }).pipe(Effect.scoped)
  )

  it.effect("brings along only what exists for its viewer, and nothing for who may not look", () =>
    Effect.gen(function* () {
      yield* Send.enqueue({})
      const of = (access: Access.Access, count = paths.length) =>
        Effect.flatMap(open(access), (viewer) =>
          Effect.map(bringing(count, viewer("/jobs/12", html)), ({ text }) => broughtBy(text))
        )
      const payer = yield* of({ user: "p", can: "readOnly", queues: ["payments"] })
      assert.sameMembers(Object.keys(payer), paths)
      assert.notInclude(JSON.stringify(payer), "mails")
      assert.include((yield* of({ user: "r", can: "readOnly" }))["queues"] ?? "", "mails")
      assert.deepStrictEqual(yield* of({ user: "a", can: ["audit:view"] }, 0), {})
      const nobody = yield* open(undefined)
      const refused = yield* nobody("/", html)
      assert.deepStrictEqual([refused.status, refused.text.includes("first-screen")], [401, false])
    }).pipe(Effect.scoped)
  )

  it.effect("waits for what is late no longer than a moment", () =>
    Effect.gen(function* () {
      const services = yield* Effect.context<Dashboard.Services>()
      const history = yield* History
      const asked = yield* Deferred.make<void>()
      const handle = yield* Effect.acquireRelease(
        Effect.sync(() =>
          Dashboard.handler(
            Layer.merge(
              Layer.succeedContext(services),
              Layer.succeed(
                History,
                History.of({ ...history, read: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never) })
              )
            ),
            { access: () => Effect.succeed(everyone) }
          )
        ),
        (made) => Effect.promise(() => made.dispose())
      )
      const response = yield* Effect.promise(() => handle(new Request("http://jobs.test/")))
      yield* Deferred.await(asked)
      const brought = broughtBy(yield* Effect.promise(() => response.text()))
      assert.isUndefined(brought["history?span=1h"])
      assert.isDefined(brought["me"])
    }).pipe(Effect.scoped)
  )
})
