/**
 * A config module: what `shigoto work` runs, and what `shigoto enqueue` checks args by.
 *
 *     shigoto migrate
 *     shigoto enqueue convert '{"celsius":21}' --config examples/cli/shigoto.config.ts
 *     shigoto work --once --config examples/cli/shigoto.config.ts
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Job } from "effect-shigoto"
import { defineConfig } from "effect-shigoto/cli"

const Convert = Job.make("convert", {
  args: { celsius: Schema.Finite },
  success: Schema.Struct({ fahrenheit: Schema.Finite }),
  queue: "weather"
})

/** A service of the application; what workers need is provided in the config module. */
class Scale extends Context.Service<Scale, { readonly factor: number; readonly offset: number }>()("example/Scale") {
  static readonly layer = Layer.succeed(Scale, { factor: 1.8, offset: 32 })
}

const ConvertLive = Convert.toLayer(
  Effect.fn("Convert")(function* ({ celsius }) {
    const { factor, offset } = yield* Scale
    return { fahrenheit: celsius * factor + offset }
  })
)

export default defineConfig({
  settings: { queues: { weather: 4 }, retention: { completed: "30 days" } },
  jobs: [Convert],
  workers: ConvertLive.pipe(Layer.provide(Scale.layer))
})
