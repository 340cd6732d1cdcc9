/**
 * `shigoto dashboard`: the dashboard in a server of its own, for who sits at this machine.
 *
 * It listens on the loopback interface and answers only requests that name it as their host, so that no other site can
 * reach it through the browser, and only who opened the address that it printed. On any other interface it wants a
 * password.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as EnvConfig from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { createServer } from "node:http"
import { isIP } from "node:net"
import { Audit } from "../Audit.ts"
import { CronJobs } from "../CronJobs.ts"
import { Batches } from "../Batches.ts"
import * as Dashboard from "../dashboard/Dashboard.ts"
import { Flows } from "../Flows.ts"
import { History } from "../History.ts"
import { Jobs } from "../Jobs.ts"
import { Limits } from "../Limits.ts"
import { Queues } from "../Queues.ts"
import { connected, target } from "./internal/connection.ts"
import { withPassword, withTokens } from "./internal/door.ts"
import { Ending } from "./internal/environment.ts"
import { Failed, Refused } from "./internal/exit.ts"
import { Loaded } from "./internal/load.ts"
import { int } from "./internal/options.ts"
import { Screen } from "./internal/screen.ts"

/**
 * The command.
 *
 * @category commands
 */
export const dashboard = Command.make(
  "dashboard",
  {
    port: int("port", 0, 65_535).pipe(
      Flag.withAlias("p"),
      Flag.withDescription("Where it listens; 0 for any free port; else SHIGOTO_DASHBOARD_PORT"),
      Flag.withFallbackConfig(EnvConfig.Port("SHIGOTO_DASHBOARD_PORT")),
      Flag.withDefault(4545)
    ),
    host: Flag.String("host").pipe(
      Flag.withDescription(
        "The interface, else SHIGOTO_DASHBOARD_HOST; others than 127.0.0.1 want SHIGOTO_DASHBOARD_PASSWORD"
      ),
      Flag.withFallbackConfig(EnvConfig.String("SHIGOTO_DASHBOARD_HOST")),
      Flag.withDefault("127.0.0.1")
    ),
    readOnly: Flag.Boolean("read-only").pipe(
      Flag.withDescription("Look, and change nothing; else SHIGOTO_DASHBOARD_READ_ONLY"),
      Flag.withFallbackConfig(EnvConfig.Boolean("SHIGOTO_DASHBOARD_READ_ONLY")),
      Flag.withDefault(false)
    ),
    open: Flag.Boolean("open").pipe(Flag.withDescription("Open it in the browser"), Flag.withDefault(false)),
    basePath: Flag.String("base-path").pipe(
      Flag.withMetavar("</path>"),
      Flag.withDescription("Where it lives on that port; else SHIGOTO_DASHBOARD_BASE_PATH"),
      Flag.withFallbackConfig(EnvConfig.String("SHIGOTO_DASHBOARD_BASE_PATH")),
      Flag.withDefault("")
    )
  },
  Effect.fnUntraced(function* ({ basePath, host, open, port, readOnly }) {
    const screen = yield* Screen
    const ending = yield* Ending
    const { shown } = yield* target
    const config = yield* (yield* Loaded).named
    const password = process.env["SHIGOTO_DASHBOARD_PASSWORD"] || undefined
    const isLocal = host === "localhost" || host === "::1" || host.startsWith("127.")
    if (!isLocal && password === undefined) {
      return yield* new Refused({
        message: `On ${host} anybody who reaches this machine could use the dashboard.`,
        hint: "Set SHIGOTO_DASHBOARD_PASSWORD, or leave --host out."
      })
    }
    // Ctrl-C is how this ends.
    ending.bySignal = true
    const path = `/${basePath}`.replaceAll(/\/+/g, "/").replace(/\/$/, "") as `/${string}` | ""
    yield* connected(
      Effect.gen(function* () {
        const context = yield* Effect.context<Dashboard.Services>()
        const services = Layer.succeedContext(
          Context.pick(Audit, Batches, CronJobs, Flows, History, Jobs, Limits, Queues)(context)
        )
        const handler = yield* Effect.acquireRelease(
          Effect.sync(() =>
            Dashboard.handler(services, {
              ...(path === "" ? {} : { path }),
              redactKeys: config?.redactKeys,
              access: () => Effect.succeed({ user: "cli", can: readOnly ? "readOnly" : "all" })
            })
          ),
          (handler) => Effect.promise(() => handler.dispose())
        )
        const serve = Dashboard.node(handler)
        const name = isIP(host) === 6 ? `[${host}]` : host
        const urlOf = (at: number, token: string | undefined) =>
          `http://${name}:${at}${path}/${token === undefined ? "" : `?token=${token}`}`
        const { door, first } =
          password === undefined
            ? withTokens((next) =>
                Effect.runFork(screen.say(`Opened. For another browser: ${urlOf(address, next)}`, "dim"))
              )
            : { door: withPassword(password), first: undefined }
        const address: number = yield* listen(host, port, (incoming, outgoing) => {
          if (isLocal && !isLocalName(incoming.headers.host)) {
            outgoing.writeHead(403, { "content-type": "text/plain" }).end("This dashboard is for this machine alone.\n")
          } else if (door(incoming, outgoing)) serve(incoming, outgoing)
        })
        const url = urlOf(address, first)
        yield* screen.show(
          { url, readOnly },
          Effect.andThen(
            screen.print(url),
            screen.say(`The dashboard of ${shown}${readOnly ? ", read-only" : ""}. Ctrl-C ends it.`, "dim")
          )
        )
        if (open && !(yield* openBrowser(url))) yield* screen.say("No browser could be opened here.", "yellow")
        return yield* Effect.never
      }).pipe(Effect.scoped)
    )
  })
).pipe(Command.withDescription("Serve the dashboard on this machine, until Ctrl-C"))

// internal

type Listener = Parameters<typeof createServer>[1] & {}

/** Listens until the scope closes, and returns the port. */
const listen = (host: string, port: number, listener: Listener) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>, Failed>((resume) => {
      const server = createServer(listener)
      server.on("error", (error: NodeJS.ErrnoException) => {
        resume(
          Effect.fail(
            new Failed({
              message: `It cannot listen on ${host}:${port}: ${error.message}`,
              ...(error.code === "EADDRINUSE" ? { hint: "Choose another --port; 0 takes any free one." } : {})
            })
          )
        )
      })
      server.listen(port, host, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        // Streams of events never end by themselves.
        server.closeAllConnections()
      })
  ).pipe(
    Effect.map((server) => {
      const address = server.address()
      return typeof address === "object" && address !== null ? address.port : port
    })
  )

/** Asks the desktop to open a page; says whether something there took it. */
const openBrowser = (url: string): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const [command, ...before] =
      process.platform === "darwin"
        ? ["open"]
        : process.platform === "win32"
          ? ["cmd", "/c", "start", ""]
          : ["xdg-open"]
    spawn(command, [...before, url], { stdio: "ignore", detached: true })
      .on("error", () => resume(Effect.succeed(false)))
      .on("spawn", () => resume(Effect.succeed(true)))
      .unref()
  })

/** A page of another site that has its name point to this machine still sends that name. */
const isLocalName = (host: string | undefined): boolean => {
  const name = (host ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1")
  return name === "localhost" || name === "::1" || (isIP(name) === 4 && name.startsWith("127."))
}
