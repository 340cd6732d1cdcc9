/**
 * The process that customers talk to: the API, the dashboard behind a password, metrics, probes. It runs no job.
 *
 *     DATABASE_URL=… ADMIN_PASSWORD=… PORT=3000 node --conditions=source examples/app/server.ts
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { PrometheusMetrics } from "effect/observability"
import { HealthHttp, Shigoto, ShigotoConfig } from "effect-shigoto"
import { Dashboard } from "effect-shigoto/dashboard"
import { createServer } from "node:http"
import { Api } from "./Api.ts"
import { DatabaseLive } from "./database.ts"
import { ShopHandlers } from "./handlers.ts"
import { access, AskForPassword } from "./signIn.ts"

const RoutesLive = Layer.mergeAll(
  HttpApiBuilder.layer(Api).pipe(Layer.provide(ShopHandlers)),
  Layer.unwrap(Effect.map(access, (access) => Dashboard.layer({ path: "/admin/jobs", access, redactKeys: ["card"] }))),
  AskForPassword,
  PrometheusMetrics.layerHttp(),
  HealthHttp.layer()
)

const ProducerLive = Shigoto.layerProducer.pipe(
  // migrate.ts has run before; a process that finds other tables than it knows refuses to start.
  Layer.provide(ShigotoConfig.layerFromEnv({ migrate: false, metrics: true }))
)

const ServerLive = HttpRouter.serve(RoutesLive, { disableLogger: true }).pipe(
  Layer.provide(Layer.unwrap(Effect.map(Config.Int("PORT"), (port) => NodeHttpServer.layer(createServer, { port })))),
  Layer.provide(ProducerLive),
  // The same constant below the handlers' rows and the jobs: one pool, so one transaction.
  Layer.provide(DatabaseLive)
)

NodeRuntime.runMain(Layer.launch(ServerLive))
