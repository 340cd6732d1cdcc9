/**
 * What schemas say is `Redacted` is hidden without a telling name, everywhere, and cannot be searched for.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { secretFields } from "../../src/internal/secretFields.ts"
import * as Job from "../../src/Job.ts"
import { Jobs } from "../../src/Jobs.ts"
import { endpoints, everyone, fixture, open, requestFor, TestLive } from "./support.ts"

const Hidden = Schema.RedactedFromValue(Schema.String)
const of = (schema: Schema.Top) => secretFields([schema.ast])

class Card extends Schema.Class<Card>("Card")({ pin: Hidden, holder: Schema.String }) {}

describe("fields that are secret by their schema", () => {
  it("are found by the names under which they are stored", () => {
    assert.deepStrictEqual(of(Schema.Struct({ a: Schema.String, b: Schema.Number })), [])
    assert.deepStrictEqual(of(Schema.Struct({ a: Hidden, b: Schema.Struct({ c: Hidden, d: Schema.String }) })), [
      "a",
      "c"
    ])
    assert.deepStrictEqual(of(Schema.Struct({ a: Schema.optional(Hidden), b: Schema.Array(Hidden) })), ["a", "b"])
    assert.deepStrictEqual(of(Schema.Struct({ a: Schema.Union([Schema.Number, Hidden]) })), ["a"])
    assert.deepStrictEqual(of(Schema.Struct({ a: Schema.Record(Schema.String, Hidden) })), ["a"])
    assert.deepStrictEqual(of(Schema.Struct({ card: Card })), ["pin"])
    assert.deepStrictEqual(of(Hidden), ["*"])
  })

  it("hide the whole where their names change on the way", () => {
    const Renamed = Schema.Struct({ a: Hidden, b: Schema.String }).pipe(Schema.encodeKeys({ a: "alpha" }))
    assert.deepStrictEqual(of(Schema.Struct({ of: Renamed })), ["of"])
    assert.deepStrictEqual(of(Renamed), ["*"])
  })

  it("are found in schemas that refer to themselves", () => {
    interface Tree {
      readonly value: Schema.Schema.Type<typeof Hidden>
      readonly children: ReadonlyArray<Tree>
    }
    const Tree: Schema.Codec<Tree, unknown> = Schema.Struct({
      value: Hidden,
      children: Schema.Array(Schema.suspend((): Schema.Codec<Tree, unknown> => Tree))
    })
    assert.deepStrictEqual(of(Tree), ["value"])
  })
})

const Refund = Job.make("refund", { args: Schema.Unknown, queue: "payments" })
const Whole = Job.make("whole", { args: Schema.Unknown, queue: "payments" })

layer(TestLive)("values of such fields", (it) => {
  it.effect("leave in no answer, in args, result, errors and logs, and cannot be guessed", () =>
    Effect.gen(function* () {
      const about = yield* fixture
      const sql = yield* SqlClient.SqlClient
      const tell = (name: string, redacted: ReadonlyArray<string>) => sql`
        INSERT INTO shigoto.workers (name, args, published_at)
        VALUES (${name}, ${JSON.stringify({ dialect: "draft-2020-12", schema: {}, definitions: {}, redacted })}::text::jsonb, now())`
      yield* tell("refund", ["iban"])
      yield* tell("whole", ["*"])
      const { id } = yield* Refund.enqueue({ order: 7, iban: "canary-4" })
      const whole = yield* Whole.enqueue(["canary-5", { any: "canary-6" }])
      const fail = (job: number, canary: string) => {
        const error = {
          attempt: 1,
          at: "2026-01-01T00:00:00.000Z",
          node: "n",
          tag: "E",
          message: canary,
          cause: canary
        }
        return sql`UPDATE shigoto.jobs SET errors = ${JSON.stringify([error])}::jsonb, fingerprint = worker,
          state = 'retryable' WHERE id = ${job}`
      }
      yield* fail(id, "no canary-4")
      yield* fail(whole.id, "neither canary-5 nor canary-6")
      yield* sql`INSERT INTO shigoto.logs (job_id, stored_at, logged_at, line, epoch, attempt, level, message)
        VALUES (${id}, now(), now(), 1, 1, 1, 'Info', '"paid to canary-4"'::jsonb)`
      assert.deepStrictEqual(
        [...(yield* (yield* Jobs).secretFields)],
        [
          ["refund", ["iban"]],
          ["whole", ["*"]]
        ]
      )
      const viewer = yield* open(everyone)
      const seen = (yield* viewer(`/api/jobs/${id}`)).json()
      assert.deepStrictEqual(seen.args, { order: 7, iban: "••••••" })
      assert.strictEqual((yield* viewer(`/api/jobs/${whole.id}`)).json().args, "••••••")
      for (const job of [id, whole.id]) {
        for (const endpoint of endpoints.filter(({ method }) => method === "GET")) {
          const answer = yield* viewer(...requestFor(endpoint, { ...about, job }))
          assert.notMatch(answer.text, /canary-[4-6]/, endpoint.path)
        }
      }
      const search = (q: string) => Effect.map(viewer(`/api/jobs?q=${encodeURIComponent(q)}`), ({ status }) => status)
      assert.strictEqual(yield* search("args.iban:canary-4"), 400)
      assert.strictEqual(yield* search("worker:refund args.iban:canary-4"), 400)
      assert.strictEqual(yield* search("worker:whole args.any:1"), 400)
      assert.strictEqual(yield* search("worker:refund args.order:7"), 200)
    }).pipe(Effect.scoped)
  )
})
