import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Cipher from "../src/Cipher.ts"
import { Encryption } from "../src/Encryption.ts"
import * as Flow from "../src/Flow.ts"
import * as Job from "../src/Job.ts"
import type { JobId } from "../src/JobRow.ts"
import * as Redaction from "../src/Redaction.ts"
import { quoted } from "../src/internal/quotes.ts"
import * as Stream from "effect/Stream"
import { onDatabase, reaches, startNode } from "./integration/support.ts"
import { eventually } from "./setup/eventually.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

describe("what a text quotes", () => {
  it("is kept under its names, and nothing else", () => {
    const had = {
      to: "ada@example.com",
      nested: [{ apiKey: "canary-1" }, { apiKey: "other-2" }],
      pin: 123456,
      on: true
    }
    assert.deepStrictEqual(quoted(had, "refused canary-1 and 123456"), {
      nested: [{ apiKey: "canary-1" }],
      pin: 123456
    })
    assert.strictEqual(quoted(had, "refused"), undefined)
    assert.deepStrictEqual(quoted({ key: 'a"quote' }, String.raw`{"said":"a\"quote"}`), { key: 'a"quote' })
  })

  it("is not what is too short to be a secret, nor more than a bound", () => {
    assert.strictEqual(quoted({ a: "abc", b: 12, c: null }, "abc 12 null"), undefined)
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`name${i}`, "repeated"]))
    assert.isAtMost(JSON.stringify(quoted(many, "repeated")).length, 4096)
  })
})

const Token = Job.make("token", { success: Schema.Struct({ sessionToken: Schema.String }) })
const Call = Job.make("call", {
  args: { apiKey: Schema.String, how: Schema.String },
  success: Schema.Void,
  maxAttempts: 1
})
const Reader = Job.make("reader", { dependencies: { parent: Token }, maxAttempts: 1 })
const Calls = Flow.make("calls", { input: { apiKey: Schema.String } }, (flow) => {
  const token = flow.node("token", Token, { args: {} })
  for (const how of ["fail", "log"]) {
    flow.node(how, Call, {
      after: { token },
      args: ({ apiKey }, { token }) => ({ apiKey: `${apiKey}.${token.sessionToken}`, how })
    })
  }
  flow.node("throw", Call, {
    after: { token },
    args: ({ apiKey }) => {
      throw new Error(`no args for ${apiKey}`)
    }
  })
  flow.node("read", Reader, { after: { parent: token } })
})

const workers = Layer.mergeAll(
  Token.toLayer(() => Effect.succeed({ sessionToken: "canary-token" })),
  Call.toLayer(
    ({ apiKey, how }) =>
      Effect.andThen(
        Effect.log(`calling with ${apiKey}`),
        how === "fail" ? Effect.die(new Error(`refused: ${apiKey}`)) : Effect.void
      ),
    { captureLogs: true }
  ),
  Reader.toLayer((_, job) => Effect.die(new Error(`got ${JSON.stringify(job.dependencies.parent)}`))),
  Calls.layer as never // its args need nothing
)

const isSecret = Redaction.makeIsSecret(Redaction.defaultRedactKeys)

describe("redaction", () => {
  for (const keys of [undefined, ["one"]]) {
    onDatabase(`hides what a flow computed and what a job read of others${keys ? ", encrypted too" : ""}`, () =>
      Effect.gen(function* () {
        const database = yield* TestDatabase
        const client = database.layerClient({ maxConnections: 12 })
        const cipher = (ids: ReadonlyArray<string>) =>
          Cipher.layerAesGcm({
            keys: ids.map((id) => ({ id, key: Redacted.make(new Uint8Array(32).fill(id.length)) }))
          })
        const node = yield* startNode({
          workers,
          client: keys === undefined ? client : Layer.mergeAll(client, cipher(["one"]))
        })
        const { nodes } = yield* node.run(Calls.enqueue({ apiKey: "canary-input" }))
        for (const step of ["fail", "throw", "read"]) {
          const job = yield* reaches(node, nodes[step as "fail"] as JobId, "discarded")
          assert.include(job.errors[0]?.message, "canary", step)
          assert.notInclude(JSON.stringify(Redaction.redact(job, isSecret)), "canary", step)
        }
        const logged = yield* reaches(node, nodes["log"] as JobId, "completed")
        const [line] = yield* eventually(node.jobs.logs(logged.id), (lines) => lines.length > 0)
        assert.strictEqual(line?.message, "calling with canary-input.canary-token")
        const hide = Redaction.makeRedactText(logged, isSecret)
        assert.strictEqual(hide(line?.message ?? "", line?.quotes), `calling with ${Redaction.hidden}`)
        if (keys === undefined) return
        const sql = yield* SqlClient.SqlClient
        const stored =
          yield* sql`SELECT j::text AS row FROM shigoto.all_jobs AS j UNION ALL SELECT l::text FROM shigoto.logs AS l`
        assert.notInclude(JSON.stringify(stored), "canary")
        const rotated = yield* startNode({ client: Layer.mergeAll(client, cipher(["newer", "one"])) })
        yield* rotated.run(Effect.flatMap(Encryption, (encryption) => Stream.runDrain(encryption.reencrypt())))
        const dropped = yield* startNode({ client: Layer.mergeAll(client, cipher(["newer"])) })
        const after = yield* dropped.jobs.get(nodes["fail"] as JobId)
        assert.deepStrictEqual(after.errors[0]?.quotes, [
          { apiKey: "canary-input.canary-token" },
          [{ sessionToken: "canary-token" }]
        ])
        assert.deepStrictEqual((yield* dropped.jobs.logs(logged.id))[0]?.quotes, line?.quotes)
      })
    )
  }
})
