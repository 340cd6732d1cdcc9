/** What a node that has nothing to do asks of the database. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Job from "../../src/Job.ts"
import { eventually } from "../setup/eventually.ts"
import { makeProxy } from "../setup/proxy.ts"
import { TestDatabase } from "../setup/TestDatabase.ts"
import { clientOf, onDatabase, startNode } from "./support.ts"

const Note = Job.make("note", { args: {} })

/** The statements of an idle node, by how they begin; the migrations' come before. */
const kinds = {
  look: "WITH due AS MATERIALIZED",
  sweep: "AS strays",
  renewal: "SET beat_at",
  cron: "WITH lead AS",
  rescue: "WITH lost AS MATERIALIZED",
  blocked: "WITH blocked AS MATERIALIZED",
  claim: "WITH candidate AS MATERIALIZED",
  transaction: "BEGIN"
} as const

describe("an idle node", () => {
  onDatabase("looks, renews its lease and sends nothing else, however often it sweeps", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const seen = new Map<string, number>()
      const proxy = yield* makeProxy(Redacted.value(url), (chunk) => {
        const text = chunk.toString("latin1")
        for (const [kind, words] of Object.entries(kinds)) {
          if (text.includes(words)) seen.set(kind, (seen.get(kind) ?? 0) + 1)
        }
        return chunk
      })
      const node = yield* startNode({
        client: clientOf(proxy.url),
        workers: Note.toLayer(() => Effect.void),
        config: { pollInterval: "50 millis", leaseTtl: "6 seconds", leaseBeat: "500 millis", listen: false }
      })
      yield* node.run(Note.enqueue({}))
      yield* node.event("Completed")
      const counts = Effect.sync(() => Object.fromEntries(seen))
      // Registering, and the claim of the only job, are over.
      yield* eventually(counts, ({ sweep = 0 }) => sweep >= 1)
      const before = yield* counts
      const swept = yield* eventually(counts, ({ sweep = 0 }) => sweep > (before.sweep ?? 0))
      // What a sweep would have led to comes before the look after the next.
      const after = yield* eventually(counts, ({ look = 0 }) => look >= (swept.look ?? 0) + 2)
      assert.isAbove(after.look ?? 0, before.look ?? 0)
      assert.isAbove(after.renewal ?? 0, before.renewal ?? 0)
      for (const kind of ["rescue", "blocked", "claim", "transaction"] as const) {
        assert.strictEqual(after[kind] ?? 0, before[kind] ?? 0, kind)
      }
    })
  )
})
