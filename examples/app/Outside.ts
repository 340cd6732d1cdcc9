/**
 * The services outside: a bank and a mail server, which may be slow, down, or asked twice.
 */
import { Config, Context, Effect, Layer, Schema } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"

export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", { status: Schema.Int }) {}

/** Posts to OUTSIDE_URL; `key` is the same in every attempt, so that the other side does a thing once. */
export class Outside extends Context.Service<
  Outside,
  {
    readonly charge: (key: string, card: string) => Effect.Effect<"charged" | "declined", Unreachable>
    readonly mail: (key: string, to: string, subject: string) => Effect.Effect<void, Unreachable>
  }
>()("app/Outside") {
  static readonly layer = Layer.effect(
    Outside,
    Effect.gen(function* () {
      const client = yield* HttpClient.HttpClient
      const base = yield* Config.String("OUTSIDE_URL")
      const post = Effect.fnUntraced(
        function* (path: string, key: string, body: unknown) {
          const response = yield* client.execute(
            HttpClientRequest.post(`${base}${path}`).pipe(
              HttpClientRequest.setHeader("idempotency-key", key),
              HttpClientRequest.bodyJsonUnsafe(body)
            )
          )
          if (response.status >= 500) return yield* new Unreachable({ status: response.status })
          return response.status
        },
        Effect.catchTag("HttpClientError", () => Effect.fail(new Unreachable({ status: 0 })))
      )
      return Outside.of({
        charge: (key, card) =>
          Effect.map(post("/charges", key, { card }), (status) => (status < 300 ? "charged" : "declined")),
        mail: (key, to, subject) => Effect.asVoid(post("/mails", key, { to, subject }))
      })
    })
  ).pipe(Layer.provide(FetchHttpClient.layer))

  /** For a look at the application without any other service: cards are charged, mails are logged. */
  static readonly layerLog = Layer.succeed(
    Outside,
    Outside.of({
      charge: (key, card) =>
        Effect.as(Effect.log(`${key} charges ${card}`), card === "declined" ? "declined" : "charged"),
      mail: (key, to, subject) => Effect.log(`${key} mails "${subject}" to ${to}`)
    })
  )
}
