/**
 * All of it on a PostgreSQL that starts and ends with it, for a look:
 *
 *     ADMIN_PASSWORD=secret node --conditions=source examples/app/start.ts
 *
 * In production each of the three programs is a process of its own: migrate.ts before each deployment, then any number
 * of server.ts and worker.ts.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Redacted } from "effect"
import { EmbeddedPostgres } from "effect-shigoto/embedded"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

/** Starts a program of this folder; it is asked to stop, and waited for, as the scope closes. */
const start = (name: string, environment: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL(name, import.meta.url))], {
        env: { ...process.env, ...environment },
        stdio: "inherit",
        // Ctrl-C goes to this process alone, which stops the others in order.
        detached: true
      })
    ),
    (child) =>
      Effect.suspend(() => {
        child.kill("SIGTERM")
        return ended(child)
      })
  )

const ended = (child: ChildProcess) =>
  Effect.callback<number>((resume) => {
    const done = () => resume(Effect.succeed(child.exitCode ?? 1))
    if (child.exitCode === null && child.signalCode === null) child.once("exit", done)
    else done()
  })

const main = Effect.gen(function* () {
  yield* Config.Redacted("ADMIN_PASSWORD")
  const [api, worker] = yield* Config.all([
    Config.withDefault(Config.Int("PORT"), 3000),
    Config.withDefault(Config.Int("WORKER_PORT"), 3001)
  ])
  const postgres = yield* EmbeddedPostgres.make()
  const environment = { DATABASE_URL: Redacted.value(postgres.url) }
  const migrated = yield* Effect.flatMap(start("migrate.ts", environment), ended)
  if (migrated !== 0) return yield* Effect.die(new Error(`migrate.ts ended with ${migrated}`))
  const server = yield* start("server.ts", { ...environment, PORT: String(api) })
  const workers = yield* start("worker.ts", { ...environment, PORT: String(worker) })
  yield* Console.log(`API: http://localhost:${api}/orders, dashboard: http://localhost:${api}/admin/jobs (user: ops)`)
  // One that ends by itself ends the others.
  return yield* Effect.raceFirst(ended(server), ended(workers))
}).pipe(Effect.scoped)

NodeRuntime.runMain(main)
