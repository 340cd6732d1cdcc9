/** The code in README and the guides whose fence says `ts run`: each exports a `program`, which has to succeed. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ShigotoTest from "../src/testing/ShigotoTest.ts"
import { TestDatabase } from "./setup/TestDatabase.ts"

const root = Path.join(import.meta.dirname, "..")
const pages = ["README.md", ...Fs.readdirSync(Path.join(root, "docs")).map((name) => `docs/${name}`)].filter((page) =>
  page.endsWith(".md")
)
const marked = pages.flatMap((page) =>
  [...Fs.readFileSync(Path.join(root, page), "utf8").matchAll(/^```ts run\n(.*?)^```$/gms)].map(([, code = ""], i) => ({
    code,
    name: `${page.replaceAll("/", "-")}.${i + 1}.ts`
  }))
)

type Program = Effect.Effect<unknown, unknown, Layer.Success<ReturnType<typeof ShigotoTest.layer>>>

/** A database of the test's own, in virtual time; a block that brings layers of its own uses those. */
const TestLive = Layer.unwrap(
  Effect.map(TestDatabase, ({ url }) => ShigotoTest.layer({ client: { url }, queues: { default: 10 } }))
).pipe(Layer.provide(TestDatabase.layerDatabase()))

const statements = pages.flatMap((page) =>
  [...Fs.readFileSync(Path.join(root, page), "utf8").matchAll(/^```sql run\n(.*?)^```$/gms)].flatMap(([, code = ""]) =>
    code.split(/;\n/).filter((statement) => statement.trim() !== "")
  )
)

layer(TestDatabase.layer())("SQL in the documentation that is marked with run", (it) => {
  it.effect("enqueues a job with each statement", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      assert.isAtLeast(statements.length, 2)
      for (const statement of statements) yield* sql.unsafe(statement)
      const stored = yield* sql<{ readonly n: number }>`SELECT count(*)::integer AS n FROM shigoto.jobs`
      assert.strictEqual(stored[0]?.n, statements.length)
    })
  )
})

describe("code in the documentation that is marked with run", () => {
  it("is there", () => {
    assert.isAtLeast(marked.length, 9)
  })

  for (const { code, name } of marked) {
    it.live(`${name} runs`, () =>
      Effect.gen(function* () {
        // Inside the package, so that `effect-shigoto` is this source tree.
        Fs.mkdirSync(Path.join(root, "dist"), { recursive: true })
        const folder = Fs.mkdtempSync(Path.join(root, "dist", "snippet-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
        Fs.writeFileSync(Path.join(folder, name), code)
        const { program } = yield* Effect.promise(
          // What such a block exports is checked by its run.
          () => import(Path.join(folder, name)) as Promise<{ readonly program: Program }>
        )
        assert.isTrue(Effect.isEffect(program), "it exports no program")
        yield* Effect.provide(program, TestLive)
      }).pipe(Effect.scoped)
    )
  }
})
