/** What a bundler keeps of the library for a process that only enqueues. */
import { assert, describe, it } from "@effect/vitest"
import * as Path from "node:path"
import { rolldown } from "rolldown"

const root = Path.join(import.meta.dirname, "..")
const entry = Path.join(root, "examples", "producer-entry.ts")
const code = `
import { PgClient } from "@effect/sql-pg"
import { Layer, Redacted, Schema } from "effect"
import { Job, Shigoto, ShigotoConfig } from "effect-shigoto"

const SendEmail = Job.make("send-email", { args: { to: Schema.String } })

export const send = (to: string) => SendEmail.enqueue({ to })
export const ProducerLive = Shigoto.layerProducer.pipe(
  Layer.provide(ShigotoConfig.layer()),
  Layer.provide(PgClient.layer({ url: Redacted.make("postgres://localhost/app") }))
)`

describe("a bundle", () => {
  it("of a producer holds no claimer, no executor and nothing that only they need", async () => {
    const bundle = await rolldown({
      input: entry,
      platform: "node",
      external: [/^effect(\/|$)/, /^@effect\//],
      plugins: [
        {
          name: "entry",
          resolveId: (id) =>
            id === entry ? id : id === "effect-shigoto" ? Path.join(root, "src", "index.ts") : undefined,
          load: (id) => (id === entry ? code : undefined)
        }
      ]
    })
    const { output } = await bundle.generate({ format: "esm", minify: true })
    await bundle.close()
    assert.strictEqual(output.length, 1)
    const kept = Object.entries(output[0].modules)
      .filter(([, { renderedLength }]) => renderedLength > 0)
      .map(([file]) => Path.relative(root, file).replaceAll(Path.sep, "/"))
    assert.include(kept, "src/Job.ts")
    const unwanted = ["Claimer", "CronScheduler", "Executor", "Heartbeat", "Pruner", "Resilience", "Settler", "Shigoto"]
    assert.deepStrictEqual(
      kept.filter(
        (file) =>
          unwanted.some((name) => file === `src/${name}.ts`) || /^src\/(cli|dashboard|embedded|testing)\//.test(file)
      ),
      []
    )
    // Mostly text of statements, which no minifier shortens.
    assert.isBelow(output[0].code.length, 352 * 1024)
  })
})
