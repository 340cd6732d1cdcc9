import * as Job from "../../../src/Job.ts"
import { ShigotoLive } from "../../../src/ShigotoLive.ts"
import * as ShigotoConfig from "../../../src/ShigotoConfig.ts"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<void> }>()("Mailer") {}

const live = Job.make("send")
  .toLayer(() => Effect.flatMap(Mailer, (mailer) => mailer.send))
  .pipe(Layer.provideMerge(ShigotoLive), Layer.provide([ShigotoConfig.layer(), PgClient.layer({})]))

export const main = Effect.runPromise(Layer.launch(live))
